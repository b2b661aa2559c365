"""DeepSpeed itself gives what DDP gives."""

import importlib.util

import pytest
import torch
from helpers.group_runs import run_group
from mmengine.runner import CheckpointLoader

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec('deepspeed') is None,
        reason="needs DeepSpeed: pip install -e '.[deepspeed]'",
    ),
]
STAGES = (1, 2, 3)


def arguments(*options, flags=(), epochs=5, every=1):
    """32 videos, 8 a step: 4 steps an epoch."""
    return [
        *flags,
        '--cfg-options',
        f'train_cfg.max_epochs={epochs}',
        'train_dataloader.batch_size=4',
        f'default_hooks.checkpoint.interval={every}',
        *options,
    ]


def zero(stage, *flags):
    return ['--deepspeed', str(stage), *flags]


ACCUMULATED = [
    'optim_wrapper.accumulative_counts=3',  # 3 batches, then 1
    'optim_wrapper.clip_grad.max_norm=0.3',
]


@pytest.fixture(scope='module')
def runs(tmp_path_factory, shapes_dir):
    import os

    from conftest import ROOT

    folder = tmp_path_factory.mktemp('runs')
    env = dict(
        os.environ,
        DEMO_DATA=str(shapes_dir),
        PYTHONPATH=str(ROOT),
        OMP_NUM_THREADS='1',
        DS_ACCELERATOR='cpu',
    )
    load = 'load_from=ddp/epoch_5.pth'
    planned = dict(
        ddp=arguments(),
        accumulated=arguments(*ACCUMULATED, epochs=2),
        loaded=arguments(load, epochs=1),
        bf16=arguments(flags=['--amp'], epochs=1),
    )
    for stage in STAGES:
        planned |= {
            f'zero{stage}': arguments(flags=zero(stage)),
            f'parts{stage}': arguments(flags=zero(stage), epochs=3),
            f'parts{stage}+resumed': arguments(flags=zero(stage, '--resume')),
            f'accumulated{stage}': arguments(
                *ACCUMULATED, flags=zero(stage), epochs=2
            ),
            f'loaded{stage}': arguments(load, flags=zero(stage), epochs=1),
            f'folder{stage}': arguments(
                f'load_from=zero{stage}/epoch_5.pth',
                flags=zero(stage),
                epochs=1,
            ),
            f'bf16{stage}': arguments(flags=zero(stage, '--amp'), epochs=1),
        }
    # Shares of 4, in parts of 2.
    planned['kept2'] = arguments(
        'train_dataloader.batch_size=2',
        'auto_scale_lr.base_batch_size=8',
        flags=zero(2, '--keep-batch'),
    )
    two = run_group(2, planned, folder, env)
    alone = {
        'zero1+alone': arguments(flags=zero(1, '--resume')),
        'other': arguments(flags=zero(1, '--resume', 'parts1/epoch_4.pth')),
        'file': arguments(flags=zero(1, '--resume', 'ddp/epoch_4.pth')),
    }
    return folder, two, run_group(1, alone, folder, env)


@pytest.mark.parametrize('stage', STAGES)
def test_weights_in_a_folder(runs, stage):
    folder, _, _ = runs
    expected = torch.load(folder / 'ddp/epoch_5.pth', weights_only=True)
    found = CheckpointLoader.load_checkpoint(
        str(folder / f'zero{stage}/epoch_5.pth')
    )
    assert found['meta']['iter'] == 20
    assert found['state_dict'].keys() == expected['state_dict'].keys()
    for key, value in expected['state_dict'].items():
        difference = (found['state_dict'][key] - value).abs().max()
        assert difference <= 1e-6, key


def assert_same(runs, name, other, losses=1e-6, weights=1e-6):
    folder, results, _ = runs
    assert results[other]['error'] is results[name]['error'] is None
    one, two = (torch.tensor(results[n]['losses']) for n in (name, other))
    assert (one[-len(two) :] - two).abs().max() <= losses
    encoders = [
        torch.load(
            folder / n.partition('+')[0] / 'backbone.pth', weights_only=True
        )['state_dict']
        for n in (name, other)
    ]
    assert encoders[0].keys() == encoders[1].keys() and len(encoders[0]) > 20
    for key, value in encoders[0].items():
        assert value.dtype == encoders[1][key].dtype == torch.float32
        assert (value - encoders[1][key]).abs().max() <= weights, key


@pytest.mark.parametrize('stage', STAGES)
def test_training(runs, stage):
    assert len(runs[1]['ddp']['losses']) == 20
    assert_same(runs, 'ddp', f'zero{stage}')


def test_batch_in_parts(runs):
    assert_same(runs, 'ddp', 'kept2')


@pytest.mark.parametrize('stage', STAGES)
def test_resuming(runs, stage):
    assert len(runs[1][f'parts{stage}+resumed']['losses']) == 8
    assert_same(runs, f'zero{stage}', f'parts{stage}+resumed', 0, 0)


@pytest.mark.parametrize('stage', STAGES)
def test_accumulation_and_clipping(runs, stage):
    assert_same(runs, 'accumulated', f'accumulated{stage}')


@pytest.mark.parametrize('stage', STAGES)
def test_loading(runs, stage):
    assert_same(runs, 'loaded', f'loaded{stage}')
    assert_same(runs, 'loaded', f'folder{stage}', 1e-5, 1e-5)


@pytest.mark.parametrize('stage', STAGES)
def test_mixed_precision(runs, stage):
    """bfloat16 has 8 bits."""
    assert_same(runs, 'bf16', f'bf16{stage}', 2e-2, 2e-2)


def test_what_cannot_be_resumed(runs):
    alone = runs[2]
    message = 'has the optimiser of 2 processes, and this run has 1'
    assert message in alone['zero1+alone']['error']
    assert message in alone['other']['error']
    assert 'which is a folder' in alone['file']['error']
