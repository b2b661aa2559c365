"""DeepSpeed under MMEngine; what it does by itself is a stand-in here.

The real one is in `tests/engine/test_deepspeed_runs.py`.
"""

import contextlib
import sys
import types
from pathlib import Path

import pytest
import torch
from mmengine._strategy import DeepSpeedStrategy
from mmengine._strategy.deepspeed import DeepSpeedOptimWrapper
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIMIZERS
from torch import nn

from mmmotionmae.compat import deepspeed as mended
from mmmotionmae.compat import deepspeed_weights as shared
from mmmotionmae.engine.resuming.interim import remove_interim
from mmmotionmae.utils.errors import CheckpointError, UsageError
from mmmotionmae.utils.files import remove
from mmmotionmae.utils.run_folder import (
    last_checkpoint,
    note_last_checkpoint,
    sweep,
)

STRATEGY = sys.modules[DeepSpeedStrategy.__module__]


def test_it_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(STRATEGY, 'deepspeed', None)
    with pytest.raises(UsageError, match=r'mmmotionmae\[deepspeed\]'):
        DeepSpeedStrategy(work_dir=str(tmp_path))


def test_optimizers_that_there_are(monkeypatch):
    class FakeLamb(torch.optim.SGD):
        pass

    FakeLamb.__name__ = 'FusedLamb'
    lamb = types.ModuleType('deepspeed.ops.lamb')
    lamb.FusedLamb = FakeLamb
    monkeypatch.setitem(sys.modules, 'deepspeed', types.ModuleType('d'))
    for path, _ in mended._OPTIMIZERS:
        monkeypatch.setitem(sys.modules, path, None)
    monkeypatch.setitem(sys.modules, 'deepspeed.ops', types.ModuleType('o'))
    monkeypatch.setitem(sys.modules, 'deepspeed.ops.lamb', lamb)
    known = OPTIMIZERS.get('FusedLamb')
    assert STRATEGY.register_deepspeed_optimizers() == ['FusedLamb']
    assert STRATEGY.register_deepspeed_optimizers() == ['FusedLamb']
    if known is None:
        assert OPTIMIZERS.module_dict.pop('FusedLamb') is FakeLamb


def test_groups_of_the_same_settings_are_one():
    tensors = [nn.Parameter(torch.full((1,), float(i))) for i in range(5)]
    decays = (0.1, 0.0, 0.1, 0.0, 0.2)
    groups = [
        dict(params=[p], weight_decay=decay)
        for p, decay in zip(tensors, decays, strict=True)
    ]
    merged = torch.optim.AdamW([dict(g) for g in groups], lr=0.1)
    whole = torch.optim.AdamW(
        [
            dict(params=[p.detach().clone()], weight_decay=d)
            for p, d in zip(tensors, decays, strict=True)
        ],
        lr=0.1,
    )
    mended.merge_groups(merged)
    found = [
        ([int(p) for p in group['params']], group['weight_decay'])
        for group in merged.param_groups
    ]
    assert found == [([0, 2], 0.1), ([1, 3], 0.0), ([4], 0.2)]
    for p in tensors:
        p.grad = torch.ones(1)
    for group in whole.param_groups:
        group['params'][0].grad = torch.ones(1)
    merged.step()
    whole.step()
    for p, group in zip(tensors, whole.param_groups, strict=True):
        assert torch.equal(p, group['params'][0])


class Engine:
    """DeepSpeed's for one process, as far as accumulation goes."""

    def __init__(self, module, optimizer):
        self.module, self.optimizer = module, optimizer
        self.boundary, self.zero_grad = True, optimizer.zero_grad
        self.steps = 0

    def set_gradient_accumulation_boundary(self, boundary):
        self.boundary = boundary

    def backward(self, loss, scale_wrt_gas=True):
        assert not scale_wrt_gas
        loss.backward()

    def step(self):
        if self.boundary:
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.steps += 1


