# Copyright (c) MotionMAE contributors. All rights reserved.
"""`FSDP2Strategy` trains, saves and resumes as DDP, and as one process."""

import copy
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from helpers.resumed_runs import FINETUNE, load_tool
from helpers.spread_runs import (
    largest_difference,
    sizes_of,
    train,
    train_in,
)
from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.registry import STRATEGIES
from torch.distributed.tensor import DTensor, Shard

from mmmotionmae.checkpoints import CheckpointError, read_checkpoint, sharded
from mmmotionmae.checkpoints.sharded import read_sharded
from mmmotionmae.datasets import moving_shapes
from mmmotionmae.evaluation.reconstruction_scoring import score_batch
from mmmotionmae.utils.errors import UsageError
from mmmotionmae.utils.run_folder import choose_checkpoint, sweep
from mmmotionmae.utils.sharded_folders import problem_of_folder
from mmmotionmae.utils.sharding import gathered

TEST = load_tool('test')
PARTS = 'strategy.checkpoint.sharded=True'


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """36 videos: three steps of an epoch for 1, 2, 3 and 4 processes."""
    root = tmp_path_factory.mktemp('shapes') / 'data'
    moving_shapes.write_dataset(
        root, num_pretrain=36, num_train=24, num_val=16, num_davis=0,
        disable=True,
    )  # fmt: skip
    return root


@pytest.fixture(scope='module')
def runs(data, tmp_path_factory):
    """Makes runs, each once: number of processes, task, options -> folder."""
    root, made = tmp_path_factory.mktemp('runs'), {}

    def run(name, ranks, task, *options, **kwargs):
        if name not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(root)
                patch.setenv('DEMO_DATA', str(data))
                train_in(ranks, task, name, *options, **kwargs)
            made[name] = root / name
        return made[name]

    return run


@pytest.fixture
def in_folder(data, tmp_path, monkeypatch):
    monkeypatch.setenv('DEMO_DATA', str(data))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def losses_of(folder):
    return json.loads((folder / 'losses.json').read_text())


# ------------------------------------------------------- a process of its own


class Watch(Hook):
    """Looks at what is spread, and at how."""

    def before_train(self, runner):
        model = runner.model
        self.parts = {
            name: p.placements
            for name, p in model.named_parameters()
            if isinstance(p, DTensor)
        }
        self.names = [name for name, _ in model.named_parameters()]
        self.classes = [type(b).__name__ for b in model.backbone.blocks]
        self.groups = groups_of(runner)


class Groups(Hook):
    def before_train(self, runner):
        self.groups = groups_of(runner)


def groups_of(runner):
    """Shape, rate and decay of each parameter, in the optimiser's order."""
    return [
        (tuple(p.shape), group['lr'], group['weight_decay'])
        for group in runner.optim_wrapper.optimizer.param_groups
        for p in group['params']
    ]


def test_one_process_needs_no_launcher(in_folder):
    watch, groups = Watch(), Groups()
    losses = train('pretrain', 'plain', epochs=1, hooks=[groups])
    spread = train(
        'pretrain', 'spread', flags=['--fsdp'], epochs=1, hooks=[watch]
    )
    assert losses == spread and len(losses) == 3
    assert [*watch.parts] == watch.names and len(watch.names) > 30
    assert {*watch.parts.values()} == {(Shard(0),)}
    assert watch.classes == ['FSDPFusedBlock'] * 2
    assert watch.groups == groups.groups
    assert len({decay for _, _, decay in groups.groups}) == 2
    for name in ('epoch_1.pth', 'backbone.pth'):
        assert largest_difference(f'plain/{name}', f'spread/{name}') == 0
    cards = [
        json.loads(Path(f, 'backbone.json').read_text())['tensors']
        for f in ('plain', 'spread')
    ]
    assert cards[0] == cards[1] and cards[0]['count'] > 20


