# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/train.py`, `tools/test.py` and the scripts that start them."""

import errno
import importlib.util
import os
import pickle
import runpy
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import torch
from mmaction.visualization import ActionVisualizer
from mmengine.config import Config
from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook

from mmmotionmae.apis import UsageError, batches
from mmmotionmae.apis import runner as launch
from mmmotionmae.cli.train_options import set_amp

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / 'tools'
DEMO = ROOT / 'configs/demo'
PRETRAIN = DEMO / 'motionmae_vit-tiny-p8_1xb32-8x1x1-40e_moving-shapes.py'
FINETUNE = DEMO / 'vit-tiny-p8_scratch_1xb32-8x1x1-15e_moving-shapes.py'
FROM_PRETRAIN = (
    DEMO / 'vit-tiny-p8_motionmae-pre_1xb32-8x1x1-15e_moving-shapes.py'
)


def load_tool(name):
    spec = importlib.util.spec_from_file_location(
        f'{name}_tool', TOOLS / f'{name}.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TRAIN, TEST = load_tool('train'), load_tool('test')


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch, shapes_dir):
    monkeypatch.setenv('DEMO_DATA', str(shapes_dir))
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.chdir(tmp_path)


def small(*options):
    """`--cfg-options` for a run of one epoch."""
    return [
        '--cfg-options',
        # Runs of the same second would share one log.
        f'experiment_name={uuid.uuid4().hex}',
        'train_cfg.max_epochs=1',
        'train_dataloader.batch_size=8',
        *options,
    ]


def train(*argv, hooks=()):
    return TRAIN.train(TRAIN.parse_args([str(a) for a in argv]), hooks)


def test(*argv):
    return TEST.test(TEST.parse_args([str(a) for a in argv]))


test.__test__ = False  # a tool, not a test


def main(tool, monkeypatch, *argv):
    """Exit code of a tool, run as from the shell but in this process."""
    monkeypatch.setattr(sys, 'argv', ['tool', *map(str, argv)])
    return tool.main()


@pytest.fixture
def config_of(monkeypatch):
    """The config that a command line leads to, without a run."""

    class GotConfigError(Exception):
        pass

    def stop(cfg):
        raise GotConfigError(cfg)

    def run(tool, *argv):
        with monkeypatch.context() as patch:
            patch.setattr(launch, 'build_runner', stop)
            with pytest.raises(GotConfigError) as stopped:
                tool(*argv)
        return stopped.value.args[0]

    return run


@pytest.fixture
def assert_one_error(capfd):
    """Check the exit code and that stderr is one clear line."""

    def check(code, *parts):
        assert code == 2
        lines = capfd.readouterr().err.strip().split('\n')
        errors = [line for line in lines if line.startswith('error: ')]
        assert len(errors) == 1 and lines[-1] == errors[0]
        assert not any('Traceback' in line for line in lines)
        for part in parts:
            assert str(part) in errors[0]

    return check


@pytest.fixture(scope='module')
def trained(tmp_path_factory, shapes_dir):
    """The work dir of a fine-tuning run of one epoch, with validation."""
    work_dir = tmp_path_factory.mktemp('trained')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('DEMO_DATA', str(shapes_dir))
        patch.setenv('LOCAL_RANK', '0')
        options = small('default_hooks.checkpoint.interval=1')
        runner = train(
            FINETUNE, '--work-dir', work_dir, '--seed', '7', *options
        )
    assert runner.seed == 7
    return work_dir


def log_of(work_dir):
    (file,) = Path(work_dir).glob('*/*.log')
    return file.read_text()


def snapshot(folder):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(Path(folder).rglob('*'))
        if path.is_file()
    }


# ----------------------------------------------------------------- train.py


def test_training_logs_batch_size_and_accuracy(trained):
    log = log_of(trained)
    assert (
        'Effective batch size: 8 clips a step = 1 processes x 8 videos x 1 '
        'clips of each x 1 accumulated batches. Learning rate: 0.002, as in '
        'the config.'
    ) in log
    assert 'acc/top1' in log
    checkpoint = torch.load(trained / 'epoch_1.pth', weights_only=True)
    assert checkpoint['meta']['seed'] == 7


