# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/benchmark.py training`, on a tiny network and clips."""

import itertools
import json
import multiprocessing
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import benchmark
import mmengine.device.utils
import pytest
import torch
from benchmarks import training as tool
from benchmarks import training_setup
from benchmarks.training_report import Figures, markdown
from benchmarks.training_runs import (
    EnoughSteps,
    StepTimer,
    clips_of,
    time_loader,
    whole_bursts,
)
from benchmarks.training_setup import Setting
from conftest import ROOT
from helpers.fake_clock import FakeClock
from helpers.processes import wait_until
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import LoggerHook, ParamSchedulerHook

from mmmotionmae.apis import UsageError, load_config
from mmmotionmae.datasets.transforms import VideoDecode
from mmmotionmae.engine.hooks import BadVideosHook
from mmmotionmae.models import MotionMAE

CONFIG = 'configs/demo/motionmae_vit-tiny-p8_1xb16-16x2x1-40e_videos.py'
CONFIG = str(ROOT / CONFIG)
SIZE = 32
SMALL = [
    *('--cfg-options', 'model.backbone.depth=1', 'model.neck.depth=1'),
    f'model.backbone.img_size={SIZE}',
    f'train_dataloader.dataset.pipeline.5.input_size={SIZE}',
    f'train_dataloader.dataset.pipeline.6.size={SIZE}',
    *('--clip-size', '64', '48', '40', '--generate', '2'),
    *('--device', 'cpu', '--clips-per-step', '4', '--warmup', '1'),
]


def run(*argv, config=CONFIG, small=SMALL, **kwargs):
    args = tool.parse_args([config, *small, *map(str, argv)])
    return tool.benchmark(args, **kwargs)


# ----------------------------------------------------------------- verdict


def figures(loader, model, workers=2, cpus=8, **kwargs):
    return Figures(
        Setting(4, workers),
        8,
        cpus,
        loader=[loader / 2, loader, loader * 3],
        model=[model, model, model / 5],
        **kwargs,
    )


@pytest.mark.parametrize(
    'loader,model,bottleneck',
    [
        (100, 200, 'data'),
        (100, 112, 'data'),
        (100, 109, 'neither'),
        (109, 100, 'neither'),
        (112, 100, 'model'),
        (500, 100, 'model'),
    ],
)
def test_bottleneck(loader, model, bottleneck):
    one = figures(loader, model)
    assert one.loader_speed == loader and one.model_speed == model
    assert one.bottleneck == bottleneck


@pytest.mark.parametrize(
    'workers,cpus,per_core,cores',
    [
        (2, 8, 50, 6),  # a core for each process
        (8, 4, 25, 12),  # processes share cores
        (0, 8, 100, 3),  # the training process itself
    ],
)
def test_cores(workers, cpus, per_core, cores):
    one = figures(100, 300, workers, cpus, wanted=301)
    assert one.per_core == per_core
    assert one.cores_for(one.model_speed) == cores
    assert one.cores_for(one.wanted) == cores + 1
    # Not one more because of rounding.
    assert figures(0.1, 1, 1).cores_for(0.1 * 3) == 3


def test_verdict():
    assert figures(100, 300).verdict() == (
        'R = 4, 2 workers: loading limits (loader 100.0, model 300.0 clips/s).'
    )
    one = figures(100, 300, trainer=97.0, shared_cpus=True)
    assert one.verdict().endswith(
        'the trainer reaches 97% of the slower side.'
    )
    one = figures(300, 100, trainer=60.0, shared_cpus=True)
    assert one.share_of_limit == pytest.approx(0.6)
    assert 'the model limits' in one.verdict()
    assert one.verdict().endswith('(here both run on the same cores).')
    one = figures(300, 100, workers=0, trainer=60.0)
    assert one.verdict().endswith('(one process loads and trains in turn).')


def test_table():
    one = figures(100, 300, wanted=1000.0, trainer=97.4, waiting=0.666)
    text = markdown([one])
    assert '| cores for 1000 clips/s |' in text
    assert (
        '| 4 | 2 | 8 | 100.0 (75.0 to 200.0) | 50.0 | 300.0 (180.0 to 300.0) '
        '| 97.4 | 67% | data | 6 | 20 |'
    ) in text
    assert 'or 1000 clips per second;' in text


