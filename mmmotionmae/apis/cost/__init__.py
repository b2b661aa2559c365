# Copyright (c) MotionMAE contributors. All rights reserved.
from .cluster import Machine, plan
from .cluster_text import cluster_text
from .report import describe, text

__all__ = ['Machine', 'cluster_text', 'describe', 'plan', 'text']