def test_seed_of_the_command_line_wins(config_of, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(
        f'_base_ = [{str(PRETRAIN)!r}]\n'
        'randomness = dict(seed=5, diff_rank_seed=True)\n'
    )
    assert config_of(train, config).randomness.seed == 5
    cfg = config_of(train, config, '--seed', 7)
    assert cfg.randomness == dict(seed=7, diff_rank_seed=True)
    cfg = config_of(train, config, '--seed', 0, '--deterministic')
    assert cfg.randomness == dict(
        seed=0, diff_rank_seed=True, deterministic=True
    )
    cfg = config_of(
        train,
        PRETRAIN,
        '--diff-rank-seed',
        '--seed=4',
        *['--cfg-options', 'randomness.seed=3', 'randomness.other=1'],
    )
    assert cfg.randomness == dict(seed=4, diff_rank_seed=True, other=1)


@pytest.mark.parametrize('value', ['None', 'dict(enable=False)'])
def test_auto_scale_lr_without_a_base(
    tmp_path, monkeypatch, assert_one_error, value
):
    config = tmp_path / 'config.py'
    delete = '' if value == 'None' else 'auto_scale_lr["_delete_"] = True\n'
    config.write_text(
        f'_base_ = [{str(PRETRAIN)!r}]\nauto_scale_lr = {value}\n{delete}'
    )
    code = main(TRAIN, monkeypatch, config, '--auto-scale-lr')
    assert_one_error(code, '--auto-scale-lr', 'base_batch_size')
    assert not Path('work_dirs').exists()


@pytest.mark.parametrize(
    'accumulated,repeats,world_size', [(1, 1, 1), (2, 3, 4)]
)
def test_auto_scale_lr_counts_every_clip(
    config_of, monkeypatch, accumulated, repeats, world_size
):
    cfg = config_of(
        train,
        PRETRAIN,
        '--auto-scale-lr',
        *small(
            f'optim_wrapper.accumulative_counts={accumulated}',
            f'train_dataloader.dataset.num_repeats={repeats}',
            'auto_scale_lr.base_batch_size=50',
            'log_level=ERROR',
        ),
    )
    with monkeypatch.context() as patch:
        patch.setattr(
            'mmengine.runner.runner.get_dist_info', lambda: (0, world_size)
        )
        runner = launch.build_runner(cfg)
    wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    runner.scale_lr(wrapper, runner.auto_scale_lr)
    clips = world_size * 8 * repeats * accumulated
    expected = cfg.optim_wrapper.optimizer.lr * clips / 50
    assert wrapper.get_lr()['lr'] == pytest.approx(
        [expected] * len(wrapper.get_lr()['lr']), rel=1e-12
    )
    text = batches.describe_batch(cfg, world_size)
    assert f'Effective batch size: {clips} clips' in text
    assert f'Learning rate: {expected:.4g}, scaled' in text


def test_lr_is_that_of_the_config_without_the_flag(config_of):
    cfg = config_of(train, PRETRAIN)
    assert not cfg.auto_scale_lr.get('enable')


class Outcome(Hook):
    """Keeps the losses and counts the validations."""

    def __init__(self):
        self.losses, self.validations = [], 0

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.losses.append(outputs['loss'].item())

    def after_val_epoch(self, runner, metrics):
        self.validations += 1


@pytest.mark.skipif(torch.cuda.is_available(), reason='about CPUs')
def test_amp_trains_on_a_cpu():
    outcomes = [Outcome(), Outcome()]
    flags = [[], ['--amp']]
    runs = [
        train(
            PRETRAIN, '--work-dir', f'run{i}', *flags[i], *small(), hooks=[o]
        )
        for i, o in enumerate(outcomes)
    ]
    wrapper = runs[1].optim_wrapper
    assert type(wrapper).__name__ == 'AmpOptimWrapper'
    assert wrapper.cast_dtype == torch.bfloat16
    assert all(p.dtype == torch.float32 for p in runs[1].model.parameters())
    full, amp = (torch.tensor(outcome.losses) for outcome in outcomes)
    assert len(full) == 4 and not torch.equal(full, amp)
    torch.testing.assert_close(full, amp, rtol=0.02, atol=0.02)


@pytest.mark.skipif(torch.cuda.is_available(), reason='about CPUs')
def test_amp_fp16_on_a_cpu(monkeypatch, assert_one_error):
    code = main(TRAIN, monkeypatch, PRETRAIN, '--amp', 'fp16')
    assert_one_error(code, '--amp fp16 needs a GPU', '--amp bf16')


def test_amp_settings(config_of, monkeypatch):
    wrapper = config_of(train, PRETRAIN, '--amp').optim_wrapper
    assert wrapper.type == 'AmpOptimWrapper' and wrapper.dtype == 'bfloat16'
    assert wrapper.loss_scale == dict(enabled=False)
    assert wrapper.optimizer.type == 'AdamW'
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'cuda')
    wrapper = config_of(train, PRETRAIN, '--amp', 'fp16').optim_wrapper
    assert wrapper.dtype == 'float16' and wrapper.loss_scale == 'dynamic'
    with pytest.raises(UsageError, match='OtherWrapper'):
        train(
            PRETRAIN,
            '--amp',
            *['--cfg-options', 'optim_wrapper.type=OtherWrapper'],
        )


