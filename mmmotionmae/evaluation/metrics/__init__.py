# Copyright (c) MotionMAE contributors. All rights reserved.
from .acc_report_metric import AccReportMetric
from .complete_dump_results import CompleteDumpResults
from .davis_metric import DAVISMetric
from .pck_metric import PCKMetric
from .reconstruction_metric import ReconstructionMetric
from .sequence_metric import SequenceMetric
from .vip_metric import VIPMetric

__all__ = [
    'AccReportMetric',
    'CompleteDumpResults',
    'DAVISMetric',
    'PCKMetric',
    'ReconstructionMetric',
    'SequenceMetric',
    'VIPMetric',
]
