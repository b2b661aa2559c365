# Copyright (c) MotionMAE contributors. All rights reserved.
"""Training and testing on data of which some is bad, with the real tools."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import test as test_tool
import train
from conftest import ROOT
from helpers.global_state import forget_managers
from helpers.processes import HUNG
from mmengine.config import Config

from mmmotionmae.cli.data_errors import (
    explain_data_errors,
    leave_out_bad_videos,
)
from mmmotionmae.engine.hooks.bad_videos_hook import (
    robust_datasets,
    write_bad_videos,
)
from mmmotionmae.utils.errors import UsageError

DEMO = ROOT / 'configs/demo'
PRETRAIN = DEMO / 'motionmae_vit-tiny-p8_1xb32-8x1x1-40e_moving-shapes.py'
FINETUNE = DEMO / 'vit-tiny-p8_scratch_1xb32-8x1x1-15e_moving-shapes.py'


@pytest.fixture
def data(tmp_path, shapes_dir):
    """The demo's data; two videos to pre-train on, one to test on are bad."""
    root = tmp_path / 'data'
    shutil.copytree(shapes_dir, root)
    for name, lines in (('pretrain', (1, 4)), ('val', (2,))):
        listed = (root / f'{name}.txt').read_text().splitlines()
        for i in lines:
            path = root / listed[i].split(' ')[0]
            path.write_bytes(path.read_bytes()[:40])
    return root


@pytest.fixture
def run(tmp_path, data, monkeypatch, capfd):
    """Run a tool as from the shell but in this process.

    Returns the exit code and what it has printed to stderr.
    """
    monkeypatch.setenv('DEMO_DATA', str(data))
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.chdir(tmp_path)

    def run(tool, *argv):
        forget_managers()  # of the run before
        monkeypatch.setattr(sys, 'argv', ['tool', *map(str, argv)])
        code = tool.main()
        return code, capfd.readouterr().err

    return run


def log_of(work_dir):
    (log,) = Path(work_dir).glob('*/*.log')
    return log.read_text()


def error_in(stderr):
    """The line that says what a user has done wrong."""
    assert 'Traceback' not in stderr
    (error,) = (x for x in stderr.splitlines() if x.startswith('error: '))
    return error


def options(*more, epochs=2):
    return [
        '--cfg-options',
        f'train_cfg.max_epochs={epochs}',
        'train_dataloader.batch_size=8',
        'train_dataloader.num_workers=2',
        *more,
    ]


def bad_paths(data, name, lines):
    listed = (data / f'{name}.txt').read_text().splitlines()
    return {str(data / listed[i].split(' ')[0]) for i in lines}


def test_training_goes_on_and_lists_the_bad_videos(run, data):
    code, stderr = run(train, PRETRAIN, '--work-dir', 'run', *options())
    assert code == 0, stderr[-2000:]
    lines = Path('run/bad_videos.txt').read_text().splitlines()
    listed = dict(line.split('\t') for line in lines)
    assert set(listed) == bad_paths(data, 'pretrain', (1, 4))
    assert set(listed.values()) == {'invalid data found when processing input'}
    log = log_of('run')
    assert log.count('Another video takes its place') == 2
    assert '2 of 32 videos cannot be loaded' in log
    assert Path('run/epoch_2.pth').exists()


def test_too_many_bad_videos_end_training_in_one_line(run):
    share = 'train_dataloader.dataset.max_bad_share=0.05'
    code, stderr = run(train, PRETRAIN, '--work-dir', 'run', *options(share))
    assert code == 2
    error = error_in(stderr)
    assert error.startswith('error: 2 of 32 videos cannot be loaded, more')
    assert 'max_bad_share=0.05' in error


def test_testing_leaves_them_out_and_says_so(run, data):
    interval = 'default_hooks.checkpoint.interval=1'
    argv = [FINETUNE, '--work-dir', 'run', *options(interval, epochs=1)]
    code, stderr = run(train, *argv)
    assert code == 0, stderr[-2000:]
    argv = [FINETUNE, 'run/epoch_1.pth', '--work-dir', 'test']
    code, stderr = run(test_tool, *argv)
    assert code == 0, stderr[-2000:]
    log = log_of('test')
    (bad,) = bad_paths(data, 'val', (2,))
    assert f"'{bad}' cannot be loaded: invalid data" in log
    assert log.count('It is left out.') == 1
    assert 'left_out: 1' in log
    text = Path('test/bad_videos.txt').read_text()
    assert text == f'{bad}\tinvalid data found when processing input\n'