@pytest.mark.parametrize(
    'schedule',
    sorted(
        path.stem for path in (ROOT / 'configs/_base_/schedules').iterdir()
    ),
)
@pytest.mark.parametrize(
    'own,expected',
    [
        (None, 'dynamic'),
        (dict(enabled=False), 'dynamic'),
        (512.0, 'dynamic'),
        (dict(init_scale=512.0), dict(init_scale=512.0)),
    ],
)
def test_fp16_always_scales_losses(monkeypatch, schedule, own, expected):
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'cuda')
    path = ROOT / f'configs/_base_/schedules/{schedule}.py'
    cfg = Config.fromfile(path)
    if own is not None:
        cfg.optim_wrapper.pop('loss_scale', None)
        cfg.optim_wrapper.loss_scale = own
    set_amp(cfg, 'fp16')
    wrapper = cfg.optim_wrapper
    assert wrapper.type == 'AmpOptimWrapper' and wrapper.dtype == 'float16'
    assert wrapper.loss_scale == expected


def test_work_dir_of_flag_then_config_then_name(config_of):
    cfg = config_of(train, PRETRAIN)
    assert cfg.work_dir == os.path.join('work_dirs', PRETRAIN.stem)
    option = ['--cfg-options', 'work_dir=from_config']
    assert config_of(train, PRETRAIN, *option).work_dir == 'from_config'
    flag = ['--work-dir', 'from_flag']
    assert config_of(train, PRETRAIN, *flag, *option).work_dir == 'from_flag'
    Path('c.pth').touch()
    cfg = config_of(test, FINETUNE, 'c.pth', *flag, *option)
    assert cfg.work_dir == 'from_flag'
    cfg = config_of(test, FINETUNE, 'c.pth')
    assert cfg.work_dir == os.path.join('work_dirs', FINETUNE.stem)


@pytest.mark.parametrize('flags,count', [([], 1), (['--no-validate'], 0)])
def test_no_validate(flags, count):
    outcome = Outcome()
    options = small('train_cfg.val_interval=1')
    train(FINETUNE, '--work-dir', 'run', *flags, *options, hooks=[outcome])
    assert len(outcome.losses) == 2
    assert outcome.validations == count


def test_earlier_run_is_not_overwritten(
    config_of, trained, monkeypatch, assert_one_error
):
    before = snapshot(trained)
    argv = [FINETUNE, '--work-dir', trained]
    code = main(TRAIN, monkeypatch, *argv, *small())
    assert_one_error(code, trained, '--resume', '--overwrite', '--work-dir')
    assert snapshot(trained) == before
    # The ways out that the message names.
    cfg = config_of(train, *argv, '--overwrite')
    assert not cfg.resume and cfg.load_from is None
    cfg = config_of(train, *argv, '--resume')
    assert cfg.resume and cfg.load_from is None
    checkpoint = trained / 'epoch_1.pth'
    cfg = config_of(train, *argv, '--resume', checkpoint)
    assert cfg.resume and cfg.load_from == str(checkpoint)
    cfg = config_of(train, FINETUNE, '--work-dir', 'other')
    assert not cfg.resume


def test_overwrite_starts_anew():
    argv = [PRETRAIN, '--work-dir', 'run']
    interval = 'default_hooks.checkpoint.interval=1'
    train(*argv, *small(interval))
    old = torch.load('run/epoch_1.pth', weights_only=True)
    outcome = Outcome()
    train(*argv, '--overwrite', '--seed=9', *small(interval), hooks=[outcome])
    assert len(outcome.losses) == 4  # not the end of the old run
    new = torch.load('run/epoch_1.pth', weights_only=True)
    assert new['meta']['seed'] == 9 and old['meta']['seed'] == 0


# -------------------------------------------------- what a user gets wrong


def unsafe_checkpoint(path, marker):
    class Intruder:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    torch.save(dict(state_dict={}, meta=Intruder()), path)


@pytest.mark.parametrize('tool,argv', [('train', []), ('test', ['c.pth'])])
def test_missing_config(monkeypatch, assert_one_error, tool, argv):
    """The scripts end with the exit code."""
    monkeypatch.setattr(sys, 'argv', ['tool', 'missing.py', *argv])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOLS / f'{tool}.py'), run_name='__main__')
    assert_one_error(end.value.code, "There is no config file 'missing.py'")


@pytest.mark.parametrize('text', ['_base_ = ["nowhere.py"]', 'a = (', 'a=1/0'])
def test_unreadable_config(monkeypatch, assert_one_error, text):
    Path('config.py').write_text(text)
    code = main(TRAIN, monkeypatch, 'config.py')
    assert_one_error(code, "The config 'config.py' cannot be read")


@pytest.mark.parametrize(
    'tool,argv',
    [
        (TEST, [FINETUNE, 'missing.pth']),
        (TRAIN, [FINETUNE, '--resume', 'missing.pth']),
        (
            TRAIN,
            [FROM_PRETRAIN]
            + small('model.backbone.init_cfg.checkpoint=missing.pth'),
        ),
    ],
    ids=['test', 'resume', 'init_cfg'],
)
def test_missing_checkpoint(monkeypatch, assert_one_error, tool, argv):
    code = main(tool, monkeypatch, *argv)
    assert_one_error(code, 'missing.pth')