@pytest.mark.parametrize(
    ('options', 'hooks'),
    [
        pytest.param(
            [],
            [dict(type='CompileBlocksHook', backend='eager')],
            marks=pytest.mark.slow,
        ),
        (['model.head.balance.type=GradientBalance'], []),
    ],
    ids=['compiled', 'balanced'],
)
def test_blocks_that_are_run_in_other_ways(in_folder, options, hooks):
    losses = [
        train('pretrain', name, *options, flags=flags, epochs=1,
              hooks=[HOOKS.build(hook) for hook in hooks])
        for name, flags in (('plain', []), ('spread', ['--fsdp']))
    ]  # fmt: skip
    assert losses[0] == losses[1]
    assert largest_difference('plain/epoch_1.pth', 'spread/epoch_1.pth') == 0


def test_blocks_in_half_precision(in_folder):
    """Weights, and what is between the blocks, stay as they are."""

    class Types(Hook):
        def before_train(self, runner):
            self.seen = []
            block = runner.model.backbone.blocks[1]
            block.attn.register_forward_hook(self.look)
            block.register_forward_hook(self.look)

        def look(self, module, inputs, output):
            types = {p.dtype for p in module.parameters()}
            self.seen.append((*types, output.dtype))

    types = Types()
    exact = train('pretrain', 'plain', epochs=1)
    options = ['strategy.param_dtype=bfloat16']
    half = train(
        'pretrain', 'half', *options, flags=['--fsdp'], epochs=1, hooks=[types]
    )
    bfloat16, float32 = torch.bfloat16, torch.float32
    assert types.seen[0] == (bfloat16, bfloat16)
    assert types.seen[1][-1] == float32
    assert exact != half and exact == pytest.approx(half, rel=0.02)
    difference = largest_difference('plain/epoch_1.pth', 'half/epoch_1.pth')
    assert 0 < difference < 0.1
    state = torch.load('half/epoch_1.pth', weights_only=True)['state_dict']
    assert {v.dtype for v in state.values() if v.is_floating_point()} == {
        float32
    }


class Scores(Hook):
    """Reconstructs a batch, before and after training."""

    def __init__(self):
        self.errors = []

    def before_train(self, runner):
        self.validate(runner)

    def after_train(self, runner):
        self.validate(runner)

    @torch.no_grad()
    def validate(self, runner):
        batch = next(iter(runner.train_dataloader))
        with gathered(runner.model):
            self.errors.append(score_batch(runner.model, batch))


def test_reconstructions_without_forward(in_folder):
    plain, spread = Scores(), Scores()
    losses = train('pretrain', 'plain', epochs=1, hooks=[plain])
    flags = ['--fsdp']
    assert losses == train(
        'pretrain', 'spread', flags=flags, epochs=1, hooks=[spread]
    )
    assert len(plain.errors) == len(spread.errors) == 2
    for one, other in zip(plain.errors, spread.errors, strict=True):
        for ours, theirs in zip(one, other, strict=True):
            assert ours.keys() == theirs.keys() == {'pixel', 'motion'}
            for name, errors in ours.items():
                found = theirs[name].sums
                assert torch.equal(found['residual'], errors.sums['residual'])
                assert found['residual'].sum() > 0


def test_settings_without_a_sense(in_folder):
    def build(**settings):
        return STRATEGIES.build(
            dict(
                type='FSDP2Strategy',
                env_kwargs=dict(launcher='none', randomness=dict(seed=0)),
                **settings,
            )
        )

    for settings, text in (
        (dict(param_dtype='float64'), "param_dtype must be .* 'float64'"),
        (dict(reduce_dtype=None), 'reduce_dtype must be .* None'),
        (dict(cpu_offload=True), 'cpu_offload=True is for training on a GPU'),
        (dict(model_wrapper=dict(type='x')), 'model_wrapper is for DDP'),
        (dict(checkpoint=dict(asynchronous=True)), 'needs sharded=True'),
        (dict(checkpoint=dict(shards=True)), 'takes True and False'),
        (dict(checkpoint='sharded'), "and False, not 'sharded'"),
    ):
        with pytest.raises(UsageError, match=text):
            build(**settings)
    for size in (2, 0, 'rack'):
        with pytest.raises(UsageError, match=f'shard_size={size!r} must'):
            build(shard_size=size)._wrap_model(torch.nn.Linear(2, 2))


def test_a_model_without_such_blocks(in_folder):
    options = ['strategy.blocks=[such]']
    with pytest.raises(UsageError, match="no blocks in a list 'such'"):
        train('pretrain', 'run', *options, flags=['--fsdp'], epochs=1)


