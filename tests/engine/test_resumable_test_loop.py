# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/test.py --dump`, interrupted and gone on with."""

import csv
import importlib.util
import json
import os
import pickle
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import torch
from helpers.global_state import forget_managers, isolated
from helpers.processes import HUNG
from mmaction.models import Recognizer3D
from mmaction.registry import DATASETS, MODELS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.runner import load_checkpoint
from mmengine.structures import InstanceData

from mmmotionmae.apis import UsageError
from mmmotionmae.engine.loops.resumable_test_loop import (
    BatchWriter,
    read_batches,
)
from mmmotionmae.utils.progress import RecordFile

ROOT = Path(__file__).parents[2]
FINETUNE = (
    ROOT / 'configs/demo/vit-tiny-p8_scratch_1xb32-8x1x1-15e_moving-shapes.py'
)
CONFIG = f"""
_base_ = [{str(FINETUNE)!r}]
test_dataloader = dict(batch_size=BATCH_SIZE)
test_evaluator = dict(type='AccReportMetric')
"""
# What the same test is without anything of ours but VideoEvaluator.
STOCK = """
_base_ = ['config.py']
test_evaluator = dict(
    _delete_=True,
    type='VideoEvaluator',
    metrics=[
        dict(type='AccMetric'),
        dict(type='DumpResults', out_file_path='stock.pkl'),
    ],
)
test_dataloader = dict(dataset=dict(leave_out=True))
"""
# Ends a process before a batch.
STOPPER = """
_base_ = ['config.py']
custom_imports = dict(imports=['mmmotionmae', 'stopper'])
custom_hooks = [dict(type='Stopper', batch=BATCH)]
"""
STOPPER_HOOK = """
from mmaction.registry import HOOKS
from mmengine.dist import barrier
from mmengine.hooks import Hook

@HOOKS.register_module()
class Stopper(Hook):
    def __init__(self, batch):
        self.batch = batch

    def before_test_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == self.batch:
            barrier()  # the launcher ends all as soon as one has failed
            raise RuntimeError('stopped')
"""


class StoppedError(Exception):
    pass


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch, shapes_dir, weights):
    (tmp_path / 'data').mkdir()
    for path in shapes_dir.iterdir():
        (tmp_path / 'data' / path.name).symlink_to(path)
    monkeypatch.setenv('DEMO_DATA', str(tmp_path / 'data'))
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.chdir(tmp_path)
    write_config(batch_size=1)
    Path('stock.py').write_text(STOCK)
    Path('a.pth').symlink_to(weights / '0.pth')
    Path('b.pth').symlink_to(weights / '1.pth')


def write_config(batch_size):
    text = CONFIG.replace('BATCH_SIZE', str(batch_size))
    Path('config.py').write_text(text)


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """A folder with two checkpoints."""
    folder = tmp_path_factory.mktemp('weights')
    with isolated():
        model = MODELS.build(Config.fromfile(FINETUNE).model)
        for seed in (0, 1):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.normal_(std=0.3)
            checkpoint = dict(state_dict=model.state_dict(), meta={})
            torch.save(checkpoint, folder / f'{seed}.pth')
    return folder


def spoil(*numbers):
    """Make videos of the test list unreadable; returns their paths."""
    lines = Path('data/val.txt').read_text().splitlines()
    paths = [Path('data', lines[i].rsplit(' ', 1)[0]) for i in numbers]
    folder = Path('data/videos')  # a link
    original = folder.resolve()
    folder.unlink()
    shutil.copytree(original, folder)
    for path in paths:
        path.write_bytes(path.read_bytes()[:40])
    return paths