@pytest.mark.parametrize('counts', [1, 2, 3, 4])
@pytest.mark.parametrize('start', [0, 4])
def test_accumulation_is_that_of_optim_wrapper(counts, start):
    """Epochs of 10 batches: the last step takes those that are left."""
    weights = []
    for kind in (OptimWrapper, DeepSpeedOptimWrapper):
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        wrapper = kind(optimizer, accumulative_counts=counts)
        if kind is DeepSpeedOptimWrapper:
            wrapper.model = Engine(model, optimizer)
        due = []
        for first in (start, 0):
            wrapper.initialize_count_status(nn.Identity(), first, 10)
            for _ in range(first, 10):
                wrapper.update_params(model(torch.rand(2, 3)).square().mean())
                due.append(wrapper.should_update())
        weights.append((model.weight.detach(), due))
    (one, due), (two, ours) = weights
    assert due == ours
    if start % counts == 0:
        torch.testing.assert_close(one, two, rtol=0, atol=1e-7)


def folder_of(ranks, name='epoch_1.pth'):
    folder = Path(name)
    folder.mkdir()
    (folder / 'mp_rank_00_model_states.pt').touch()
    for rank in range(ranks):
        prefix = 'bf16_' if rank % 2 else ''
        path = f'{prefix}zero_pp_rank_{rank}_mp_rank_00_optim_states.pt'
        (folder / path).touch()
    return name


def test_folders_to_go_on_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    two = folder_of(2)
    shared.check_folder(two, 2)
    shared.check_folder(folder_of(0, 'stage0'), 5)
    for world in (1, 3):
        with pytest.raises(
            CheckpointError, match=f'of 2 processes, and this run has {world}'
        ):
            shared.check_folder(two, world)
    Path('empty').mkdir()
    with pytest.raises(CheckpointError, match='no checkpoint of DeepSpeed.$'):
        shared.check_folder('empty', 1)
    Path('a.pth').touch()
    with pytest.raises(CheckpointError, match='which is a folder'):
        shared.check_folder('a.pth', 1)


def make_strategy(**attributes):
    strategy = DeepSpeedStrategy.__new__(DeepSpeedStrategy)
    vars(strategy).update(attributes)
    return strategy


class Saved:
    """Writes a folder, or is killed while it does."""

    killed = False

    def zero_optimization_partition_weights(self):
        return False

    def save_checkpoint(self, folder, tag, client_state, **kwargs):
        path = Path(folder, tag)
        path.mkdir()
        torch.save(client_state, path / 'mp_rank_00_model_states.pt')
        if self.killed:
            raise KeyboardInterrupt
        (path / 'whole').touch()


def test_saving(tmp_path, monkeypatch):
    """Hooks see the weights; a folder is whole, or is not there."""
    monkeypatch.setattr(
        STRATEGY, 'deepspeed', types.SimpleNamespace(__version__='0.19')
    )
    state = dict(weight=torch.ones(2))
    monkeypatch.setattr(
        DeepSpeedStrategy, 'model_state_dict', lambda self: state
    )
    strategy = make_strategy(
        model=Saved(), exclude_frozen_parameters=None, _seed=1
    )
    seen = []

    def callback(content):
        seen.append(content['state_dict'])
        content['meta']['pace'] = [1, 2]

    def save():
        strategy.save_checkpoint(
            str(tmp_path / 'epoch_1.pth'),
            extra_ckpt=dict(meta=dict(epoch=1, path=Path('a'))),
            callback=callback,
        )

    save()
    save()  # in place of the first
    assert seen == [state, state]
    folder = tmp_path / 'epoch_1.pth'
    content = torch.load(
        folder / 'mp_rank_00_model_states.pt', weights_only=True
    )
    assert content['meta']['pace'] == [1, 2]
    assert content['meta']['path'] == 'a' and 'state_dict' not in content

    before = sorted(folder.iterdir())
    Saved.killed = True
    with pytest.raises(KeyboardInterrupt):
        save()
    monkeypatch.undo()
    assert sorted(folder.iterdir()) == before
    assert sweep(tmp_path) == [tmp_path / 'epoch_1.pth.tmp']
    assert [*tmp_path.iterdir()] == [folder]
    remove(folder)
    remove(folder)  # is not there any more
    assert not folder.exists()


