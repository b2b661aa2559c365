# Copyright (c) MotionMAE contributors. All rights reserved.
from .clip_model import ClipModel
from .exporting import Exported, export_model

__all__ = ['ClipModel', 'Exported', 'export_model']
