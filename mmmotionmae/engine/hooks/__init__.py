# Copyright (c) MotionMAE contributors. All rights reserved.
from .seed_iter_hook import SeedIterHook

__all__ = ['SeedIterHook']
