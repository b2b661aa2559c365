# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/run_splits.py`."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import run_splits as tool  # noqa: E402
import test as test_tool  # noqa: E402
import torch
import train as train_tool  # noqa: E402
from conftest import ROOT
from helpers.global_state import forget_managers
from helpers.processes import HUNG, wait_until
from mmaction.registry import MODELS
from mmengine.config import Config

from mmmotionmae.apis import UsageError
from mmmotionmae.cli import splits as tool_runs
from mmmotionmae.cli.splits import SplitResult, write_report

PRETRAIN = 'motionmae_vit-tiny-p8_1xb32-8x1x1-40e_moving-shapes'
FINETUNE = 'vit-tiny-p8_motionmae-pre_1xb32-8x1x1-15e_moving-shapes'
SCRATCH = 'vit-tiny-p8_scratch_1xb32-8x1x1-15e_moving-shapes'
SPLITS = (1, 2, 3)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch, run_env):
    for name in ('DEMO_DATA', 'PYTHONPATH', 'OMP_NUM_THREADS'):
        monkeypatch.setenv(name, run_env[name])
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setenv('SPLIT', 'unset')  # the tool changes it
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def configs(tmp_path, shapes_dir):
    """Configs of pre-training and fine-tuning, with lists of three splits.

    The test videos of the first two splits have no class in common.
    """
    train = (shapes_dir / 'train.txt').read_text().splitlines()
    val = (shapes_dir / 'val.txt').read_text().splitlines()
    tests = {
        1: [x for x in val if int(x.split()[1]) < 4],
        2: [x for x in val if int(x.split()[1]) >= 4],
        3: val,
    }
    for split in SPLITS:
        for name, lines in (('train', train[split:]), ('val', tests[split])):
            path = tmp_path / f'{name}_split{split}.txt'
            path.write_text('\n'.join(lines))
    paths = []
    for name in (PRETRAIN, FINETUNE):
        path = tmp_path / f'{name.split("_")[0]}.py'
        text = (
            f'_base_ = [{str(ROOT / "configs/demo" / name)!r} + ".py"]\n'
            "split = '{{$SPLIT:1}}'\n"
            'train_cfg = dict(max_epochs=1)\n'
            'default_hooks = dict(checkpoint=dict(interval=1, '
            'save_optimizer=True))\n'
        )
        for part in ('train', 'val', 'test')[: 1 if name == PRETRAIN else 3]:
            file = 'train' if part == 'train' else 'val'
            text += (
                f'{part}_dataloader = dict(batch_size=4, dataset=dict('
                f"ann_file=f'{tmp_path}/{file}_split{{split}}.txt'))\n"
            )
        path.write_text(text)
        paths.append(path)
    return paths


def run(*argv):
    tool.run_splits(tool.parse_args([str(a) for a in argv]))


@pytest.fixture
def calls(monkeypatch):
    """Runs the tools in this process, and lists the calls."""
    made = []

    def call(command, log):
        forget_managers()  # of the run before
        name = Path(command[1]).stem
        made.append(' '.join(command[2:]))
        log.parent.mkdir(parents=True, exist_ok=True)
        with monkeypatch.context() as patch:
            patch.setattr(sys, 'argv', command[1:])
            return dict(train=train_tool, test=test_tool)[name].main()

    monkeypatch.setattr(tool, 'call', call)
    return made


