# Copyright (c) MotionMAE contributors. All rights reserved.
from .augmenting_data_preprocessor import AugmentingDataPreprocessor
from .motionmae_data_preprocessor import MotionMAEDataPreprocessor
from .sequence_data_preprocessor import SequenceDataPreprocessor

__all__ = [
    'AugmentingDataPreprocessor',
    'MotionMAEDataPreprocessor',
    'SequenceDataPreprocessor',
]
