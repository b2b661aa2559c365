# Copyright (c) MotionMAE contributors. All rights reserved.
from .motionmae_data_preprocessor import MotionMAEDataPreprocessor

__all__ = ['MotionMAEDataPreprocessor']