def test_the_table_is_that_of_separate_runs(configs, calls, capsys, tmp_path):
    pretrain, finetune = configs
    argv = (finetune, '--pretrain', pretrain, '--work-dir', 'out', '--seed', 3)
    run(*argv)
    assert len(calls) == 9
    out = tmp_path / 'out'
    measured = []
    for split in SPLITS:
        folder = out / f'split{split}'
        # Fine-tuning began with what was pre-trained on the same list.
        parts = {
            step: Config.fromfile(next((folder / step).glob('*.py')))
            for step in ('pretrain', 'finetune', 'test')
        }
        for step in ('pretrain', 'finetune'):
            dataset = parts[step].train_dataloader.dataset
            assert dataset.ann_file == f'{tmp_path}/train_split{split}.txt'
            assert parts[step].randomness.seed == 3
        first = parts['finetune'].model.backbone.init_cfg.checkpoint
        assert first == f'out/split{split}/pretrain/epoch_1.pth'
        log = next((folder / 'finetune').glob('*/*.log')).read_text()
        assert re.search(rf'Loaded \d+/\d+ tensors of \w+ from {first}\.', log)
        # The predictions that were kept give the metrics, too.
        predictions = pickle.loads((folder / 'predictions.pkl').read_bytes())
        ranks = [
            int((x['pred_score'] > x['pred_score'][x['gt_label']]).sum())
            for x in predictions
        ]
        measured.append(
            {
                f'acc/top{k}': sum(rank < k for rank in ranks) / len(ranks)
                for k in (1, 5)
            }
        )
    report = json.loads((out / 'splits.json').read_text())
    for split, metrics in zip(SPLITS, measured, strict=True):
        for name, value in metrics.items():
            assert report['splits'][str(split)][name] == pytest.approx(value)
    # And so does a test of its own.
    config = tmp_path / 'separate.py'
    lists = f'{tmp_path}/val_split2.txt'
    config.write_text(
        f'_base_ = [{str(finetune)!r}]\n'
        f'test_dataloader = dict(dataset=dict(ann_file={lists!r}))\n'
    )
    last = out / 'split2/finetune/epoch_1.pth'
    separate = test_tool.test(test_tool.parse_args([str(config), str(last)]))
    for name in ('acc/top1', 'acc/top5', 'acc/mean1'):
        assert report['splits']['2'][name] == separate[name]
    top1 = [metrics['acc/top1'] for metrics in measured]
    top5 = [metrics['acc/top5'] for metrics in measured]
    assert len(set(top5)) > 1
    # The third test is the first two together, eight videos each.
    assert report['mean']['acc/top1'] == pytest.approx(sum(top1) / 3)
    assert report['mean']['acc/top5'] == pytest.approx(sum(top5) / 3)
    table = (out / 'splits.md').read_text()
    rows = re.findall(r'^\| (\w+) \|.* ([\d.]+) \| ([\d.]+) \|$', table, re.M)
    assert [row[0] for row in rows] == ['1', '2', '3', 'mean']
    for values, column in ((top1, 1), (top5, 2)):
        expected = [*values, sum(values) / 3]
        assert [float(row[column]) for row in rows] == pytest.approx(
            [100 * value for value in expected], abs=0.006
        )
    assert table in capsys.readouterr().out

    # Once more: nothing is repeated.
    del calls[:]
    run(*argv)
    assert calls == []
    assert json.loads((out / 'splits.json').read_text()) == report
    # Other settings are refused, before anything is run.
    with pytest.raises(UsageError) as error:
        run(*argv, '--cfg-options', 'optim_wrapper.optimizer.lr=0.5')
    message = str(error.value)
    assert 'out/split1 was made with other settings' in message
    assert 'finetune.optim_wrapper.optimizer.lr: 0.002 -> 0.5' in message
    assert calls == []


def test_a_step_that_fails(configs, tmp_path, calls, monkeypatch):
    pretrain, finetune = configs
    weights = tmp_path / 'weights.pth'
    model = MODELS.build(Config.fromfile(finetune).model)
    torch.save(dict(state_dict=model.state_dict()), weights)
    argv = (finetune, '--checkpoint', weights, '--splits', 2, 3)
    argv += ('--work-dir', 'out')
    # What the first step is in a process of its own.
    failing = tmp_path / 'failing'
    failing.write_text(
        '#!/bin/sh\n'
        'echo working\n'
        "echo 'error: There is no annotation file.' >&2\n"
        'exit 2\n'
    )
    failing.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(tool, 'call', tool_runs.call)
        patch.setattr(sys, 'executable', str(failing))
        with pytest.raises(UsageError) as error:
            run(*argv)
    log = 'out/split2/finetune.log'
    assert re.fullmatch(
        r'Split 2, finetune: tools/train\.py failed with exit code 2: There '
        rf'is no annotation file\.\nAll that it printed is in {log}. Once '
        'the cause is mended, the same command goes on.',
        str(error.value),
    )
    lines = Path(log).read_text().splitlines()
    assert lines[0].startswith('$ ') and 'train.py' in lines[0]
    assert lines[1:] == ['working', 'error: There is no annotation file.']
    assert f'model.backbone.init_cfg.checkpoint={weights}' in lines[0]
    assert not Path('out/split3').exists() and calls == []
    # Mended, it goes on.
    run(*argv)
    assert len(calls) == 4
    report = json.loads(Path('out/splits.json').read_text())
    assert list(report['splits']) == ['2', '3']


WAITER = """
import os
from pathlib import Path

from helpers.processes import hang
from mmaction.registry import HOOKS
from mmengine.hooks import Hook


@HOOKS.register_module()
class Waiter(Hook):
    def before_train_epoch(self, runner):
        if runner.epoch == 1 and 'WAIT' in os.environ:
            if runner.rank == 0:  # which has written the checkpoint
                Path('waiting').touch()
            hang()
"""


