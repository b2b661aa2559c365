# Copyright (c) MotionMAE contributors. All rights reserved.
from .launch import UsageError, build_runner, load_config

__all__ = ['UsageError', 'build_runner', 'load_config']
