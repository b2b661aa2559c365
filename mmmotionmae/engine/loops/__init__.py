# Copyright (c) MotionMAE contributors. All rights reserved.
from .amp_test_loop import AmpTestLoop
from .reconstruction_val_loop import ReconstructionValLoop
from .resumable_test_loop import ResumableTestLoop
from .resumable_train_loops import ResumableEpochLoop, ResumableIterLoop

__all__ = [
    'AmpTestLoop',
    'ReconstructionValLoop',
    'ResumableEpochLoop',
    'ResumableIterLoop',
    'ResumableTestLoop',
]
