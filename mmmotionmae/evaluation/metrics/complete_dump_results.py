# Copyright (c) MotionMAE contributors. All rights reserved.
from mmaction.registry import METRICS
from mmengine.evaluator import DumpResults


@METRICS.register_module()
class CompleteDumpResults(DumpResults):
    """MMEngine's ``DumpResults``, whose file is complete or not there.

    That is so of all files that MMEngine writes, see
    :func:`mmmotionmae.compat.saving.write_files_atomically`. Arguments and
    content of the file are as in ``DumpResults``.
    """
