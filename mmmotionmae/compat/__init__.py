# Copyright (c) MotionMAE contributors. All rights reserved.
"""Patches of what is broken in MMAction2, MMEngine and PyTorch.

Only these files know of defects in MMAction2 1.2, MMEngine 0.10 and PyTorch.
Each function patches one of them, leaves everything alone where the defect is
absent, and says when it can go. :func:`apply` runs them all; it is called
once, by ``import mmmotionmae``, before ``mmaction.models`` is imported. How
checkpoints are loaded is no defect but a choice: see ``checkpoints``.

One defect is avoided by ``setup.cfg`` alone: ``importlib_metadata``, which
MMAction2 imports but does not require.
"""

from . import (
    data_loading,
    deepspeed,
    drawing,
    numpy_names,
    packages,
    resuming,
    running,
    sampling,
    saving,
    vision_transformers,
    waiting,
)
from .running import end_process, leave_process_group
from .saving import to_plain

__all__ = [
    'apply',
    'end_process',
    'leave_process_group',
    'to_plain',
]


def apply() -> None:
    """Apply all patches. Safe to call more than once."""
    packages.stand_in_for_drn()
    packages.switch_off_broken_multimodal()
    packages.do_without_pkg_resources()
    packages.find_compiled_mmcv()
    numpy_names.give_back_numpy_names()
    saving.save_plain_checkpoints()
    saving.write_files_atomically()
    resuming.find_checkpoints_of_the_work_dir()
    resuming.note_names_of_checkpoints()
    running.allow_amp_on_cpu()
    running.allow_launchers_on_cpu()
    running.allow_ddp_on_cpu()
    running.wrap_only_what_can_be_trained()
    drawing.draw_predictions()
    drawing.write_predictions_on_pictures()
    drawing.write_videos_without_moviepy()
    running.keep_spaces_in_options()
    deepspeed.mend_deepspeed()
    waiting.copy_batches_without_waiting()
    waiting.blend_without_waiting()
    waiting.score_without_waiting()
    vision_transformers.refuse_unknown_arguments()
    vision_transformers.refuse_heads_that_do_not_divide()
    data_loading.keep_seeds_in_wrappers()
    data_loading.balance_within_wrappers()
    data_loading.report_what_cannot_be_handed_over()
    data_loading.load_without_processes()
    sampling.sample_without_lists()
