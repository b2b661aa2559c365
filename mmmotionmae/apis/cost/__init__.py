# Copyright (c) MotionMAE contributors. All rights reserved.
from .report import describe, text

__all__ = ['describe', 'text']
