# Copyright (c) MotionMAE contributors. All rights reserved.
from pathlib import Path

from mmaction.registry import METRICS
from mmengine.evaluator import DumpResults
from mmengine.fileio import dump
from mmengine.logging import print_log

from ...utils.files import complete_file


@METRICS.register_module()
class CompleteDumpResults(DumpResults):
    """MMEngine's ``DumpResults``, whose file is complete or not there.

    Arguments and content of the file as in ``DumpResults``.
    """

    def compute_metrics(self, results: list) -> dict:
        """Write the file."""
        with complete_file(Path(self.out_file_path)) as temporary:
            dump(results, temporary, file_format='pkl')
        print_log(f'Predictions: {self.out_file_path}', logger='current')
        return {}