def test_fsdp_refuses_other_strategies(in_folder):
    options = ['strategy.type=DeepSpeedStrategy']
    with pytest.raises(UsageError, match='--fsdp is FSDP2Strategy, but'):
        train('pretrain', 'run', *options, flags=['--fsdp'], epochs=1)


class Averages(Hook):
    """Copies the model, as `EMAHook` does."""

    def before_train(self, runner):
        self.model, self.copy = runner.model, copy.deepcopy(runner.model)


def test_copies_hold_parts_and_cannot_gather(in_folder):
    hook = Averages()
    train('pretrain', 'run', flags=['--fsdp'], epochs=1, hooks=[hook])
    assert type(hook.copy).__name__ == 'MotionMAE'
    assert type(hook.copy.backbone.blocks[0]).__name__ == 'FusedBlock'
    ours, theirs = hook.copy.state_dict(), hook.model.state_dict()
    assert ours.keys() == theirs.keys()
    first = next(hook.copy.parameters())
    assert isinstance(first, DTensor)
    moved = [
        name
        for name, value in hook.copy.named_parameters()
        if not torch.equal(value.full_tensor(), theirs[name].full_tensor())
    ]
    assert len(moved) > 30  # the model has been trained since
    assert not any(m._forward_pre_hooks for m in hook.copy.modules())


# ----------------------------------------------------- checkpoints in folders


@pytest.fixture(scope='module')
def folder(runs):
    """A run of one process that has saved in parts, and one that has not."""
    options = ['default_hooks.timed_checkpoint.minutes=0',
               'default_hooks.timed_checkpoint.interval=2']  # fmt: skip
    return (
        runs('parts-1', 0, 'pretrain', PARTS, *options, flags=['--fsdp']),
        runs('whole-1', 0, 'pretrain', flags=['--fsdp']),
    )


def test_a_folder_is_the_file(folder):
    parts, whole = folder
    assert losses_of(parts) == losses_of(whole)
    assert (parts / 'epoch_2.pth').is_dir()
    assert (parts / 'last_checkpoint').read_text() == 'epoch_2.pth'
    assert not [*parts.glob('*.tmp')] and not [*parts.glob('interim*')]
    content = read_sharded(parts / 'epoch_2.pth')
    expected = torch.load(whole / 'epoch_2.pth', weights_only=True)
    assert [*content] == [*expected]
    assert [*content['state_dict']] == [*expected['state_dict']]
    for name, value in expected['state_dict'].items():
        assert torch.equal(content['state_dict'][name], value), name
    for index, state in expected['optimizer']['state'].items():
        for name, value in state.items():
            assert torch.equal(content['optimizer']['state'][index][name],
                               value)  # fmt: skip
    one, two = (read_checkpoint(f / 'epoch_2.pth') for f in folder)
    assert one.tensors.keys() == two.tensors.keys()
    assert all(
        torch.equal(one.tensors[n], two.tensors[n]) for n in one.tensors
    )


def test_a_folder_is_resumed_by_any_run(folder, in_folder):
    parts, whole = folder
    for name, flags in (('plain', []), ('spread', ['--fsdp'])):
        flags += ['--resume', str(parts / 'epoch_1.pth')]
        losses = train('pretrain', name, flags=flags)
        assert losses == losses_of(whole)[3:]
        assert largest_difference(
            whole / 'epoch_2.pth', f'{name}/epoch_2.pth'
        ) == 0  # fmt: skip


def test_old_folders_make_room(runs):
    """Written while training goes on; the one before is complete by then."""
    options = [PARTS, 'strategy.checkpoint.asynchronous=True']
    options += ['default_hooks.checkpoint.max_keep_ckpts=1']
    run = runs('few', 0, 'pretrain', *options, flags=['--fsdp'], epochs=3)
    assert [path.name for path in run.glob('epoch*')] == ['epoch_3.pth']
    assert (run / 'last_checkpoint').read_text() == 'epoch_3.pth'
    assert problem_of_folder(run / 'epoch_3.pth') is None