@pytest.mark.parametrize(
    'options,parts',
    [
        (['foo'], ["'foo' is not of the form key=value"]),
        (['=1'], ["'=1' is not of the form key=value"]),
        (['a=[1,2'], ["'a=[1,2' cannot be read: brackets do not match"]),
        (['a={1,b}'], ["'a={1,b}' cannot be read: {1,b} is no dict"]),
        (['a=[dict(b=1)]'], ["a dict is written {'type': 'LinearLR'"]),
    ],
)
@pytest.mark.parametrize('tool', [TRAIN, TEST])
def test_options_that_are_none(monkeypatch, capfd, tool, options, parts):
    with pytest.raises(SystemExit) as end:
        main(tool, monkeypatch, PRETRAIN, '--cfg-options', *options)
    assert end.value.code == 2
    *_, line = capfd.readouterr().err.strip().split('\n')
    assert 'error: argument --cfg-options: ' in line
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    'option',
    ['train_dataloader.dataset.pipeline.99.x=1', 'default_scope.x=1'],
)
def test_options_that_do_not_fit(monkeypatch, assert_one_error, option):
    code = main(TRAIN, monkeypatch, PRETRAIN, '--cfg-options', option)
    key = option.removesuffix('=1')
    assert_one_error(code, f'--cfg-options {key} does not fit the config')


@pytest.mark.parametrize('seed', ['-1', str(2**32), 'x'])
def test_seeds_that_are_none(monkeypatch, capfd, seed):
    with pytest.raises(SystemExit) as end:
        main(TRAIN, monkeypatch, PRETRAIN, '--seed', seed)
    assert end.value.code == 2
    assert 'argument --seed: ' in capfd.readouterr().err.split('\n')[-2]


@pytest.mark.parametrize('tool', [TRAIN, TEST])
def test_seed_of_the_config_that_is_none(monkeypatch, assert_one_error, tool):
    argv = [FINETUNE, *(['none'] if tool is TEST else [])]
    option = ['--cfg-options', 'randomness.seed=-1']
    code = main(tool, monkeypatch, *argv, *option)
    assert_one_error(code, 'randomness.seed) is from 0 to 4294967295', '-1')


@pytest.mark.parametrize('work_dir', ['file', 'file/below', '/proc/new'])
@pytest.mark.parametrize('tool', [TRAIN, TEST])
def test_work_dir_that_cannot_be(
    monkeypatch, assert_one_error, tool, work_dir
):
    Path('file').touch()
    argv = [FINETUNE, *(['none'] if tool is TEST else [])]
    code = main(tool, monkeypatch, *argv, '--work-dir', work_dir)
    assert_one_error(
        code,
        f'Nothing can be written to the work dir {work_dir!r}',
        '(--work-dir)',
    )


def test_work_dir_without_permission(monkeypatch, assert_one_error):
    """As of a disk that is mounted for reading; nobody forbids root."""

    def refuse(**kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), kwargs['dir'])

    monkeypatch.setattr('tempfile.TemporaryFile', refuse)
    code = main(TRAIN, monkeypatch, PRETRAIN, '--work-dir', 'run')
    assert_one_error(code, "work dir 'run' (Read-only file system)")


def test_testing_a_pretraining(monkeypatch, assert_one_error):
    code = main(TEST, monkeypatch, PRETRAIN, 'none')
    assert_one_error(
        code,
        'The config has no test_dataloader, no test_cfg, no test_evaluator',
        'tools/evaluate_features.py',
    )


def test_full_disk(monkeypatch, assert_one_error):
    put = LocalBackend.put

    def full(self, obj, filepath, *args, **kwargs):
        if str(filepath).endswith('epoch_2.pth'):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), filepath)
        put(self, obj, filepath, *args, **kwargs)

    monkeypatch.setattr(LocalBackend, 'put', full)
    options = small('train_cfg.max_epochs=2')
    options += ['default_hooks.checkpoint.interval=1', 'log_level=ERROR']
    argv = [PRETRAIN, '--work-dir', 'run', '--no-validate', *options]
    code = main(TRAIN, monkeypatch, *argv)
    assert_one_error(
        code,
        f'The disk is full: {Path("run/epoch_2.pth").absolute()} could not',
    )
    assert Path('run/epoch_1.pth').is_file()


def test_test_without_one_video(monkeypatch, assert_one_error):
    Path('list.txt').write_text(''.join(f'{i}.mp4 0\n' for i in range(9)))
    options = [
        'test_dataloader.dataset.ann_file=list.txt',
        'test_dataloader.num_workers=0',
        'test_dataloader.persistent_workers=False',
        f'experiment_name={uuid.uuid4().hex}',
    ]
    argv = [FINETUNE, 'none', '--cfg-options', *options]
    code = main(TEST, monkeypatch, *argv)
    assert_one_error(
        code, 'there is no such file, nor can any of the 8 videos', 'list.txt'
    )


