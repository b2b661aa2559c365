# Copyright (c) MotionMAE contributors. All rights reserved.
from ...utils.errors import MaskError, SequenceError
from .davis_dataset import DAVISDataset
from .jhmdb_dataset import JHMDBDataset
from .masks import (
    PALETTE,
    VOID,
    is_binary_mask,
    object_ids,
    read_mask,
    write_mask,
)
from .sequence_dataset import SequenceDataset, list_files
from .vip_dataset import VIPDataset

__all__ = [
    'PALETTE',
    'VOID',
    'DAVISDataset',
    'JHMDBDataset',
    'MaskError',
    'SequenceDataset',
    'SequenceError',
    'VIPDataset',
    'is_binary_mask',
    'list_files',
    'object_ids',
    'read_mask',
    'write_mask',
]
