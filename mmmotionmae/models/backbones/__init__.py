# Copyright (c) MotionMAE contributors. All rights reserved.
from .motionmae_vit import MotionMAEViT

__all__ = ['MotionMAEViT']
