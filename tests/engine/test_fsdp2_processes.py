# Copyright (c) MotionMAE contributors. All rights reserved.
"""FSDP2 on several processes: DDP, and one process, give the same."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from helpers.processes import hang, wait_until
from helpers.spread_runs import largest_difference, tensors_of, train_in
from mmengine.hooks import Hook
from mmengine.registry import STRATEGIES
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from mmmotionmae.checkpoints import sharded
from mmmotionmae.datasets import moving_shapes
from mmmotionmae.utils.run_folder import choose_checkpoint

PARTS = 'strategy.checkpoint.sharded=True'
ASYNCHRONOUS = 'strategy.checkpoint.asynchronous=True'
FSDP = ['--fsdp']


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Makes runs, each once, in folders side by side."""
    root, made = tmp_path_factory.mktemp('runs'), set()
    data = root / 'data'
    moving_shapes.write_dataset(
        data, num_pretrain=36, num_train=24, num_val=16, num_davis=0,
        disable=True,
    )  # fmt: skip

    def run(name, ranks, task, *options, again=False, **kwargs):
        if again or name not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(root)
                patch.setenv('DEMO_DATA', str(data))
                train_in(ranks, task, name, *options, **kwargs)
            made.add(name)
        return root / name

    return run


def losses_of(folder):
    return json.loads((folder / 'losses.json').read_text())


def distance(one, other, epochs=2):
    """The largest difference of a loss, and of a value in a checkpoint."""
    pairs = zip(losses_of(one), losses_of(other), strict=True)
    name = f'epoch_{epochs}.pth'
    return (
        max(abs(a - b) for a, b in pairs),
        largest_difference(one / name, other / name),
    )


@pytest.mark.slow
def test_pre_training_for_20_steps(runs):
    options = dict(epochs=7)
    one = runs('one-7', 0, 'pretrain', **options)
    ddp = runs('ddp-7', 2, 'pretrain', **options)
    fsdp = runs('fsdp-7', 2, 'pretrain', flags=FSDP, **options)
    assert len(losses_of(one)) == 21
    assert distance(ddp, fsdp, 7) == (0, 0)
    loss, weight = distance(one, fsdp, 7)
    assert loss < 1e-6 and weight < 1e-5
    four = runs('fsdp4-7', 4, 'pretrain', flags=FSDP, **options)
    loss, weight = distance(one, four, 7)
    assert loss < 1e-6 and weight < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize('flags', [[], ['--amp', 'bf16']], ids=['fp32', 'amp'])
def test_fine_tuning_with_everything(runs, flags):
    """Layer decay, averaged weights, clipping, accumulation, validation."""
    kind, flags = len(flags), ['--validate', *flags]
    one = runs(f'one-full{kind}', 0, 'full', flags=flags)
    ddp = runs(f'ddp-full{kind}', 2, 'full', flags=flags)
    fsdp = runs(f'fsdp-full{kind}', 2, 'full', flags=[*FSDP, *flags])
    loss, weight = distance(ddp, fsdp)
    assert loss < 1e-6 and weight < 1e-5
    if not kind:
        loss, weight = distance(one, fsdp)
        assert loss < 1e-6 and weight < 1e-5
    for name in ('backbone.pth', 'backbone_best.pth'):
        assert largest_difference(ddp / name, fsdp / name) < 1e-5
    hubs = [
        torch.load(f / 'epoch_2.pth', weights_only=True)['message_hub']
        for f in (ddp, fsdp)
    ]
    norms = [h['log_scalars']['train/grad_norm']['log_history'] for h in hubs]
    assert len(norms[0]) == 2 and torch.allclose(*norms, rtol=1e-6)
    averaged = tensors_of(fsdp / 'epoch_2.pth', 'ema_state_dict.module')
    current = tensors_of(fsdp / 'epoch_2.pth', 'state_dict')
    assert len(averaged) == len(current) > 30
    assert any(
        not torch.equal(value, current[name.replace('ema_state_dict.module',
                                                    'state_dict')])
        for name, value in averaged.items()
    )  # fmt: skip


