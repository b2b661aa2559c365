# Copyright (c) MotionMAE contributors. All rights reserved.
from .base import (
    VideoEncoder,
    check_encoder,
    locate_encoder,
    video_vit_of,
)
from .fused_vision_transformer import FusedVisionTransformer
from .motionmae_vit import MotionMAEViT
from .raw_pixels import RawPixels

__all__ = [
    'FusedVisionTransformer',
    'MotionMAEViT',
    'RawPixels',
    'VideoEncoder',
    'check_encoder',
    'locate_encoder',
    'video_vit_of',
]
