# Copyright (c) MotionMAE contributors. All rights reserved.
"""Patches of what is broken in MMAction2, MMEngine and PyTorch.

Only these files know of defects in MMAction2 1.2, MMEngine 0.10 and PyTorch.
Each function patches one of them, leaves everything alone where the defect is
absent, and says when it can go. ``import mmmotionmae`` calls :func:`apply`,
which imports none of these packages: each patch is made as soon as somebody
has imported the module that it is for, before that import returns. How
checkpoints are loaded is no defect but a choice: see ``checkpoints``.

One defect is avoided by ``setup.cfg`` alone: ``importlib_metadata``, which
MMAction2 imports but does not require.
"""

from typing import TYPE_CHECKING

from ..utils.imports import names_from, patch_after_import
from ..utils.opencv import check_opencv

if TYPE_CHECKING:
    from .running import end_process, leave_process_group
    from .saving import to_plain

__all__ = [
    'PATCHES',
    'apply',
    'end_process',
    'leave_process_group',
    'to_plain',
]

# What is waited for, and what is called then. A patch may import what its
# module has imported, and nothing that may be waiting for that module.
PATCHES = (
    ('mmengine', 'packages.do_without_pkg_resources'),
    ('mmengine', 'registries.look_where_modules_are'),
    ('mmengine', 'running.read_options_whole'),
    ('mmengine', 'saving.read_plain_histories'),
    ('mmengine', 'saving.write_files_atomically'),
    ('mmengine.utils.dl_utils', 'packages.find_compiled_mmcv'),
    ('mmengine.dist', 'running.allow_launchers_on_cpu'),
    ('mmengine.optim', 'running.allow_amp_on_cpu'),
    ('mmengine.model', 'running.allow_ddp_on_cpu'),
    ('mmengine.model', 'running.keep_each_gradient_once'),
    ('mmengine.dataset', 'data_loading.keep_seeds_in_wrappers'),
    ('mmengine.dataset', 'data_loading.balance_within_wrappers'),
    ('mmengine.dataset', 'sampling.sample_without_lists'),
    ('mmengine.hooks.checkpoint_hook', 'resuming.note_names_of_checkpoints'),
    ('mmengine.runner.checkpoint', 'saving.save_plain_checkpoints'),
    (
        'mmengine._strategy.single_device',
        'resuming.resume_from_what_there_is',
    ),
    ('mmengine._strategy.deepspeed', 'deepspeed.mend_deepspeed'),
    ('mmengine.runner', 'resuming.find_checkpoints_of_the_work_dir'),
    ('mmengine.runner', 'resuming.keep_given_positions'),
    ('mmengine.runner', 'running.begin_runs_before_loading'),
    ('mmengine.runner', 'running.wrap_only_what_can_be_trained'),
    ('mmengine.runner', 'data_loading.load_without_processes'),
    ('torch', 'data_loading.report_what_cannot_be_handed_over'),
    ('mmaction.registry', 'packages.stand_in_for_drn'),
    ('mmaction.utils.dependency', 'packages.switch_off_broken_multimodal'),
    ('mmaction.engine.hooks', 'drawing.draw_predictions'),
    ('mmaction.visualization', 'drawing.write_predictions_on_pictures'),
    ('mmaction.visualization', 'drawing.write_videos_without_moviepy'),
    (
        'mmaction.models.data_preprocessors',
        'waiting.copy_batches_without_waiting',
    ),
    ('mmaction.models.utils.blending_utils', 'waiting.blend_without_waiting'),
    ('mmaction.models.heads.base', 'waiting.score_without_waiting'),
    (
        'mmaction.models.backbones.vit_mae',
        'vision_transformers.refuse_unknown_arguments',
    ),
    (
        'mmaction.models.backbones.vit_mae',
        'vision_transformers.refuse_heads_that_do_not_divide',
    ),
    *(
        (f'mmaction.{user}', 'numpy_names.give_back_numpy_names')
        for user in (
            'datasets.transforms.pose_transforms',
            'evaluation.functional.accuracy',
            'evaluation.functional.ava_evaluation.metrics',
            'evaluation.metrics.multimodal_metric',
            'utils.misc',
        )
    ),
)

__getattr__ = names_from(
    __name__,
    dict(
        end_process='running', leave_process_group='running', to_plain='saving'
    ),
)


def apply() -> None:
    """Apply all patches, as soon as there is something to patch.

    Raises:
        MissingLibraryError: OpenCV, which MMEngine and MMCV import, cannot be
            imported.
    """
    check_opencv()
    patch_after_import(__name__, PATCHES)
