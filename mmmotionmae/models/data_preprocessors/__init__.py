# Copyright (c) MotionMAE contributors. All rights reserved.
from .augmenting_data_preprocessor import AugmentingDataPreprocessor
from .motionmae_data_preprocessor import MotionMAEDataPreprocessor

__all__ = ['AugmentingDataPreprocessor', 'MotionMAEDataPreprocessor']
