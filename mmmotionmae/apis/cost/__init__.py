# Copyright (c) MotionMAE contributors. All rights reserved.
from .cluster import plan
from .cluster_text import cluster_text
from .machine import Machine
from .report import describe, text

__all__ = ['Machine', 'cluster_text', 'describe', 'plan', 'text']