KINDS = [(kind, ranks) for kind in ('ddp', 'fsdp') for ranks in (1, 2, 3)]


@pytest.mark.slow
@pytest.mark.parametrize('first', KINDS, ids=str)
@pytest.mark.parametrize('second', KINDS, ids=str)
def test_every_pair_resumes(runs, first, second):
    """The second half of a run is that of a run of the second kind.

    Bit for bit on as many processes, if these are one or two. Of three, sums
    differ in the last bit, with DDP, too.
    """

    def whole(kind, ranks):
        flags = FSDP if kind == 'fsdp' else []
        return runs(f'{kind}{ranks}', ranks, 'pretrain', flags=flags)

    given, goal = whole(*first), whole(*second)
    flags = FSDP if second[0] == 'fsdp' else []
    name = f'{"".join(map(str, first))}-{"".join(map(str, second))}'
    flags = [*flags, '--resume', str(given / 'epoch_1.pth')]
    run = runs(name, second[1], 'pretrain', flags=flags)
    pairs = [*zip(losses_of(run), losses_of(goal)[3:], strict=True)]
    loss = max(abs(a - b) for a, b in pairs)
    weight = largest_difference(run / 'epoch_2.pth', goal / 'epoch_2.pth')
    print(f'{first} -> {second}: {loss:.1e} {weight:.1e}')
    if first[1] == second[1] < 3:
        assert (loss, weight) == (0, 0)
    else:
        assert loss < 1e-6 and weight < 1e-5


@pytest.mark.slow
def test_averaged_weights_are_resumed(runs):
    flags = ['--validate']
    whole = runs('fsdp-full0', 2, 'full', flags=[*FSDP, *flags])
    for name, ranks, more in (('a', 2, FSDP), ('b', 2, []), ('c', 1, FSDP)):
        rest = runs(
            f'full-{name}',
            ranks,
            'full',
            flags=[*more, *flags, '--resume', str(whole / 'epoch_1.pth')],
        )
        difference = largest_difference(
            whole / 'epoch_2.pth', rest / 'epoch_2.pth'
        )
        assert difference <= (0 if name == 'a' else 1e-5)


# -------------------------------------------------------------------- in parts


@pytest.mark.slow
def test_parts_are_read_by_any_number(runs):
    whole = runs('fsdp2', 2, 'pretrain', flags=FSDP)
    parts = runs('parts2', 2, 'pretrain', PARTS, ASYNCHRONOUS, flags=FSDP)
    assert losses_of(whole) == losses_of(parts)
    assert (parts / 'last_checkpoint').read_text() == 'epoch_2.pth'
    names = {path.name for path in (parts / 'epoch_1.pth').iterdir()}
    assert names == {
        *('.metadata', 'index.json', 'rest.pth'),
        *('__0_0.distcp', '__1_0.distcp'),
    }
    sizes = [
        (parts / f'epoch_1.pth/__{rank}_0.distcp').stat().st_size
        for rank in range(2)
    ]
    assert max(sizes) < 1.2 * min(sizes)
    for kind, ranks in KINDS:
        flags = FSDP if kind == 'fsdp' else []
        goal = runs(f'{kind}{ranks}', ranks, 'pretrain', flags=flags)
        rest = runs(
            f'parts2-{kind}{ranks}',
            ranks,
            'pretrain',
            flags=[*flags, '--resume', str(parts / 'epoch_1.pth')],
        )
        difference = largest_difference(
            rest / 'epoch_2.pth', goal / 'epoch_2.pth'
        )
        assert difference <= (0 if ranks == 2 else 1e-5)