def test_a_bad_line_of_the_list_is_quoted_in_one_line(run, data):
    path = data / 'pretrain.txt'
    lines = path.read_text().splitlines()
    path.write_text('\n'.join([*lines[:4], 'a.mp4 running', *lines[4:]]))
    code, stderr = run(train, PRETRAIN, '--work-dir', 'run', *options())
    assert code == 2
    error = error_in(stderr)
    assert error.startswith(f'error: {path}, line 5: the label')
    assert "'a.mp4 running'" in error


KILLER = """
import os, signal
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

@TRANSFORMS.register_module()
class Killer(BaseTransform):
    def transform(self, results):
        if results['filename'].endswith('00007.mp4'):
            os.kill(os.getpid(), signal.SIGSEGV)
        return results
"""


def test_a_video_that_kills_its_loader_process_is_named(
    run_env, data, tmp_path
):
    (tmp_path / 'killer.py').write_text(KILLER)
    # One batch for each process, so that none is under way from the one that
    # dies: whether that can still be fetched depends on how fast it dies.
    path = data / 'pretrain.txt'
    path.write_text('\n'.join(path.read_text().splitlines()[:16]))
    cfg = Config.fromfile(PRETRAIN)
    cfg.train_dataloader.dataset.pipeline.insert(1, dict(type='Killer'))
    cfg.train_dataloader.dataset.ann_file = str(path)
    cfg.train_dataloader.dataset.data_prefix.video = str(data)
    cfg.custom_imports.imports += ['killer']
    cfg.dump(tmp_path / 'config.py')
    argv = ['config.py', '--work-dir', 'run', *options()]
    done = subprocess.run(
        [sys.executable, ROOT / 'tools/train.py', *argv],
        cwd=tmp_path,
        env=dict(
            run_env, DEMO_DATA=str(data), PYTHONPATH=f'{ROOT}:{tmp_path}'
        ),
        capture_output=True,
        text=True,
        timeout=HUNG,
    )
    assert done.returncode == 2
    # PyTorch's own message before it ends with a zero byte, and other loader
    # processes may complain after it while they are ended.
    lines = [line.lstrip('\0') for line in done.stderr.splitlines()]
    (error,) = [line for line in lines if line.startswith('error: ')]
    assert 'A process of the data loader has died' in error
    assert "00007.mp4'" in error
    # PyTorch finds out in one of two ways.
    assert 'Segmentation fault' in error or 'exited unexpectedly' in error
    assert '--resume' in error
    (line,) = (tmp_path / 'run/bad_videos.txt').read_text().splitlines()
    assert '00007.mp4\tits loader process died (' in line


@pytest.mark.parametrize(
    ('error', 'end'),
    [
        (
            RuntimeError('DataLoader worker (pid 7) is killed by signal: X.'),
            'killed by signal: X',
        ),
        (ConnectionResetError(104, 'by peer'), 'its connection broke off'),
        (EOFError(), 'its connection broke off'),
    ],
)
def test_all_ways_to_learn_of_a_dead_process(error, end, tmp_path):
    ended = isinstance(error, RuntimeError)

    def await_ends():
        nonlocal ended
        ended = True

    bad = SimpleNamespace(
        died_of=lambda: {7: 'bad.mp4'} if ended else {},
        await_ends=await_ends,
    )
    loader = SimpleNamespace(dataset=SimpleNamespace(bad_videos=bad))
    runner = SimpleNamespace(
        work_dir=tmp_path,
        train_loop=SimpleNamespace(dataloader=loader),
        val_loop=None,
        test_loop=None,
    )
    with pytest.raises(UsageError, match="has died .*'bad.mp4'") as caught:
        with explain_data_errors(runner):
            raise error
    assert f'({end})' in str(caught.value)
    text = (tmp_path / 'bad_videos.txt').read_text()
    assert text == f'bad.mp4\tits loader process died ({end})\n'
    bad.died_of = dict  # of no video: not for the data to explain
    with pytest.raises(type(error)), explain_data_errors(runner):
        raise error


