# Copyright (c) MotionMAE contributors. All rights reserved.
from .bad_videos_hook import BadVideosHook
from .seed_iter_hook import SeedIterHook

__all__ = ['BadVideosHook', 'SeedIterHook']
