# Copyright (c) MotionMAE contributors. All rights reserved.
import random
from typing import Any

import numpy as np
import torch
from mmaction.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook


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
        words = (runner.seed % 2**32, get_rank(), runner.iter)
        seed = int(np.random.SeedSequence(words).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_available():
            torch.cuda.manual_seed_all(seed)
