"""Strategies that are refused before anything is built, and DeepSpeed's."""

import pytest
from helpers.resumed_runs import FINETUNE, PRETRAIN, TRAIN
from mmengine._strategy import FSDPStrategy
from mmengine.config import Config

from mmmotionmae.apis import runner as runs
from mmmotionmae.apis.strategies import settle_strategy
from mmmotionmae.cli import train_options
from mmmotionmae.utils.errors import UsageError

FSDP1 = 'its shards are flat, which switches weight decay off'
ZERO = 'hangs at the first checkpoint'
FLEXIBLE = dict(runner_type='FlexibleRunner')


@pytest.mark.parametrize(
    'settings, place, reason',
    [
        (
            dict(FLEXIBLE, strategy=dict(type='FSDPStrategy')),
            'strategy.type=FSDPStrategy',
            FSDP1,
        ),
        (
            dict(FLEXIBLE, strategy=dict(type='mmengine.FSDPStrategy')),
            'strategy.type=FSDPStrategy',
            FSDP1,
        ),
        (
            dict(model_wrapper_cfg=dict(type='MMFullyShardedDataParallel')),
            'model_wrapper_cfg.type=MMFullyShardedDataParallel',
            FSDP1,
        ),
        (
            dict(optim_wrapper=dict(type='AmpOptimWrapper', use_fsdp=True)),
            'optim_wrapper.use_fsdp',
            FSDP1,
        ),
        (
            dict(
                optim_wrapper=dict(
                    optimizer=dict(
                        type='ZeroRedundancyOptimizer', optimizer_type='AdamW'
                    )
                )
            ),
            'optim_wrapper.optimizer.type=ZeroRedundancyOptimizer',
            ZERO,
        ),
        (
            dict(FLEXIBLE, strategy=dict(type='ColossalAIStrategy')),
            'strategy.type=ColossalAIStrategy',
            'ColossalAI is refused: it is not maintained',
        ),
        (
            dict(optim_wrapper=dict(type='ColossalAIOptimWrapper')),
            'optim_wrapper.type=ColossalAIOptimWrapper',
            'ColossalAI is refused: it is not maintained',
        ),
    ],
)
def test_refused(settings, place, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(PRETRAIN)
    cfg.merge_from_dict(dict(settings, work_dir='run'))
    cfg.model = dict(type='NotBuilt')
    with pytest.raises(UsageError) as error:
        runs.build_runner(cfg)
    line = str(error.value)
    assert line.startswith(place) and reason in line and '\n' not in line
    assert 'FSDP2Strategy (--fsdp)' in line


def test_refused_as_a_class():
    with pytest.raises(UsageError, match='^strategy.type=FSDPStrategy'):
        settle_strategy(Config(dict(strategy=dict(type=FSDPStrategy))))


def test_refused_with_code_2(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(
        'sys.argv',
        [
            'train.py',
            str(PRETRAIN),
            '--cfg-options',
            'model_wrapper_cfg.type=MMFullyShardedDataParallel',
        ],
    )
    assert TRAIN.main() == 2
    assert capsys.readouterr().err.startswith('error: model_wrapper_cfg.type')


def deepspeed(stage=2, amp=None, **settings):
    cfg = Config.fromfile(PRETRAIN)
    cfg.launcher = 'pytorch'
    cfg.merge_from_dict(settings)
    if amp:
        train_options.set_amp(cfg, amp)
    train_options.set_deepspeed(cfg, stage)
    return cfg


def test_settings_are_put_where_deepspeed_looks():
    cfg = deepspeed(
        amp='bf16',
        **{
            'optim_wrapper.clip_grad': dict(max_norm=0.5),
            'optim_wrapper.accumulative_counts': 4,
            'strategy.zero_optimization.overlap_comm': False,
        },
    )
    optimizer = dict(cfg.optim_wrapper.optimizer)
    paramwise = dict(cfg.optim_wrapper.paramwise_cfg)
    settle_strategy(cfg)
    settle_strategy(cfg)  # to do it twice changes nothing
    assert cfg.runner_type == 'FlexibleRunner'
    assert cfg.strategy == dict(
        type='DeepSpeedStrategy',
        zero_optimization=dict(stage=2, overlap_comm=False),
        config=dict(torch_autocast=dict(enabled=True, dtype='bfloat16')),
        gradient_clipping=0.5,
        gradient_accumulation_steps=4,
    )
    assert cfg.optim_wrapper == dict(
        type='DeepSpeedOptimWrapper',
        accumulative_counts=4,
        optimizer=optimizer,
        paramwise_cfg=paramwise,
    )


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(runner_type='Runner'), 'is for runner_type=FlexibleRunner'),
        (dict(launcher='none'), 'needs a launcher, also for one process'),
        (dict(custom_hooks=[dict(type='EMAHook')]), 'EMAHook cannot average'),
        ({'optim_wrapper.type': 'ApexOptimWrapper'}, 'stand in for Apex'),
        (
            {'optim_wrapper.type': 'AmpOptimWrapper'},
            'in bfloat16 only: --amp bf16',
        ),
        (
            {'optim_wrapper.clip_grad': dict(type='value', clip_value=1)},
            'by their 2-norm only',
        ),
    ],
)
def test_what_deepspeed_cannot_do(settings, message):
    cfg = deepspeed()
    cfg.merge_from_dict(settings)
    with pytest.raises(UsageError, match=message):
        settle_strategy(cfg)


def test_a_strategy_that_nothing_reads():
    for strategy in (dict(type='FSDP2Strategy'), dict(checkpoint={})):
        with pytest.raises(UsageError, match='--fsdp and --deepspeed STAGE'):
            settle_strategy(Config(dict(strategy=strategy)))


def test_a_strategy_is_a_dict():
    cfg = Config(dict(strategy='FSDP2Strategy'))
    for settle in (
        train_options.set_fsdp,
        lambda cfg: train_options.set_deepspeed(cfg, 1),
    ):
        with pytest.raises(UsageError, match="not 'FSDP2Strategy'"):
            settle(cfg)


def test_deepspeed_in_the_place_of_fsdp2():
    cfg = deepspeed(strategy=dict(type='FSDP2Strategy'))
    settle_strategy(cfg)
    assert cfg.strategy.type == 'DeepSpeedStrategy'
    with pytest.raises(UsageError, match='strategy.param_dtype, which is of'):
        deepspeed(strategy=dict(type='FSDP2Strategy', param_dtype='bfloat16'))


def test_configs_without_any_stay_as_they_are():
    for path in (PRETRAIN, FINETUNE):
        cfg = Config.fromfile(path)
        before = cfg.to_dict()
        settle_strategy(cfg)
        assert cfg.to_dict() == before
    settle_strategy(Config(dict(optim_wrapper=None)))  # a test's