def test_misspelt_argument_of_the_checkpoint_hook(
    monkeypatch, assert_one_error
):
    """Found at the start, not at the first checkpoint."""
    option = 'default_hooks.checkpoint.max_keep_ckpt=1'
    code = main(TRAIN, monkeypatch, PRETRAIN, '--cfg-options', option)
    assert_one_error(
        code,
        "CheckpointHook has no argument 'max_keep_ckpt'; did you mean "
        'max_keep_ckpts?',
    )


def test_fewer_videos_than_a_batch(monkeypatch, assert_one_error):
    options = small('train_dataloader.batch_size=64')
    code = main(TRAIN, monkeypatch, PRETRAIN, *options)
    assert_one_error(code, 'has 32 videos, fewer than one batch of 64')


def test_missing_data(monkeypatch, assert_one_error, tmp_path):
    monkeypatch.setenv('DEMO_DATA', str(tmp_path / 'nowhere'))
    code = main(TRAIN, monkeypatch, PRETRAIN, *small())
    assert_one_error(code, tmp_path / 'nowhere', 'annotation file')


@pytest.mark.parametrize(
    'tool,argv',
    [
        (TEST, [FINETUNE, 'bad.pth']),
        (TRAIN, [FINETUNE, '--resume', 'bad.pth', *small()]),
        (
            TRAIN,
            [FROM_PRETRAIN]
            + small('model.backbone.init_cfg.checkpoint=bad.pth'),
        ),
    ],
    ids=['test', 'resume', 'init_cfg'],
)
def test_unsafe_checkpoint(monkeypatch, assert_one_error, tool, argv):
    unsafe_checkpoint('bad.pth', 'marker')
    code = main(tool, monkeypatch, *argv)
    assert_one_error(code, 'bad.pth', '--trust-checkpoint')
    assert not Path('marker').exists()


def test_trusted_checkpoint_is_loaded_once_only(trained):
    checkpoint = torch.load(trained / 'epoch_1.pth', weights_only=True)
    unsafe_checkpoint('bad.pth', 'marker')
    bad = torch.load('bad.pth', weights_only=False)
    Path('marker').rmdir()
    bad['state_dict'] = checkpoint['state_dict']

    class Intruder:
        def __reduce__(self):
            return os.mkdir, ('marker',)

    torch.save(dict(bad, meta=Intruder()), 'bad.pth')
    options = small()
    metrics = test(FINETUNE, 'bad.pth', '--trust-checkpoint', *options)
    assert Path('marker').is_dir() and 'acc/top1' in metrics
    # The trust ends with the command.
    Path('marker').rmdir()
    with pytest.raises(Exception, match='--trust-checkpoint'):
        test(FINETUNE, 'bad.pth', *small())
    assert not Path('marker').exists()


# ------------------------------------------------------------------ test.py


def test_dump_holds_one_prediction_per_sample(trained, capfd):
    checkpoint = trained / 'epoch_1.pth'
    metrics = test(FINETUNE, checkpoint, '--dump', 'out.pkl', *small())
    assert 0 <= metrics['acc/top1'] <= metrics['acc/top5'] <= 1
    assert 'acc/top1' in ''.join(capfd.readouterr())
    with open('out.pkl', 'rb') as file:
        results = pickle.load(file)
    assert len(results) == 16
    hits = [
        int(r['pred_score'].argmax()) == int(r['gt_label']) for r in results
    ]
    assert metrics['acc/top1'] == sum(hits) / 16
    labels = [int(r['gt_label']) for r in results]
    assert sorted(labels) == sorted(list(range(8)) * 2)


def test_dump_does_not_overwrite(
    config_of, trained, monkeypatch, assert_one_error
):
    checkpoint = trained / 'epoch_1.pth'
    Path('out.pkl').write_text('precious')
    argv = [FINETUNE, checkpoint, '--dump', 'out.pkl']
    assert_one_error(
        main(TEST, monkeypatch, *argv, *small()), 'out.pkl', '--overwrite'
    )
    assert Path('out.pkl').read_text() == 'precious'
    assert_one_error(
        main(TEST, monkeypatch, *argv[:-1], 'out.txt'), 'out.txt', '.pkl'
    )
    assert not Path('out.txt').exists()
    cfg = config_of(test, *argv, '--overwrite')
    assert cfg.test_evaluator.metrics[-1].out_file_path == 'out.pkl'


def test_options_come_before_the_dump(config_of):
    Path('c.pth').touch()
    cfg = config_of(
        test,
        FINETUNE,
        'c.pth',
        *['--dump', 'x.pkl', '--cfg-options', 'test_evaluator.type=AccMetric'],
        'test_evaluator.collect_device=gpu',
    )
    assert cfg.test_evaluator.metrics == [
        dict(type='AccMetric', collect_device='gpu'),
        dict(type='CompleteDumpResults', out_file_path='x.pkl'),
    ]


