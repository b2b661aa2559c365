# Copyright (c) MotionMAE contributors. All rights reserved.
from .amp_test_loop import AmpTestLoop
from .resumable_test_loop import ResumableTestLoop
from .resumable_train_loops import ResumableEpochLoop, ResumableIterLoop

__all__ = [
    'AmpTestLoop',
    'ResumableEpochLoop',
    'ResumableIterLoop',
    'ResumableTestLoop',
]
