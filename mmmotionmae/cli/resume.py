# Copyright (c) MotionMAE contributors. All rights reserved.
"""Resuming a run.

MMEngine restores weights, optimiser, schedules and the message hub from the
checkpoint; what makes a resumed run the uninterrupted one, bit for bit, is:
the order of the samples, ``engine/samplers/seeded_sampler.py``; what is drawn
for a sample, ``datasets/transforms/seeding.py``, and in an iteration,
``engine/hooks/seed_iter_hook.py``; the place in the data,
``engine/loops/resumable_train_loops.py``; checkpoints that can be read again,
``compat/saving.py``; which of them, ``utils/run_folder.py``; schedules and
what the config has changed, ``engine/hooks/resume_hook.py``; all weights or
an error, ``checkpoints/mmengine_loading.py``. What saves a run that is asked
to end: ``engine/hooks/preemption_hook.py``. A test that goes on:
``engine/loops/resumable_test_loop.py``.
"""

import os.path as osp
from pathlib import Path

from mmengine.config import Config

from ..utils.errors import UsageError
from ..utils.run_folder import holds_run


def set_resume(cfg: Config, resume: str | None, overwrite: bool) -> None:
    """Decide what becomes of an earlier run in the work dir.

    Args:
        cfg: Changed in place.
        resume: ``'auto'``: go on from the last checkpoint of the work dir,
            if there is one. A path: go on from that checkpoint, a file, or a
            folder as DeepSpeed writes it. None: start anew.
        overwrite: Whether a new run may write into the work dir of another.

    Raises:
        UsageError: If a run would be overwritten, or the checkpoint to
            resume from is missing.
    """
    if resume is None:
        allowed = overwrite or cfg.get('resume')
        if not allowed and holds_run(Path(cfg.work_dir)):
            raise UsageError(
                f'{cfg.work_dir!r} holds the checkpoints of an earlier run. '
                'Go on with it (--resume), choose another --work-dir, or '
                'write over it (--overwrite).'
            )
        return
    cfg.resume = True
    if resume == 'auto':
        cfg.load_from = None
        return
    if '://' not in resume and not osp.exists(resume):
        raise UsageError(f'There is no checkpoint {resume!r} to resume from.')
    cfg.load_from = resume