def test_cores_for_each_number_of_repeats():
    ones = [
        Figures(Setting(repeats, workers), 8, 4, wanted=200.0, loader=[speed])
        for repeats, workers, speed in [(1, 1, 10), (1, 2, 16), (4, 2, 50)]
    ]
    line = (
        '- To feed 200 clips/s a loader needs this many cores: 20 with R = 1 '
        'or 8 with R = 4; there are 4 here.'
    )
    assert markdown(ones).endswith(line)
    here = figures(100, 300)
    assert 'To feed 300 clips/s' in markdown([here])


def test_table_of_the_loader_alone():
    one = Figures(Setting(1, 2), 8, 2, loader=[50.0, 50.0])
    text = markdown([one])
    assert one.verdict() == '' and one.bottleneck is None
    assert 'To feed' not in text
    assert text.splitlines()[2] == (
        '| 1 | 2 | 8 | 50.0 (50.0 to 50.0) | 25.0 |  |  |  |  |  |'
    )
    alone = Figures(Setting(1, 2), 8, 2, model=[50.0], wanted=3.0)
    assert alone.cores_for(3.0) is None and alone.per_core is None


# ------------------------------------------------------------------- parts


def test_whole_bursts():
    numbers = [whole_bursts(10, workers) for workers in (0, 1, 3, 4, 16)]
    assert numbers == [10, 10, 12, 12, 16]
    assert whole_bursts(0, 4) == 4


def test_step_timer():
    clock = itertools.count(0.0).__next__  # a second between two looks
    timer = StepTimer(torch.device('cpu'), 3, warmup=2, clock=clock)
    batch = dict(inputs=[torch.zeros(2, 1), torch.zeros(3, 1)])
    assert clips_of(batch) == 5
    with pytest.raises(EnoughSteps):
        for step in range(10):
            timer.before_train_iter(None, step, batch)
            timer.after_train_iter(None, step, batch)
    assert timer.steps == 5 and timer.clips == 15
    # Each step looks once before it and once after it.
    assert timer.end - timer.start == 6 and timer.waited == 3


def test_setting_changes_the_loader():
    cfg = load_config(str(ROOT / tool.DEFAULT))
    assert training_setup.clips_per_video(cfg) == 4
    training_setup.apply_setting(cfg, Setting(1, 0), 6)
    loader = cfg.train_dataloader
    assert loader.batch_size == 6 and loader.num_workers == 0
    assert loader.dataset.num_repeats == 1 and not loader.persistent_workers
    assert loader.collate_fn == dict(type='pseudo_collate')
    training_setup.apply_setting(cfg, Setting(3, 5), 6)
    assert loader.batch_size == 2 and loader.num_workers == 5
    assert loader.collate_fn == dict(type='repeat_pseudo_collate')
    with pytest.raises(UsageError, match='6 clips cannot have 4'):
        training_setup.apply_setting(cfg, Setting(4, 5), 6)
    loader.dataset.type = 'VideoDataset'
    with pytest.raises(UsageError, match='needs a RobustVideoDataset'):
        training_setup.apply_setting(cfg, Setting(2, 5), 6)


def test_data_set_within_wrappers():
    inner = dict(type='RobustVideoDataset', pipeline=[], num_repeats=2)
    outer = dict(type='RepeatDataset', times=2, dataset=inner)
    cfg = Config(dict(train_dataloader=dict(dataset=outer)))
    assert training_setup.clips_per_video(cfg) == 2
    for bad in (Config(), Config(dict(train_dataloader=None))):
        with pytest.raises(UsageError, match='needs a train_dataloader'):
            training_setup.data_set_of(bad)


def test_precision():
    cfg = load_config(str(ROOT / tool.DEFAULT))
    training_setup.set_mixed_precision(cfg, None)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    training_setup.set_mixed_precision(cfg, 'off')
    assert cfg.optim_wrapper.type == 'OptimWrapper'
    assert not {'dtype', 'loss_scale'} & set(cfg.optim_wrapper)
    training_setup.set_mixed_precision(cfg, 'bf16')
    assert cfg.optim_wrapper.dtype == 'bfloat16'