class Stop(Hook):
    """Ends all processes hard while the second checkpoint is written."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 7:  # the checkpoint of the sixth is under way
            Path(f'ready-{dist.get_rank()}').touch()
            wait_until(
                lambda: all(Path(f'ready-{r}').exists() for r in (0, 1))
            )
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_killed_while_it_writes(runs, monkeypatch):
    """The parts of all processes are there, but not the end of it."""
    finish = sharded._Writer.finish

    def hang_at_the_second(self, metadata, results):
        if self.folder.name == 'epoch_2.pth':
            hang()
        finish(self, metadata, results)

    options = [2, 'pretrain', PARTS, ASYNCHRONOUS]
    goal = runs('parts2-3', *options, flags=FSDP, epochs=3)
    with monkeypatch.context() as patch:
        patch.setattr(sharded._Writer, 'finish', hang_at_the_second)
        run = runs(
            'killed',
            *options,
            flags=FSDP,
            epochs=3,
            hooks=[Stop()],
            expected=-signal.SIGKILL,
        )
    assert (run / 'epoch_2.pth.tmp').is_dir()
    assert not (run / 'epoch_2.pth').exists()
    assert (run / 'last_checkpoint').read_text() == 'epoch_1.pth'
    assert choose_checkpoint(run).path == str(run / 'epoch_1.pth')
    flags = [*FSDP, '--resume']
    runs('killed', *options, flags=flags, epochs=3, again=True)
    assert losses_of(run) == losses_of(goal)[3:]
    assert not [*run.glob('*.tmp')]
    one, two = (sharded.read_sharded(f / 'epoch_3.pth') for f in (goal, run))
    for name, value in one['state_dict'].items():
        assert torch.equal(value, two['state_dict'][name]), name


class Ask(Hook):
    """The second process is asked to end in the second step."""

    def after_train_iter(self, runner, batch_idx, **kwargs):
        if runner.iter == 1 and dist.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize('options', [[], [PARTS, ASYNCHRONOUS]], ids=len)
def test_asked_to_end(runs, options):
    goal, name = (
        runs('fsdp2', 2, 'pretrain', flags=FSDP),
        f'asked{len(options)}',
    )
    arguments = [name, 2, 'pretrain', *options]
    run = runs(*arguments, flags=FSDP, hooks=[Ask()], expected=85)
    last = run / (run / 'last_checkpoint').read_text()
    assert last.name == 'interim_iter_3.pth'
    assert last.is_dir() == bool(options)
    runs(*arguments, flags=[*FSDP, '--resume'], again=True)
    assert losses_of(run) == losses_of(goal)[3:]
    assert not [*run.glob('interim*')]
    assert largest_difference(
        run / 'backbone.pth', goal / 'backbone.pth'
    ) == 0  # fmt: skip


# ------------------------------------------------------------------ two levels


class Placements(Hook):
    def before_train(self, runner):
        placements = {
            p.placements
            for p in runner.model.parameters()
            if isinstance(p, DTensor)
        }
        assert placements == {(Replicate(), Shard(0))}


@pytest.mark.slow
def test_copies_of_groups(runs):
    """Four processes in two groups, which hold copies of each other."""
    whole = runs('fsdp4', 4, 'pretrain', flags=FSDP)
    groups = runs(
        'hsdp4',
        4,
        'pretrain',
        'strategy.shard_size=2',
        flags=FSDP,
        hooks=[Placements()],
    )
    loss, weight = distance(whole, groups)
    assert loss < 1e-6 and weight < 1e-5


def test_a_thousand_processes_on_paper(tmp_path):
    """The first of 1024: what it holds, without the others."""
    dist.init_process_group('fake', store=FakeStore(), rank=0, world_size=1024)
    strategy = STRATEGIES.build(
        dict(
            type='FSDP2Strategy',
            work_dir=str(tmp_path),
            shard_size=8,
            env_kwargs=dict(launcher='pytorch', randomness=dict(seed=0)),
        )
    )
    model = torch.nn.Sequential()
    model.add_module('blocks', torch.nn.ModuleList(
        torch.nn.Linear(64, 64) for _ in range(2)
    ))  # fmt: skip
    model = strategy._wrap_model(model)
    count = sum(p.numel() for p in model.parameters())
    own = sum(p.to_local().numel() for p in model.parameters())
    assert (count, own) == (2 * (64 * 64 + 64), 2 * (64 * 64 + 64) // 8)
    assert next(model.parameters()).device_mesh.shape == (128, 8)
