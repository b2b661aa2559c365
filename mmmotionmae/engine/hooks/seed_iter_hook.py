# Copyright (c) MotionMAE contributors. All rights reserved.
from typing import Any

import torch
from mmaction.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook

from ...utils.seeding import make_seed, seed_generators


@HOOKS.register_module()
class SeedIterHook(Hook):
    """Seed the random draws of every training step.

    What a step draws (drop path, dropout, mixup) depends on seed, rank and
    iteration alone, so that a resumed run draws what the uninterrupted one
    does. MMEngine stores no random states in its checkpoints.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(
        self, runner: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Seed ``random``, NumPy and torch, on every device."""
        seed = make_seed(runner.seed % 2**32, get_rank(), runner.iter)
        seed_generators(seed)
        if torch.cuda.is_available():
            torch.cuda.manual_seed_all(seed)