def test_pytorch_tells_while_the_end_is_awaited(tmp_path):
    def await_ends():
        raise RuntimeError('DataLoader worker (pid 7) is killed by signal: X.')

    videos = {7: 'bad.mp4', 8: 'of an earlier death.mp4'}
    bad = SimpleNamespace(died_of=lambda: videos, await_ends=await_ends)
    loader = SimpleNamespace(dataset=SimpleNamespace(bad_videos=bad))
    loop = SimpleNamespace(dataloader=loader)
    runner = SimpleNamespace(
        work_dir=tmp_path, train_loop=loop, val_loop=None, test_loop=None
    )
    with pytest.raises(UsageError, match=r"by signal: X\) .* 'bad.mp4'\. "):
        with explain_data_errors(runner):
            raise EOFError


class Dataset:
    """Just what the hook looks at."""

    def __init__(self, bad, length=10, test_mode=False):
        self.bad, self.length, self.test_mode = bad, length, test_mode
        self.bad_videos = self
        self.checked = []

    def read(self):
        return self.bad

    def __len__(self):
        return self.length

    def check_share(self, bad):
        self.checked.append(bad)


class Runner:
    def __init__(self, work_dir):
        self.work_dir, self.logger, self.warnings = work_dir, self, []

    def warning(self, text):
        self.warnings.append(text)


def test_the_list_grows_and_is_sorted(tmp_path):
    runner = Runner(tmp_path)
    path = tmp_path / 'bad_videos.txt'
    write_bad_videos(runner, Dataset({}))
    assert not path.exists() and runner.warnings == []
    first = Dataset({'b x.mp4': 'too short', 'c.mp4': 'old'})
    write_bad_videos(runner, first)
    assert path.read_text() == 'b x.mp4\ttoo short\nc.mp4\told\n'
    assert first.checked == [first.bad]
    second = Dataset({'c.mp4': 'new', 'a.mp4': 'gone'}, test_mode=True)
    write_bad_videos(runner, second)
    assert path.read_text() == 'a.mp4\tgone\nb x.mp4\ttoo short\nc.mp4\tnew\n'
    assert second.checked == []
    assert runner.warnings[0].startswith('2 of 10 videos cannot be loaded')


def test_datasets_behind_wrappers():
    class Wrapper:
        def __init__(self, **parts):
            self.__dict__.update(parts)

    a, b, c = (Dataset({}) for _ in range(3))
    wrapped = Wrapper(datasets=[a, Wrapper(dataset=b), object(), c])
    assert list(robust_datasets(wrapped)) == [a, b, c]
    assert list(robust_datasets(a)) == [a]
    assert list(robust_datasets(None)) == []


def test_what_is_evaluated_on_is_left_out_by_default():
    def loader(kind, **kwargs):
        return dict(dataset=dict(type=kind, **kwargs))

    metric = dict(type='AccMetric')
    cfg = Config(
        dict(
            val_dataloader=loader('RobustVideoDataset'),
            val_evaluator=metric,
            test_dataloader=loader('VideoDataset'),
            test_evaluator=[metric],
        )
    )
    leave_out_bad_videos(cfg)
    assert cfg.val_dataloader.dataset.leave_out is True
    assert cfg.val_evaluator == dict(type='VideoEvaluator', metrics=metric)
    assert 'leave_out' not in cfg.test_dataloader.dataset
    assert cfg.test_evaluator == [metric]

    own = dict(type='Evaluator', metrics=[metric])
    cfg = Config(
        dict(val_dataloader=loader('RobustVideoDataset'), val_evaluator=own)
    )
    leave_out_bad_videos(cfg)
    assert cfg.val_evaluator == own
    assert 'leave_out' not in cfg.val_dataloader.dataset

    cfg = Config(
        dict(
            val_dataloader=loader('RobustVideoDataset', leave_out=False),
            val_evaluator=metric,
        )
    )
    leave_out_bad_videos(cfg)
    assert cfg.val_dataloader.dataset.leave_out is False