@pytest.mark.slow
def test_an_interrupted_run_of_two_processes_goes_on(configs, monkeypatch):
    pretrain, finetune = configs
    Path('waiter.py').write_text(WAITER)
    monkeypatch.setenv('PYTHONPATH', f'{ROOT}:{ROOT}/tests:{Path.cwd()}')
    with open(finetune, 'a') as file:
        file.write(
            "custom_imports = dict(imports=['mmmotionmae', 'waiter'])\n"
            "custom_hooks = [dict(type='Waiter')]\n"
        )
    command = [sys.executable, str(ROOT / 'tools' / 'run_splits.py')]
    command += [str(finetune), '--pretrain', str(pretrain), '--splits', '3']
    command += ['--gpus', '2', '--cfg-options']
    command += ['train_cfg.max_epochs=4', '--work-dir']
    subprocess.run([*command, 'whole'], check=True)
    environment = dict(os.environ, WAIT='1')
    interrupted = [*command, 'parts']
    with subprocess.Popen(interrupted, env=environment) as process:
        waiting = Path('waiting')
        wait_until(lambda: waiting.exists() or process.poll() is not None)
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 143
    assert Path('parts/split3/finetune/epoch_1.pth').exists()
    assert not Path('parts/split3/finetune/epoch_4.pth').exists()
    subprocess.run(interrupted, check=True)
    logs = {
        step: Path(f'parts/split3/{step}.log').read_text().splitlines()
        for step in ('pretrain', 'finetune', 'test')
    }
    commands = {
        step: [line for line in lines if line.startswith('$ ')]
        for step, lines in logs.items()
    }
    assert [len(made) for made in commands.values()] == [1, 2, 1]
    assert ['--resume' in x for x in commands['finetune']] == [False, True]
    for name in ('acc/top1', 'acc/top5', 'acc/mean1'):
        whole, parts = (
            json.loads(Path(folder, 'splits.json').read_text())['mean'][name]
            for folder in ('whole', 'parts')
        )
        assert whole == parts
    states = [
        torch.load(
            Path(folder, 'split3/finetune/epoch_4.pth'), weights_only=True
        )['state_dict']
        for folder in ('whole', 'parts')
    ]
    assert all(
        torch.equal(states[0][key], states[1][key]) for key in states[0]
    )


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_step_starts(number, monkeypatch):
    started = []

    class Popen(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self)
            os.kill(os.getpid(), number)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, 'Popen', Popen)
    signal.signal(number, stop)
    with pytest.raises(KeyboardInterrupt):
        tool_runs.call(['sleep', str(HUNG)], Path('step.log'))
    (process,) = started
    assert process.returncode == -signal.SIGTERM
    assert signal.getsignal(number) is stop


def test_intervals_are_in_the_table(tmp_path):
    results = {
        split: SplitResult(
            tmp_path,
            split,
            {},
            metrics={
                'acc/top1': top1,
                'acc/top1_low': top1 - 0.01,
                'acc/top1_high': top1 + 0.02,
                'acc/top5': 0.9,
                'time': 7,
            },
        )
        for split, top1 in ((1, 0.5), (3, 0.625))
    }
    table = write_report(tmp_path, results)
    assert table == (
        '| split | top-1 (%) | 95 % interval | top-5 (%) |\n'
        '| --- | ---: | ---: | ---: |\n'
        '| 1 | 50.00 | 49.00 to 52.00 | 90.00 |\n'
        '| 3 | 62.50 | 61.50 to 64.50 | 90.00 |\n'
        '| mean | 56.25 |  | 90.00 |'
    )
    report = json.loads((tmp_path / 'splits.json').read_text())
    assert report['mean'] == {'acc/top1': 0.5625, 'acc/top5': 0.9}
    results[1].metrics = dict(loss=1)
    with pytest.raises(UsageError, match='give no acc/top1'):
        write_report(tmp_path, results)


def test_configs_that_do_not_fit(configs, tmp_path, calls):
    pretrain, finetune = configs
    weights = tmp_path / 'weights.pth'
    weights.write_bytes(b'weights')
    same = tmp_path / 'same.py'
    lists = f'{tmp_path}/val_split1.txt'
    same.write_text(
        f'_base_ = [{str(pretrain)!r}]\n'
        f'train_dataloader = dict(dataset=dict(ann_file={lists!r}))\n'
        "split = 'any'\n"
    )
    scratch = ROOT / 'configs/demo' / f'{SCRATCH}.py'
    other = tmp_path / 'mine'
    (other / 'split1').mkdir(parents=True)
    (other / 'split1' / 'notes.txt').touch()
    for argv, message in (
        ((scratch,), 'config of finetune does not depend .* SPLIT'),
        ((finetune, '--pretrain', same), 'pretrain does not .* --checkpoint'),
        ((scratch, '--checkpoint', weights), 'trains from scratch'),
        ((finetune,), 'There is no checkpoint .*epoch_40.pth'),
        ((finetune, '--checkpoint', 'x.pth'), "no checkpoint 'x.pth'"),
        ((finetune, '--splits', 1, 1), '--splits must differ'),
        ((finetune, '--pretrain-cfg-options', 'a=1'), 'needs --pretrain'),
        (('no.py',), "no config file 'no.py'"),
        (
            (finetune, '--checkpoint', weights, '--work-dir', other),
            'holds something else',
        ),
    ):
        with pytest.raises(UsageError, match=message):
            run(*argv)
    assert calls == [] and not Path('work_dirs').exists()
    assert [path.name for path in other.rglob('*')] == ['split1', 'notes.txt']
