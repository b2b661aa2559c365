"""Trainings on one process and on two are one training."""

import pytest
import torch
from helpers.group_runs import run_group

# 32 videos, 12 a step: an epoch has 2 steps, and 8 videos are left out.
OPTIONS = [
    '--keep-batch',
    '--cfg-options',
    'auto_scale_lr.base_batch_size=12',
    'train_dataloader.batch_size=4',
    'default_hooks.checkpoint.interval=1',
]


def arguments(epochs, *flags):
    return [*flags, *OPTIONS, f'train_cfg.max_epochs={epochs}']


def weights(path):
    return torch.load(path, weights_only=True)


@pytest.mark.slow
def test_another_number_of_processes(tmp_path, run_env):
    # Shares of 6, in parts of 3; then of 12, in parts of 4.
    two = run_group(
        2,
        dict(two=arguments(3), moved=arguments(1)),
        tmp_path,
        run_env,
    )
    one = run_group(
        1,
        {'one': arguments(3), 'moved+resumed': arguments(3, '--resume')},
        tmp_path,
        run_env,
    )
    assert [r['error'] for r in [*two.values(), *one.values()]] == [None] * 4
    expected = one['one']
    assert [len(step) for step in expected['videos']] == [12] * 6
    assert two['two']['videos'] == expected['videos']
    losses = torch.tensor(expected['losses'])
    assert (torch.tensor(two['two']['losses']) - losses).abs().max() < 1e-6

    moved = two['moved'], one['moved+resumed']
    assert sum((r['videos'] for r in moved), []) == expected['videos']
    found = torch.tensor(sum((r['losses'] for r in moved), []))
    assert (found - losses).abs().max() < 1e-6

    whole = weights(tmp_path / 'one/epoch_3.pth')
    for name in ('two', 'moved'):
        other = weights(tmp_path / f'{name}/epoch_3.pth')
        assert other['param_schedulers'] == whole['param_schedulers']
        assert other['meta']['iter'] == whole['meta']['iter'] == 6
        for key, value in whole['state_dict'].items():
            difference = (other['state_dict'][key] - value).abs().max()
            assert difference < 1e-6, (name, key)