def test_no_checkpoint_is_read(tmp_path):
    init = dict(type='Pretrained', checkpoint='missing.pth')
    backbone = dict(type='VisionTransformer', init_cfg=init)
    cfg = Config(dict(model=dict(backbone=backbone), load_from='missing.pth'))
    training_setup.without_side_effects(cfg, tmp_path)
    assert cfg.model.backbone.init_cfg is None and cfg.load_from is None


def test_device_of_mmengine(monkeypatch):
    monkeypatch.setattr(mmengine.device.utils, 'DEVICE', 'cuda')
    with training_setup.on_device(torch.device('cpu')):
        assert get_device() == 'cpu'
    assert get_device() == 'cuda'


# -------------------------------------------------------------------- runs


@pytest.fixture(scope='module')
def result(tmp_path_factory):
    """Files of a run with and without processes of the loader.

    Its clock moves on by a second from one look to the next. What the hooks
    of MMEngine were called for is counted.
    """
    folder = tmp_path_factory.mktemp('result')
    calls = Counter()

    def counted(hook, name):
        method = getattr(hook, name)

        def call(*args, **kwargs):
            calls[hook.__name__] += 1
            return method(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for hook, name in (
            (LoggerHook, 'after_train_iter'),
            (ParamSchedulerHook, 'after_train_iter'),
            (BadVideosHook, 'after_train_epoch'),
        ):
            patch.setattr(hook, name, counted(hook, name))
        result = run(
            *('--repeats', 2, '--num-workers', 2, 0, '--num-steps', 3),
            *('--gpu-clips-per-second', 5000),
            *(f'--out={folder}/a.md', f'--json={folder}/a.json'),
            clock=itertools.count(0.0).__next__,
        )
    return result, folder, calls


def test_files(result):
    result, folder, _ = result
    text = (folder / 'a.md').read_text()
    assert text == result['markdown'] + '\n'
    rows = json.loads((folder / 'a.json').read_text())['rows']
    assert rows == result['rows']
    settings = [dict(repeats=2, num_workers=workers) for workers in (0, 2)]
    assert [row['setting'] for row in rows] == settings
    assert all(row['verdict'] in text for row in rows)
    assert '2 generated clips, 64x48' in text
    assert result['device'] == 'cpu' and result['settings']['num_steps'] == 3


def test_figures(result):
    alone, with_workers = result[0]['rows']
    # Between two looks at the clock are a batch, or a burst of two, of four
    # clips each; a step; in the trainer, which looks twice, one of both.
    assert alone['loader'] == alone['model'] == [4, 4, 4]
    assert with_workers['loader'] == [8, 8]
    assert with_workers['model'] == [4, 4, 4]
    for row in (alone, with_workers):
        assert row['clips_per_step'] == 4
        assert row['trainer'] == 2 and row['waiting'] == 0.5
        assert row['share_of_limit'] == 0.5
        cores = 5000 / row['per_core']
        assert cores <= row['cores_for_wanted'] < cores + 1
    assert alone['bottleneck'] == 'neither'
    assert with_workers['bottleneck'] == 'model'


def test_hooks_of_the_config(result):
    # Three steps, and two bursts of two; before them, one step and one burst.
    # No epoch ends while it is timed.
    assert result[2] == dict(LoggerHook=4 + 6, ParamSchedulerHook=4 + 6)


def test_no_process_is_left(result):
    wait_until(lambda: not multiprocessing.active_children())


def test_bottleneck_of_a_run(monkeypatch):
    clock = FakeClock()
    for cls, name, seconds in (
        (VideoDecode, 'transform', 1),
        (MotionMAE, 'loss', 2),
    ):
        method = getattr(cls, name)
        monkeypatch.setattr(cls, name, clock.slow(method, seconds))
    one, four = run(
        *('--repeats', 1, 4, '--num-workers', 0, '--num-steps', 2),
        clock=clock,
    )['rows']
    # A step of four clips decodes four videos, or one.
    assert one['loader'] == [1, 1] and four['loader'] == [4, 4]
    assert one['model'] == four['model'] == [2, 2]
    assert (one['bottleneck'], four['bottleneck']) == ('data', 'model')
    assert one['cores_for_model'] == 2 and four['cores_for_model'] == 1
    assert one['trainer'] == pytest.approx(4 / 6)
    assert one['waiting'] == pytest.approx(4 / 6)
    assert four['trainer'] == pytest.approx(4 / 3)
    assert four['waiting'] == pytest.approx(1 / 3)


class Loader:
    """Bursts of batches, the first of which is waited for; short epochs."""

    num_workers = 3

    def __init__(self, clock):
        self.clock = clock
        self.batches = 0

    def __iter__(self):
        for _ in range(4):
            slow = self.batches % self.num_workers == 0
            self.clock.advance(5 if slow else 0.5)
            self.batches += 1
            yield dict(inputs=[torch.zeros(2, 1)])


@pytest.mark.parametrize('num_batches,bursts', [(1, 2), (6, 2), (7, 3)])
def test_loader_is_timed_by_bursts(num_batches, bursts):
    clock = FakeClock()
    loader = Loader(clock)
    runner = SimpleNamespace(train_dataloader=loader)
    rates = time_loader(runner, num_batches, warmup=1, clock=clock)
    assert rates == [1] * bursts  # six clips in six seconds
    assert loader.batches == 3 + 3 * bursts


def test_data_of_the_config(tmp_path):
    generated = SMALL.index('--generate')
    small = SMALL[:generated] + SMALL[generated + 2 :]
    with pytest.raises(FileNotFoundError, match='nowhere'):
        run(config=_with_data('nowhere', tmp_path), small=small)
    videos = tmp_path / 'videos'
    training_setup.generate(videos, 8, width=64, height=48, num_frames=40)
    result = run(
        *('--measure', 'loader', '--num-steps', 3),
        config=_with_data(videos, tmp_path),
        small=small,
    )
    assert 'the data of the config' in result['markdown']
    (row,) = result['rows']
    # Three batches, and one before them, out of epochs of two.
    assert len(row['loader']) == 3
    assert row['model'] == [] and row['trainer'] is None


def _with_data(folder, tmp_path):
    cfg = Config.fromfile(CONFIG)
    cfg.train_dataloader.dataset.data_prefix.video = str(folder)
    path = tmp_path / 'config.py'
    cfg.dump(path)
    return str(path)


# --------------------------------------------------- what a user gets wrong


def test_mistakes(tmp_path, capsys):
    old = tmp_path / 'old'
    old.write_text('precious')
    for flag in ('--out', '--json'):
        with pytest.raises(UsageError, match='old.*--overwrite'):
            run(f'{flag}={old}')
    assert old.read_text() == 'precious'
    with pytest.raises(UsageError, match='4 clips cannot have 3 clips of'):
        run('--repeats', 3)
    with pytest.raises(UsageError, match='fp16 needs a GPU'):
        run('--amp', 'fp16')
    for bad in (['--num-workers', '-1'], ['--gpu-clips-per-second', '0']):
        with pytest.raises(SystemExit):
            tool.parse_args(bad)
    capsys.readouterr()
    assert benchmark.main(['training', 'missing.py']) == 2
    error = capsys.readouterr().err
    assert error == "error: There is no config file 'missing.py'.\n"


def test_default_config():
    args = tool.parse_args([])
    cfg = load_config(str(ROOT / tool.DEFAULT))
    cpu = torch.device('cpu')
    workers, clips = tool.defaults(args, cfg, cpu)
    assert clips == 4 and workers[0] <= tool.usable_cpus()
    gpu = torch.device('cuda')
    assert tool.defaults(args, cfg, gpu)[1] == 64
    args = tool.parse_args(['config', '--num-workers', '1', '7'])
    assert tool.defaults(args, cfg, cpu) == ([1, 7], 64)
    assert Path(ROOT / tool.DEFAULT).is_file()