def test_dump_after_a_list_of_metrics(config_of):
    Path('c.pth').touch()
    Path('config.py').write_text(
        f'_base_ = [{str(FINETUNE)!r}]\n'
        'test_evaluator = [dict(type="AccMetric"), dict(type="Other")]\n'
    )
    cfg = config_of(test, 'config.py', 'c.pth', '--dump', 'x.pickle')
    types = [metric.type for metric in cfg.test_evaluator.metrics]
    assert types == ['AccMetric', 'Other', 'CompleteDumpResults']
    cfg = config_of(test, 'config.py', 'c.pth')
    types = [metric.type for metric in cfg.test_evaluator.metrics]
    assert types == ['AccMetric', 'Other']


def test_dump_beside_the_metrics_of_an_evaluator(config_of):
    Path('c.pth').touch()
    Path('config.py').write_text(
        f'_base_ = [{str(FINETUNE)!r}]\n'
        'test_evaluator = dict(\n'
        '    _delete_=True, type="VideoEvaluator",\n'
        '    metrics=dict(type="AccMetric"))\n'
    )
    cfg = config_of(test, 'config.py', 'c.pth', '--dump', 'x.pickle')
    assert cfg.test_evaluator.type == 'VideoEvaluator'
    types = [metric.type for metric in cfg.test_evaluator.metrics]
    assert types == ['AccMetric', 'CompleteDumpResults']


DUMP_ARGV = ['config.py', 'none', '--dump', 'x.pkl']


@pytest.mark.parametrize(
    'setting,loop',
    [
        ('', 'ResumableTestLoop'),
        ('test_cfg = dict(_delete_=True)', 'ResumableTestLoop'),
        ('test_cfg = dict(type="Other")', 'Other'),
        ('test_dataloader = dict(sampler=dict(shuffle=True))', 'TestLoop'),
        ('test_dataloader = dict(sampler=dict(type="Other"))', 'TestLoop'),
        ('test_dataloader = dict(batch_sampler=dict(a=1))', 'TestLoop'),
        ('test_dataloader = dict(num_batch_per_epoch=1)', 'TestLoop'),
        ('custom_hooks = [dict(type="SequenceResultsHook")]', 'TestLoop'),
    ],
)
def test_which_dumps_go_on(config_of, setting, loop):
    Path('config.py').write_text(f'_base_ = [{str(FINETUNE)!r}]\n{setting}\n')
    cfg = config_of(test, *DUMP_ARGV)
    assert cfg.test_evaluator.metrics[-1].out_file_path == 'x.pkl'
    expected = dict(type=loop)
    if loop == 'ResumableTestLoop':
        expected.update(out_file='x.pkl', overwrite=False)
    assert cfg.test_cfg == expected
    cfg = config_of(test, *DUMP_ARGV[:2])
    assert cfg.test_cfg.get('type', 'TestLoop') in ('TestLoop', 'Other')


def test_dump_in_mixed_precision(config_of):
    Path('config.py').write_text(f'_base_ = [{str(FINETUNE)!r}]\n')
    cfg = config_of(test, *DUMP_ARGV, '--overwrite', '--amp')
    assert cfg.test_cfg == dict(
        type='ResumableTestLoop', amp='bf16', out_file='x.pkl', overwrite=True
    )
    with pytest.raises(UsageError, match="--amp works with .* 'Other'"):
        test(*DUMP_ARGV, '--amp', '--cfg-options', 'test_cfg.type=Other')


def test_testing_does_not_resume(config_of):
    Path('c.pth').touch()
    option = ['--cfg-options', 'resume=True']
    cfg = config_of(test, FINETUNE, 'c.pth', *option)
    assert cfg.load_from == 'c.pth' and cfg.resume is False


def test_show_settings(config_of):
    Path('c.pth').touch()
    argv = [FINETUNE, 'c.pth']
    assert 'visualization' not in config_of(test, *argv).default_hooks
    argv += ['--show-dir', 'd', '--interval', 3, '--wait-time', '.5', '--show']
    hook = config_of(test, *argv).default_hooks.visualization
    assert hook == dict(
        type='VisualizationHook',
        enable=True,
        out_dir='d',
        show=True,
        interval=3,
        wait_time=0.5,
    )


def test_show_dir_holds_the_frames_and_the_predictions(trained, monkeypatch):
    texts = []
    draw_texts = ActionVisualizer.draw_texts

    def spy(self, text, *args, **kwargs):
        texts.append(text)
        return draw_texts(self, text, *args, **kwargs)

    monkeypatch.setattr(ActionVisualizer, 'draw_texts', spy)
    checkpoint = trained / 'epoch_1.pth'
    flags = ['--show-dir', 'shown', '--interval', 10, '--dump', 'out.pkl']
    test(FINETUNE, checkpoint, *flags, *small())
    with open('out.pkl', 'rb') as file:
        results = pickle.load(file)
    # Of 16 videos, numbers 0 and 10, 8 frames each.
    pictures = sorted(p.as_posix() for p in Path('shown').rglob('*.png'))
    assert pictures == sorted(
        f'shown/{i}_0/frames_0/{frame}.png'
        for i in (0, 10)
        for frame in range(8)
    )
    assert len(texts) == 16
    for text, i in [(texts[0], 0), (texts[8], 10)]:
        score, truth = results[i]['pred_score'], int(results[i]['gt_label'])
        label = int(score.argmax())
        assert f'Ground truth: {truth}' in text
        assert f'Prediction: {label}, {score[label]:.2f}' in text


