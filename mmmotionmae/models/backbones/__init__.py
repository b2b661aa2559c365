# Copyright (c) MotionMAE contributors. All rights reserved.
from .fused_vision_transformer import FusedVisionTransformer
from .motionmae_vit import MotionMAEViT
from .raw_pixels import RawPixels

__all__ = ['FusedVisionTransformer', 'MotionMAEViT', 'RawPixels']
