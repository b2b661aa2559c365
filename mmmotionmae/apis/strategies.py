# Copyright (c) MotionMAE contributors. All rights reserved.
"""Ways to train on several devices: which work, and what they need."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from ..utils.errors import UsageError
from .settings import nodes

_INSTEAD = 'Use FSDP2Strategy (--fsdp).'
_FSDP1 = (
    'FSDP1 is refused: its shards are flat, which switches weight decay off '
    f'for every matrix, and its runs cannot be resumed. {_INSTEAD}'
)
_ZERO = (
    'the ZeRO optimiser of MMEngine is refused: it hangs at the first '
    f'checkpoint. {_INSTEAD}'
)
_COLOSSALAI = (
    'ColossalAI is refused: it is not maintained, and not tested here. '
    f'{_INSTEAD}'
)
REFUSED = dict(
    FSDPStrategy=_FSDP1,
    MMFullyShardedDataParallel=_FSDP1,
    ZeroRedundancyOptimizer=_ZERO,
    ColossalAIStrategy=_COLOSSALAI,
    ColossalAIOptimWrapper=_COLOSSALAI,
    CollosalAIModelWrapper=_COLOSSALAI,  # MMEngine's spelling
)
"""Types of MMEngine that do not work, and why."""

_PLACES = ('strategy', 'model_wrapper_cfg', 'optim_wrapper')


def settle_strategy(cfg: Config) -> None:
    """Refuse what does not work, and set up what DeepSpeed needs.

    Args:
        cfg: Of a training or a test; changed in place.

    Raises:
        UsageError: For one of :data:`REFUSED`, or a setting that DeepSpeed
            does not know.
    """
    for place in _PLACES:
        for path, name in _types(cfg.get(place), place):
            if name in REFUSED:
                raise UsageError(f'{path}={name}: {REFUSED[name]}')
    wrapper = cfg.get('optim_wrapper') or {}
    if wrapper.get('use_fsdp'):
        raise UsageError(f'optim_wrapper.use_fsdp: {_FSDP1}')
    runner = cfg.get('runner_type', 'Runner')
    if cfg.get('strategy') and runner == 'Runner':
        raise UsageError(
            'strategy is for runner_type=FlexibleRunner, and ignored without: '
            '--fsdp and --deepspeed STAGE set both.'
        )
    strategies = [name for _, name in _types(cfg.get('strategy'), '')]
    if 'DeepSpeedStrategy' in strategies:
        _settle_deepspeed(cfg)


def _types(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """All types, at any depth of a part of a config, with their places."""
    for place, item in nodes(value, path):
        key = place.rpartition('.')[2]
        if key in ('type', 'optimizer_type') and item is not None:
            name = item if isinstance(item, str) else item.__name__
            yield place, name.rpartition('.')[2]


def _settle_deepspeed(cfg: Config) -> None:
    """Put what the optimiser wrapper knows where DeepSpeed looks for it."""
    if cfg.get('launcher', 'none') == 'none':
        raise UsageError(
            'DeepSpeed needs a launcher, also for one process: bash tools/'
            'dist_train.sh CONFIG GPUS.'
        )
    hooks = cfg.get('custom_hooks') or []
    if any(name == 'EMAHook' for _, name in _types(hooks, '')):
        raise UsageError(
            'EMAHook cannot average weights that DeepSpeed holds: leave it '
            'out, or use FSDP2Strategy (--fsdp).'
        )
    wrapper, strategy = cfg.get('optim_wrapper'), cfg.strategy
    if wrapper is None:
        return
    kind = str(wrapper.get('type', 'OptimWrapper'))
    if kind not in (
        'OptimWrapper',
        'AmpOptimWrapper',
        'DeepSpeedOptimWrapper',
    ):
        raise UsageError(f'DeepSpeed cannot stand in for {kind}.')
    wrapper.type = 'DeepSpeedOptimWrapper'
    if kind == 'AmpOptimWrapper':
        if str(wrapper.pop('dtype', None)) not in (
            'bfloat16',
            'torch.bfloat16',
        ):
            raise UsageError(
                'DeepSpeed trains in mixed precision in bfloat16 only: '
                '--amp bf16.'
            )
        wrapper.pop('loss_scale', None)
        autocast = dict(enabled=True, dtype='bfloat16')
        config = dict(torch_autocast=autocast)
        strategy.config = dict(config, **(strategy.get('config') or {}))
    clip = wrapper.pop('clip_grad', None)
    if clip:
        if clip.get('type', 'norm') != 'norm' or clip.get('norm_type', 2) != 2:
            raise UsageError(
                'DeepSpeed clips gradients by their 2-norm only: '
                'optim_wrapper.clip_grad=dict(max_norm=...).'
            )
        strategy.gradient_clipping = clip['max_norm']
    counts = wrapper.get('accumulative_counts', 1)
    strategy.gradient_accumulation_steps = counts
    strategy.setdefault('zero_optimization', dict(stage=1))
