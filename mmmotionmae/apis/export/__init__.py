# Copyright (c) MotionMAE contributors. All rights reserved.
from .clip_model import OUTPUTS, ClipModel
from .exporting import DTYPES, Exported, export_model

__all__ = ['DTYPES', 'OUTPUTS', 'ClipModel', 'Exported', 'export_model']
