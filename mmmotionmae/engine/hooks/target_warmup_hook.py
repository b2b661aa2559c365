# Copyright (c) MotionMAE contributors. All rights reserved.
from typing import Any

from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...utils.errors import UsageError
from ...utils.provenance import unwrap


@HOOKS.register_module()
class TargetWarmupHook(Hook):
    """Let the weight of one target grow over the first iterations.

    Linearly, from ``start_factor`` times its weight at iteration ``begin``,
    and before, to its weight at iteration ``end``, and after. It depends on
    the iteration alone, so a run that is resumed goes on where it was. For
    several targets there are several hooks. (Under ``compile=True``, not under
    :class:`CompileBlocksHook`, each new weight would be compiled anew.)

    Args:
        target (str): Name of the target.
        end (int): Iteration from which on the weight is whole.
        begin (int): Iteration at which it begins to grow. Defaults to 0.
        start_factor (float): From 0 to 1. Defaults to 0.

    Raises:
        ValueError: If ``end`` is not after ``begin``, the factor is out of
            range, or, when training begins, there is no such target.
    """

    def __init__(
        self,
        target: str,
        end: int,
        begin: int = 0,
        start_factor: float = 0.0,
    ) -> None:
        if not 0 <= begin < end or not 0 <= start_factor <= 1:
            raise UsageError(
                'TargetWarmupHook goes from iteration begin, at least 0, to a '
                'later one, end, and start_factor is from 0 to 1, not '
                f'{begin}, {end} and {start_factor}.'
            )
        self.target = target
        self.begin = begin
        self.end = end
        self.start_factor = start_factor

    def factor(self, iteration: int) -> float:
        """Share of the weight at an iteration, from 0."""
        progress = (iteration - self.begin) / (self.end - self.begin)
        progress = min(max(progress, 0.0), 1.0)
        return self.start_factor + (1 - self.start_factor) * progress

    def before_train(self, runner: Runner) -> None:
        """Make sure that there is such a target."""
        targets = getattr(unwrap(runner.model), 'targets', {})
        if self.target not in targets:
            raise UsageError(
                f'TargetWarmupHook is for a target {self.target!r}, but those '
                f'of the model are {[*targets]}.'
            )

    def before_train_iter(
        self, runner: Runner, *args: Any, **kwargs: Any
    ) -> None:
        """Set the weight."""
        target = unwrap(runner.model).targets[self.target]
        target.weight_factor = self.factor(runner.iter)