def load_tool():
    path = ROOT / 'tools/test.py'
    spec = importlib.util.spec_from_file_location('test_tool', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOOL = load_tool()


def run(*argv, config='config.py', checkpoint='a.pth', options=()):
    forget_managers()  # a log for each run
    return TOOL.test(
        TOOL.parse_args(
            [
                *[config, checkpoint, '--work-dir', 'run', *argv],
                *['--cfg-options', f'experiment_name={uuid.uuid4().hex}'],
                *options,
            ]
        )
    )


def dump(*argv, **kwargs):
    return run('--dump', 'out.pkl', *argv, **kwargs)


@pytest.fixture
def interrupt(monkeypatch):
    """Let a test end with an error at the batch of this number."""

    def interrupt(batch, *argv, **kwargs):
        test_step, count = Recognizer3D.test_step, iter(range(1000))

        def stop(self, data):
            if next(count) == batch:
                raise StoppedError
            return test_step(self, data)

        with monkeypatch.context() as patch:
            patch.setattr(Recognizer3D, 'test_step', stop)
            with pytest.raises(StoppedError):
                dump(*argv, **kwargs)

    return interrupt


@pytest.fixture
def seen(monkeypatch):
    """How many videos the model gets."""
    counts = []
    test_step = Recognizer3D.test_step

    def count(self, data):
        counts.append(len(data['inputs']))
        return test_step(self, data)

    monkeypatch.setattr(Recognizer3D, 'test_step', count)
    return counts


def start(processes, *argv):
    """The tool in processes of its own."""
    launcher = [
        *[sys.executable, '-m', 'torch.distributed.run', '--standalone'],
        *[f'--nproc_per_node={processes}', ROOT / 'tools/test.py'],
    ]
    flags = ['--launcher', 'pytorch', '--dump', 'out.pkl']
    return subprocess.run(
        [*launcher, *argv, 'a.pth', '--work-dir', 'run', *flags],
        env=dict(
            os.environ,
            PYTHONPATH=f'{ROOT}{os.pathsep}{Path.cwd()}',
            OMP_NUM_THREADS='1',
        ),
        capture_output=True,
        text=True,
        timeout=HUNG,
    )


def load(path='out.pkl'):
    with open(path, 'rb') as file:
        return pickle.load(file)


def assert_same_dumps(ours, stock):
    """Types, names, order and every bit."""
    assert type(ours) is type(stock) and len(ours) == len(stock) > 0
    for one, other in zip(ours, stock, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert type(value) is type(other[name])
            if isinstance(value, torch.Tensor):
                assert value.dtype == other[name].dtype
                assert torch.equal(value, other[name])
            else:
                assert value == other[name]
    assert len({tuple(one['pred_score'].tolist()) for one in ours}) > 8


@pytest.fixture(scope='module')
def stock_runs():
    """Metrics and dumps of stock parts, by what can differ."""
    return {}


@pytest.fixture
def assert_finished(stock_runs):
    def check(metrics, **kwargs):
        """All is as in a test with stock parts, and nothing is left over."""
        expected, dumped = run_stock(**kwargs)
        assert {name: metrics[name] for name in expected} == expected
        assert_same_dumps(load(), dumped)
        assert [path.name for path in Path().glob('out.pkl*')] == ['out.pkl']

    def run_stock(bad=()):
        key = (Path('config.py').read_text(), bad)
        if key not in stock_runs:
            metrics = run(config='stock.py')
            stock_runs[key] = metrics, load('stock.pkl')
            assert metrics['left_out'] == len(bad)
        return stock_runs[key]

    check.run_stock = run_stock
    return check


def last_log():
    logs = sorted(Path('run').glob('*/*.log'), key=os.path.getmtime)
    return logs[-1].read_text()


# ------------------------------------------------------------- one process


@pytest.mark.parametrize('batch_size', [1, 3])
def test_without_interruption_it_is_the_stock_dump(
    batch_size, assert_finished
):
    write_config(batch_size)
    assert_finished(dump())


@pytest.mark.parametrize('batch_size,batch', [(1, 5), (3, 2), (3, 0)])
def test_it_goes_on(interrupt, seen, batch_size, batch, assert_finished):
    write_config(batch_size)
    interrupt(batch)
    assert not Path('out.pkl').exists()
    seen.clear()
    metrics = dump()
    done = batch * batch_size
    assert sum(seen) == 16 - done
    assert (f'{done} of 16 samples are done' in last_log()) == (done > 0)
    assert_finished(metrics)


def test_interrupted_three_times(interrupt, seen, assert_finished):
    for batch in (4, 0, 6):
        interrupt(batch)
    seen.clear()
    metrics = dump()
    assert sum(seen) == 6
    assert_finished(metrics)


def test_an_evaluation_that_failed_needs_no_model(
    seen, monkeypatch, assert_finished
):
    cls = 'mmmotionmae.evaluation.VideoEvaluator.evaluate'
    with monkeypatch.context() as patch:
        patch.setattr(cls, lambda self, size: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            dump()
    assert sum(seen) == 16
    metrics = dump()
    assert sum(seen) == 16  # no more
    assert_finished(metrics)


@pytest.mark.parametrize('tail', [b'', b'\0' * 50])
def test_a_batch_that_was_cut_off_does_not_count(
    interrupt, seen, tail, assert_finished
):
    interrupt(5)
    (part,) = Path('out.pkl.parts').glob('*.part')
    part.write_bytes(part.read_bytes()[: -1 if not tail else None] + tail)
    seen.clear()
    metrics = dump()
    assert sum(seen) == (11 if tail else 12)
    assert_finished(metrics)


def test_bad_videos(interrupt, assert_finished):
    before, after = spoil(2, 9)
    interrupt(5)
    metrics = dump()
    assert metrics['left_out'] == 2
    assert len(load()) == 14
    # The list has the one of before the interruption, too.
    listed = Path('run/bad_videos.txt').read_text().splitlines()
    assert {line.split('\t')[0] for line in listed} == {
        str(path.absolute()) for path in (before, after)
    }
    assert_finished(metrics, bad=(2, 9))


def test_parts_are_small(interrupt):
    write_config(batch_size=8)
    interrupt(1)
    (part,) = Path('out.pkl.parts').glob('*.part')
    assert part.stat().st_size < 8 * 1000  # one clip has 24576 bytes


def test_tensors_of_all_kinds_come_back(tmp_path):
    every = torch.arange(12).reshape(3, 4)
    kinds = dict(
        f32=every.float().requires_grad_(),
        f64=every.double(),
        f16=every.half(),
        bf16=every.bfloat16(),
        bool=every > 4,
        u8=every.byte(),
        view=every.t()[1:3],
        scalar=torch.tensor(3.5),
        empty=torch.zeros(0, 2),
    )
    nested = InstanceData(labels=every[0], boxes=every[1:2].expand(4, 4))
    sample = ActionDataSample(metainfo=dict(name='é', shape=(2, 3)))
    for name, value in kinds.items():
        sample.set_field(value, name)
    sample.set_field(nested, 'nested')
    sample.set_field([dict(deep=every[2])], 'listed')
    with RecordFile(tmp_path / '1-0.part') as file:
        BatchWriter(file, [7], dict).process([sample])
    (batch,) = read_batches(tmp_path)
    assert batch.indices == [7] and batch.bad == {}
    (found,) = batch.samples
    for name, value in kinds.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value.detach())
        assert not found[name].requires_grad
    assert found['name'] == 'é' and found['shape'] == (2, 3)
    assert torch.equal(found['nested']['labels'], every[0])
    assert torch.equal(found['nested']['boxes'], every[1:2].expand(4, 4))
    assert torch.equal(found['listed'][0]['deep'], every[2])


# --------------------------------------------------------------- the card


@pytest.fixture
def assert_refused(seen):
    """Check that a test is refused, and that all stays as it is."""

    def check(part, **kwargs):
        before = sorted(os.listdir('out.pkl.parts'))
        seen.clear()
        with pytest.raises(UsageError) as error:
            dump(**kwargs)
        for text in ('out.pkl.parts', part, '--dump', '--overwrite'):
            assert text in str(error.value)
        assert sorted(os.listdir('out.pkl.parts')) == before and not seen

    return check


def overwrite_parts(seen, **kwargs):
    """The way out that the message names."""
    before = sorted(os.listdir('out.pkl.parts'))
    dump('--overwrite', **kwargs)
    assert sum(seen) == 16 and len(load()) == 16
    (aside,) = Path().glob('out.pkl.parts*')
    assert sorted(os.listdir(aside)) == before


def test_another_card_is_refused(interrupt, seen, assert_refused):
    interrupt(3)
    settings = {
        'model.cls_head.average_clips=score': 'model',
        'test_dataloader.dataset.pipeline.1.frame_interval=2': (
            'frame_interval: 1 -> 2'
        ),
    }
    for setting, part in settings.items():
        assert_refused(part, options=[setting])
    path = Path('data/val.txt')
    lines = path.read_text().splitlines()
    original = path.readlink()
    path.unlink()
    path.write_text('\n'.join([lines[1], lines[0], *lines[2:]]))
    assert_refused('list')
    path.unlink()
    path.symlink_to(original)
    assert_refused('weights', checkpoint='b.pth')
    overwrite_parts(seen, checkpoint='b.pth')


def test_no_card_is_refused(interrupt, seen, assert_refused):
    interrupt(3)
    Path('out.pkl.parts/card.json').unlink()
    assert_refused('no card')
    overwrite_parts(seen)


def test_overwriting_goes_on_too(interrupt, seen, assert_finished):
    Path('out.pkl').write_text('old')
    with pytest.raises(UsageError, match='out.pkl.*exists already'):
        dump()
    interrupt(5, '--overwrite')
    assert Path('out.pkl').read_text() == 'old'  # until the new one is there
    seen.clear()
    metrics = dump('--overwrite')
    assert sum(seen) == 11
    assert_finished(metrics)


def test_the_card(interrupt):
    interrupt(1)
    card = json.loads(Path('out.pkl.parts/card.json').read_text())
    fingerprint = card['fingerprint']
    assert fingerprint['test_cfg'] == dict(type='ResumableTestLoop')
    assert fingerprint['dataset']['type'] == 'RobustVideoDataset'
    assert fingerprint['model']['backbone']['depth'] == 4
    assert card['checkpoint']['path'] == 'a.pth'


# ------------------------------------------------------ several processes


@pytest.mark.slow
def test_from_two_processes_to_one(seen, assert_finished):
    Path('stopper.py').write_text(STOPPER_HOOK)
    Path('stopping.py').write_text(STOPPER.replace('BATCH', '3'))
    spoil(1, 12)
    result = start(2, 'stopping.py')
    assert result.returncode and 'RuntimeError: stopped' in result.stderr
    parts = [*Path('out.pkl.parts').glob('*.part')]
    assert {path.stem.split('-')[1] for path in parts} == {'0', '1'}
    metrics = dump()
    assert sum(seen) == 10  # each had done three
    assert metrics['left_out'] == 2
    assert_finished(metrics, bad=(1, 12))


@pytest.mark.slow
def test_from_one_process_to_two(interrupt, assert_finished):
    spoil(1, 12)
    interrupt(5)  # 11 are left, one process gets 6
    result = start(2, 'config.py')
    assert result.returncode == 0, result.stderr[-2000:]
    log = last_log()
    assert 'Going on: 5 of 16 samples are done.' in log
    assert 'left_out: 2' in log
    (table,) = Path('run').glob('*/per_class.csv')
    with table.open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row['videos']) for row in rows) == 14
    expected, dumped = assert_finished.run_stock(bad=(1, 12))
    hits = sum(int(row['correct']) for row in rows)
    assert hits / 14 == pytest.approx(expected['acc/top1'], abs=1e-12)
    assert f'acc/top1: {expected["acc/top1"]:.4f}' in log
    assert_same_dumps(load(), dumped)
    assert not Path('out.pkl.parts').exists()