def test_weights_of_a_file_reach_the_optimizer(tmp_path, monkeypatch):
    """`load_from` takes a checkpoint of any kind."""
    fake = types.ModuleType('deepspeed.runtime.zero')
    fake.GatheredParameters = lambda *args, **kwargs: contextlib.nullcontext()
    for name in ('deepspeed', 'deepspeed.runtime'):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, 'deepspeed.runtime.zero', fake)
    model, given = nn.Linear(2, 1), nn.Linear(2, 1)
    refreshed = []
    optimizer = types.SimpleNamespace(
        refresh_fp32_params=lambda: refreshed.append(model.weight.tolist())
    )
    engine = types.SimpleNamespace(module=model, optimizer=optimizer)
    strategy = make_strategy(model=types.SimpleNamespace(model=engine))
    path, folder = tmp_path / 'a.pth', tmp_path / 'b.pth'
    folder.mkdir()
    torch.save(dict(state_dict=given.state_dict()), path)
    torch.save(
        dict(module=given.state_dict()), folder / 'mp_rank_00_model_states.pt'
    )
    seen = []
    for source in (path, folder):
        nn.init.zeros_(model.weight)
        strategy.load_checkpoint(str(source), callback=seen.append)
        assert torch.equal(model.weight, given.weight)
    assert refreshed == [given.weight.tolist()] * 2
    assert all('state_dict' in content for content in seen)
    (folder / 'mp_rank_00_model_states.pt').unlink()
    with pytest.raises(
        CheckpointError, match='is a folder; a checkpoint file'
    ):
        strategy.load_checkpoint(str(folder))


def test_what_is_given_to_deepspeed(monkeypatch):
    """One group for settings, the scaled rate, and plain settings."""
    given = {}

    def initialize(model, optimizer, config):
        rates = [group['lr'] for group in optimizer.param_groups]
        given.update(rates=rates, config=config)
        return types.SimpleNamespace(module=model), optimizer, None, None

    accelerator = types.ModuleType('deepspeed.accelerator')
    accelerator.get_accelerator = lambda: types.SimpleNamespace(
        device_name=lambda: 'cpu'
    )
    ops = types.ModuleType('deepspeed.ops')
    ops.__compatible_ops__ = dict(deepspeed_shm_comm=True, other=True)
    for module in (types.ModuleType('deepspeed'), accelerator, ops):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(
        STRATEGY, 'deepspeed', types.SimpleNamespace(initialize=initialize)
    )
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(
        [dict(params=[p]) for p in model.parameters()], lr=0.1
    )
    config = Config(dict(zero_optimization=dict(stage=1)))._cfg_dict
    strategy = make_strategy(
        optim_wrapper=DeepSpeedOptimWrapper(optimizer),
        config=config,
        dispatch_kwargs=dict(train_micro_batch_size_per_gpu=4),
        logger=MMLogger.get_instance('a', log_level='ERROR'),
        _auto_scale_lr=dict(enable=True, base_batch_size=2),
        _world_size=3,
        _inputs_to_half=None,
    )
    strategy._wrap_model(model)
    assert given['rates'] == [pytest.approx(0.6)]
    assert type(given['config']['zero_optimization']) is dict
    assert ops.__compatible_ops__ == dict(deepspeed_shm_comm=False, other=True)


def test_interim_folders(tmp_path):
    """A run that has a later checkpoint leaves none of these."""
    for name in ('interim_iter_3.pth', 'interim_iter_4.pth', 'epoch_1.pth'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'mp_rank_00_model_states.pt').touch()
    note_last_checkpoint(tmp_path, str(tmp_path / 'interim_iter_4.pth'))
    runner = types.SimpleNamespace(work_dir=str(tmp_path), epoch=1, iter=4)
    remove_interim(runner)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'epoch_1.pth',
        'last_checkpoint',
    ]
    assert last_checkpoint(tmp_path) == str(tmp_path / 'epoch_1.pth')