def test_a_full_disk_is_told_in_one_line(in_folder, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(28, 'No space left on device', 'x.distcp')

    monkeypatch.setattr(sharded._Writer, 'write_data', fail)
    for more in ([], ['strategy.checkpoint.asynchronous=True']):
        with pytest.raises(CheckpointError, match='could not be .*No space'):
            train('pretrain', 'full', PARTS, *more, flags=['--fsdp'], epochs=1)
        assert not Path('full/last_checkpoint').exists()


def test_a_test_of_parts(in_folder):
    """It tells what it tests by its weights, which each has a part of."""
    train('finetune', 'tuned', epochs=1)
    results, scores = [], []
    for name in ('plain', 'spread'):
        argv = [str(FINETUNE), 'tuned/epoch_1.pth', '--dump', f'{name}.pkl']
        argv += ['--cfg-options', 'log_level=ERROR', *sizes_of('finetune')]
        argv += [f'experiment_name={name}']
        if name == 'spread':
            argv += ['runner_type=FlexibleRunner']
            argv += ['strategy.type=FSDP2Strategy']
        results.append(TEST.test(TEST.parse_args(argv)))
        dump = pickle.loads(Path(f'{name}.pkl').read_bytes())
        scores.append(torch.stack([r['pred_score'] for r in dump]))
    assert results[0] == results[1]
    assert scores[0].shape == (16, 8) and torch.equal(*scores)


def test_broken_folders_are_passed_over(folder, in_folder):
    work_dir = in_folder / 'run'
    shutil.copytree(folder[0], work_dir)
    assert choose_checkpoint(work_dir).path == str(work_dir / 'epoch_2.pth')
    broken = work_dir / 'epoch_2.pth'
    data = (broken / '__0_0.distcp').read_bytes()
    for name, content, text in (
        ('__0_0.distcp', data[:-100], '__0_0.distcp is missing or truncated'),
        ('rest.pth', b'PK', r'is damaged \(rest.pth\)'),
        ('index.json', '{"tensors": 3}', r'is damaged \(index.json\)'),
        ('index.json', None, 'is incomplete, .* no index.json'),
    ):
        before = (broken / name).read_bytes()
        if content is None:
            (broken / name).unlink()
        else:
            content = (
                content if isinstance(content, bytes) else content.encode()
            )
            (broken / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=text):
            read_sharded(broken)
        chosen, passed_over = choose_checkpoint(work_dir)
        assert chosen == str(work_dir / 'epoch_1.pth')
        assert len(passed_over) == 1 and str(broken) in passed_over[0]
        (broken / name).write_bytes(before)
    assert problem_of_folder(broken) is None


class Bomb:
    def __reduce__(self):
        return exec, ('raise SystemExit("it has run")',)


def test_no_code_runs(folder, in_folder):
    """Neither from the metadata, nor from the parts, nor from the rest."""
    bomb = pickle.dumps(Bomb())
    shutil.copytree(folder[0] / 'epoch_1.pth', 'c')
    path = Path('c')
    expected = read_sharded(path)['state_dict']
    (path / '.metadata').write_bytes(bomb)
    content = read_sharded(path)['state_dict']
    assert all(torch.equal(content[n], expected[n]) for n in expected)

    index = json.loads((path / 'index.json').read_text())
    part = next(iter(index['tensors'].values()))['parts'][0]
    data = (path / '__0_0.distcp').read_bytes()
    (path / '__0_0.distcp').write_bytes(
        data[: part['start']] + bomb + data[part['start'] + len(bomb) :]
    )
    with pytest.raises(
        Exception, match='(?i)weights.?only|unsupported|GLOBAL'
    ):
        read_sharded(path)
    (path / '__0_0.distcp').write_bytes(data)

    part['file'] = '../../secret'
    (path / 'index.json').write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match='index.json'):
        read_sharded(path)

    torch.save(dict(state_dict={}, x=Bomb()), path / 'rest.pth')
    part['file'] = '__0_0.distcp'
    (path / 'index.json').write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match='^c was not loaded: .* more'):
        read_sharded(path)


def test_half_written_folders_are_swept(in_folder):
    for name in ('a.pth.tmp', 'b.tmp', 'c'):
        Path(name).mkdir()
        Path(name, '__0_0.distcp').touch()
    Path('b.tmp', 'of_another').touch()
    assert [p.name for p in sweep(in_folder)] == ['a.pth.tmp']
    assert sorted(p.name for p in in_folder.iterdir()) == ['b.tmp', 'c']