# ------------------------------------------------------- mixed precision


@pytest.mark.skipif(torch.cuda.is_available(), reason='about CPUs')
def test_amp(interrupt, assert_finished):
    _, full = assert_finished.run_stock()
    interrupt(5, '--amp')
    with pytest.raises(UsageError, match='test_cfg.amp: bf16 -> None'):
        dump()
    dump('--amp', 'bf16')
    cfg = Config.fromfile('config.py')
    model = MODELS.build(cfg.model).eval()
    load_checkpoint(model, 'a.pth')
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    for i, sample in enumerate(load()):
        data = pseudo_collate([dataset[i]])
        clip = model.data_preprocessor(data)['inputs'][:, 0]
        with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
            logits = model.cls_head(model.backbone(clip))
        assert logits.dtype == torch.bfloat16
        expected = logits[0].float().softmax(0)
        assert torch.equal(sample['pred_score'], expected)
        assert not torch.equal(expected, full[i]['pred_score'])
        torch.testing.assert_close(
            expected, full[i]['pred_score'], atol=0.05, rtol=0
        )
    with pytest.raises(UsageError, match='fp16 needs a GPU'):
        run('--amp', 'fp16')


# ------------------------------------------- tests with a way of their own


def test_other_samplers_keep_the_plain_dump(interrupt):
    setting = 'test_dataloader.sampler.shuffle=True'
    interrupt(5, options=[setting])
    assert not list(Path().glob('out.pkl*'))
    dump(options=[setting])
    assert len(load()) == 16
