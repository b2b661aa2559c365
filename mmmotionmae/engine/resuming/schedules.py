# Copyright (c) MotionMAE contributors. All rights reserved.
"""Schedules of a config that a resumed run goes on with."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.optim import OptimWrapper, OptimWrapperDict, _ParamScheduler
from mmengine.runner import FlexibleRunner, Runner

# What changes while a schedule runs; all else is what it is.
_MOVING = {
    *('optimizer', 'last_step', '_global_step', '_last_value'),
    *('base_values', 'verbose'),
    # of ReduceOnPlateau
    *('best', 'num_bad_epochs', 'cooldown_counter'),
}
_Number = (int, float)


def wrappers_of(runner: Runner | FlexibleRunner) -> dict[str, OptimWrapper]:
    """Optimiser wrappers by name; the name of a single one is empty."""
    wrapper = runner.optim_wrapper
    if isinstance(wrapper, OptimWrapperDict):
        return dict(wrapper.items())
    return {'': wrapper}


def of_name(schedules: Any, name: str) -> list[Any]:
    """Schedules, or their states, of one wrapper; none are no schedules."""
    if isinstance(schedules, Mapping):
        schedules = schedules.get(name)
    return list(schedules or [])


# ---------------------------------------------------------- hyper-parameters


def base_values(wrapper: OptimWrapper) -> list[dict[str, Any]]:
    """Numbers of each parameter group, as they are before all schedules."""
    return [
        {
            key: group.get(f'initial_{key}', value)
            for key, value in group.items()
            if _is_number(value) and not key.startswith('initial_')
        }
        for group in wrapper.param_groups
    ]


def _is_number(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return bool(value) and all(map(_is_number, value))
    return isinstance(value, _Number) and not isinstance(value, bool)


def set_base_values(
    wrapper: OptimWrapper, values: list[dict[str, Any]]
) -> None:
    """Give each parameter group these numbers, before all schedules."""
    for group, new in zip(wrapper.param_groups, values, strict=True):
        group.update(new)
        for key in new:
            if f'initial_{key}' in group:
                group[f'initial_{key}'] = new[key]


def describe_changes(
    old: list[dict[str, Any]], new: list[dict[str, Any]]
) -> list[str]:
    """Name the numbers that differ, ``lr 0.001 -> 0.0001``.

    Args:
        old: Of each parameter group.
        new: Likewise.

    Returns:
        A text for each number; of the groups, that with the largest.
    """
    largest: dict[str, tuple[Any, Any]] = {}
    for was, now in zip(old, new, strict=False):
        for key in was.keys() & now.keys():
            if _as_tuple(was[key]) == _as_tuple(now[key]):
                continue
            pair = (was[key], now[key])
            if key not in largest or _as_tuple(now[key]) > _as_tuple(
                largest[key][1]
            ):
                largest[key] = pair
    return [f'{key} {a} -> {b}' for key, (a, b) in sorted(largest.items())]


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


# ------------------------------------------------------------------ schedules


def _fixed(state: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a schedule, without where it is."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in state.items()
        if key not in _MOVING
        and not callable(value)
        # The text of a function, in a checkpoint.
        and not (isinstance(value, str) and value.startswith('<'))
    }


def describe_differences(
    saved: list[Mapping[str, Any]], schedules: list[_ParamScheduler]
) -> list[str]:
    """Name what differs between the schedules of a checkpoint and of a config.

    Args:
        saved: States in the checkpoint.
        schedules: Of the config.

    Returns:
        Texts such as ``CosineAnnealingLR: end 12 -> 24``; none if they are
        the same.
    """
    if len(saved) != len(schedules):
        names = ', '.join(type(s).__name__ for s in schedules) or 'none'
        return [f'{len(saved)} schedules -> {len(schedules)} ({names})']
    differences = []
    for state, schedule in zip(saved, schedules, strict=True):
        old, new = _fixed(state), _fixed(schedule.state_dict())
        changed = [
            f'{key} {old.get(key)} -> {new.get(key)}'
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
        ]
        if changed:
            name = type(schedule).__name__
            differences.append(f'{name}: {", ".join(changed)}')
    return differences


def build_at_start(
    runner: Runner | FlexibleRunner, name: str
) -> list[_ParamScheduler]:
    """Build the schedules of the config, and set what they begin with.

    Args:
        runner: Its loop and optimiser are built.
        name: Of the optimiser wrapper.

    Returns:
        Schedules before their first step.
    """
    wrapper = wrappers_of(runner)[name]
    for group in wrapper.param_groups:
        for key in list(group):
            if f'initial_{key}' in group:
                group[key] = group[f'initial_{key}']
    cfg = copy.deepcopy(runner.cfg.get('param_scheduler'))
    if isinstance(cfg, Mapping) and 'type' not in cfg:
        cfg = cfg[name]
    if isinstance(runner, FlexibleRunner):
        return runner.strategy.build_param_scheduler(cfg or [], wrapper)
    return runner._build_param_scheduler(cfg or [], wrapper)


def install(
    runner: Runner | FlexibleRunner,
    name: str,
    schedules: list[_ParamScheduler],
) -> None:
    """Let a runner step and save these schedules, if it has any.

    Args:
        runner: Its schedules are replaced.
        name: Of the optimiser wrapper.
        schedules: Of that wrapper.
    """
    if isinstance(runner.param_schedulers, dict):
        runner.param_schedulers[name] = schedules
    elif runner.param_schedulers is not None:
        runner.param_schedulers = schedules
        if isinstance(runner, FlexibleRunner):  # its strategy saves them
            runner.strategy.param_schedulers = schedules


def put_back(
    schedules: list[_ParamScheduler], saved: list[Mapping[str, Any]]
) -> None:
    """Move schedules to where those of a checkpoint were."""
    for schedule, state in zip(schedules, saved, strict=True):
        moving = {k: v for k, v in state.items() if k in _MOVING}
        vars(schedule).update(moving)


def advance(
    schedules: list[_ParamScheduler],
    wrapper: OptimWrapper,
    iteration: int,
    epoch_ends: Iterator[int],
) -> None:
    """Take the steps of a training that was run with these schedules.

    Args:
        schedules: Before their first step.
        wrapper: Their optimiser wrapper.
        iteration: How many batches are done.
        epoch_ends: After how many of them an epoch ended, ascending.
    """
    # PyTorch's check whether optimiser and schedule step in turn.
    wrapper._global_step = 0
    by_iter = [s for s in schedules if not s.by_epoch]
    by_epoch = [s for s in schedules if s.by_epoch]
    end = next(epoch_ends, None)
    for done in range(1, iteration + 1):
        for schedule in by_iter:
            schedule.step()
        if done == end:
            for schedule in by_epoch:
                schedule.step()
            end = next(epoch_ends, None)