# ------------------------------------------------------------ shell scripts

FAKE = """#!/usr/bin/env bash
printf '%s\\n' "$(basename "$0")" "$@" >"$RECORD"
printf '%s' "$PYTHONPATH" >"$RECORD.pythonpath"
printf '%s' "${MASTER_PORT:-}" >"$RECORD.port"
exit 7
"""


@pytest.fixture
def start(tmp_path):
    """Run a script with recording stand-ins for `torchrun` and `srun`."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    for name in ('torchrun', 'srun'):
        (folder / name).write_text(FAKE)
        (folder / name).chmod(0o755)
    record = tmp_path / 'record'

    def run(script, *argv, **env):
        result = subprocess.run(
            [TOOLS / script, *argv],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=dict(
                PATH=f'{folder}:/usr/bin:/bin', RECORD=str(record), **env
            ),
        )
        # The exit code of what they start is theirs.
        assert result.returncode == 7, result.stderr
        return record.read_text().split('\n')[:-1]

    run.pythonpath = lambda: Path(f'{record}.pythonpath').read_text()
    run.port = lambda: Path(f'{record}.port').read_text()
    return run


SCRIPTS = dict(
    dist_train=2, dist_test=3, slurm_train=3, slurm_test=4
)  # and how many arguments they need
ODD_ARGUMENTS = ['--cfg-options', 'a=b c', 'key="[1, *]"', '$HOME', '']


@pytest.mark.parametrize('name,needed', SCRIPTS.items())
def test_script_usage(name, needed, tmp_path):
    script = TOOLS / f'{name}.sh'
    assert subprocess.run(['bash', '-n', script]).returncode == 0
    assert os.access(script, os.X_OK)
    result = subprocess.run(
        [script, *['x'] * (needed - 1)],
        capture_output=True,
        text=True,
        env=dict(PATH='/usr/bin:/bin'),
        cwd=tmp_path,
    )
    assert result.returncode == 2 and result.stdout == ''
    assert result.stderr.startswith('usage: ') and 'CONFIG' in result.stderr


@pytest.mark.parametrize('tool', ['train', 'test'])
def test_dist_script(start, tool):
    checkpoint = ['my c.pth'] if tool == 'test' else []
    argv = ['my config.py', *checkpoint, '4', *ODD_ARGUMENTS]
    rest = [f'{TOOLS}/{tool}.py', 'my config.py', *checkpoint]
    rest += ['--launcher', 'pytorch', *ODD_ARGUMENTS]
    # At a free port, unless one is given or machines have to agree on one.
    assert start(f'dist_{tool}.sh', *argv) == [
        'torchrun',
        '--standalone',
        '--nproc_per_node=4',
        *rest,
    ]
    assert start.pythonpath() == str(ROOT)
    assert start(f'dist_{tool}.sh', *argv, PORT='1234')[1:5] == [
        '--nnodes=1',
        '--node_rank=0',
        '--master_addr=127.0.0.1',
        '--master_port=1234',
    ]
    assert '--master_port=29500' in start(f'dist_{tool}.sh', *argv, NNODES='2')
    recorded = start(
        f'dist_{tool}.sh',
        *argv,
        NNODES='2',
        NODE_RANK='1',
        PORT='1234',
        MASTER_ADDR='10.0.0.1',
        PYTHONPATH='/mine',
    )
    assert recorded == [
        'torchrun',
        '--nnodes=2',
        '--node_rank=1',
        '--master_addr=10.0.0.1',
        '--master_port=1234',
        '--nproc_per_node=4',
        *rest,
    ]
    assert start.pythonpath() == f'{ROOT}:/mine'


@pytest.mark.parametrize('tool', ['train', 'test'])
def test_slurm_script(start, tool):
    warning = ['--signal=USR1@120'] if tool == 'train' else []
    checkpoint = ['my c.pth'] if tool == 'test' else []
    argv = ['gpu', 'my job', 'my config.py', *checkpoint, *ODD_ARGUMENTS]
    rest = ['python', '-u', f'{TOOLS}/{tool}.py', 'my config.py', *checkpoint]
    rest += ['--launcher', 'slurm', *ODD_ARGUMENTS]
    assert start(f'slurm_{tool}.sh', *argv) == [
        'srun',
        '--partition=gpu',
        '--job-name=my job',
        '--gres=gpu:8',
        '--ntasks=8',
        '--ntasks-per-node=8',
        '--cpus-per-task=5',
        '--kill-on-bad-exit=1',
        *warning,
        *rest,
    ]
    assert start.pythonpath() == str(ROOT)
    assert 12000 <= int(start.port()) < 32000
    recorded = start(
        f'slurm_{tool}.sh',
        *argv,
        GPUS='16',
        GPUS_PER_NODE='4',
        CPUS_PER_TASK='9',
        SRUN_ARGS='--quotatype=auto  --exclude=node[1-2]',
        PYTHONPATH='/mine',
        MASTER_PORT='4321',
    )
    assert recorded == [
        'srun',
        '--partition=gpu',
        '--job-name=my job',
        '--gres=gpu:4',
        '--ntasks=16',
        '--ntasks-per-node=4',
        '--cpus-per-task=9',
        '--kill-on-bad-exit=1',
        *warning,
        '--quotatype=auto',
        '--exclude=node[1-2]',
        *rest,
    ]
    assert start.pythonpath() == f'{ROOT}:/mine'
    assert start.port() == '4321'
    assert '--gres=gpu:2' in start(f'slurm_{tool}.sh', *argv, GPUS='2')


def test_flags_of_torchrun(start):
    """They are told from those of train.py, wherever they stand."""
    argv = ['c.py', '2', '--rdzv-backend', 'c10d', '--resume', '--seed', '3']
    argv += ['--rdzv_endpoint=host:1', '--standalone', '--monitor-interval']
    argv += ['2', '--cfg-options', 'a=[1, 2]', 'b=c']
    recorded = start('dist_train.sh', *argv)
    assert recorded[6:] == [
        '--rdzv-backend',
        'c10d',
        '--rdzv_endpoint=host:1',
        '--standalone',
        '--monitor-interval',
        '2',
        f'{TOOLS}/train.py',
        *['c.py', '--launcher', 'pytorch', '--resume', '--seed', '3'],
        *['--cfg-options', 'a=[1, 2]', 'b=c'],
    ]


LAUNCHER = """#!/bin/bash
printf '%s\\n' "$*" >>"$RECORD"
n=$(wc -l <"$RECORD")
"""


@pytest.fixture
def script(tmp_path):
    """Run a script with a launcher that does what is given."""
    folder = tmp_path / 'bin'
    folder.mkdir()

    def run(name, *argv, does, **env):
        record = tmp_path / 'record'
        record.unlink(missing_ok=True)
        for command in ('torchrun', 'srun', 'scontrol'):
            (folder / command).write_text(
                LAUNCHER + (does if command != 'scontrol' else '')
            )
            (folder / command).chmod(0o755)
        result = subprocess.run(
            [TOOLS / name, *argv],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=dict(
                PATH=f'{folder}:/usr/bin:/bin',
                RECORD=str(record),
                TMPDIR=str(tmp_path),
                **env,
            ),
        )
        assert not [*tmp_path.glob('*motionmae.*')]  # no notes are left
        return result.returncode, record.read_text().splitlines()

    return run


DIES = 'exit $((n < 3 ? 9 : 0))\n'
SAVES = 'echo saved >"$MOTIONMAE_PREEMPTION_NOTE"; exit 1\n'
SIGNALLED = """(
    trap 'echo saved >"$MOTIONMAE_PREEMPTION_NOTE"; exit 85' USR1
    kill -TERM $PPID
    while :; do sleep 0.1; done
)
exit 1
"""


@pytest.mark.parametrize(
    ('flags', 'code', 'starts'),
    [
        ([], 9, 1),
        (['--max-restarts', '1'], 9, 2),
        (['--max_restarts=5'], 0, 3),
        (['--max-restarts'], 2, None),
    ],
)
def test_torchrun_is_started_anew(script, flags, code, starts):
    if starts is None:
        with pytest.raises(FileNotFoundError):  # it was not started
            script('dist_train.sh', 'c.py', '2', *flags, does=DIES)
        return
    found, record = script(
        'dist_train.sh', 'c.py', '2', *flags, '--resume', does=DIES
    )
    assert (found, len(record)) == (code, starts)
    assert all('--resume' in line for line in record)
    assert not any('restarts' in line for line in record)


@pytest.mark.parametrize('does', [SAVES, SIGNALLED])
def test_launcher_of_a_run_that_has_saved_itself(script, does):
    """No start is tried after that."""
    argv = ['c.py', '2', '--max-restarts=5']
    code, record = script('dist_train.sh', *argv, does=does)
    assert (code, len(record)) == (85, 1)


def test_slurm_starts_a_saved_run_again(script):
    does = f'if ((n < 3)); then {SAVES} fi; exit 4'
    code, record = script('slurm_train.sh', 'p', 'j', 'c.py', does=does)
    assert (code, len(record)) == (4, 3)
    assert ['--resume' in line for line in record] == [False, True, True]
    assert record[1].endswith('train.py c.py --launcher slurm --resume')


def test_slurm_requeues_a_batch_job(script):
    argv = ['slurm_train.sh', 'p', 'j', 'c.py']
    code, record = script(*argv, does=SAVES, SLURM_JOB_ID='12')
    assert code == 85 and record[1:] == ['requeue 12']
    _, (line,) = script(
        *argv, does='exit 4', SLURM_JOB_ID='12', SLURM_RESTART_COUNT='1'
    )
    assert line.endswith('--resume')
