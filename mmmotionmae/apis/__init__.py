# Copyright (c) MotionMAE contributors. All rights reserved.
from .launch import UsageError, build_runner, load_config
from .pretrained import load_pretrained

__all__ = ['UsageError', 'build_runner', 'load_config', 'load_pretrained']
