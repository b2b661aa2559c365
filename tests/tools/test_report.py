# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/report.py`: the report on a work dir."""

import base64
import io
import json
import math
import re
import sys

import numpy as np
import pytest
import report as tool  # noqa: E402
from helpers.resumed_runs import PRETRAIN, Recorder
from PIL import Image
from reports import drawing, logs, work_dir

CONFIG = """
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=4)
train_dataloader = dict(batch_size=8, dataset=dict(type='X', n=-1))
broken = __import__('os').mkdir('run')
"""
LOG = """2026/01/01 00:00:00 - mmengine - INFO -
------------------------------------------------------------
System environment:
    sys.platform: <linux>
    GPU number: 2
------------------------------------------------------------
"""


def row(step, **values):
    values = dict(loss=2.0, lr=0.1, base_lr=0.1, time=0.5) | values
    return dict(values, epoch=1 + step // 10, iter=step, step=step)


def val(epoch, **values):
    return dict(values, data_time=0.1, time=0.2, step=epoch)


@pytest.fixture
def start(tmp_path):
    """Write what one start of a training in a work dir leaves."""

    def write(name, *rows, text='', config=CONFIG, folder='work'):
        run = tmp_path / folder / name
        (run / 'vis_data').mkdir(parents=True, exist_ok=True)
        lines = [
            one if isinstance(one, str) else json.dumps(one) for one in rows
        ]
        (run / 'vis_data/scalars.json').write_text('\n'.join(lines))
        (run / 'vis_data/config.py').write_text(config)
        (run / f'{name}.log').write_text(LOG + text)
        return tmp_path / folder

    return write


def run(*argv, **options):
    tool.report(tool.parse_args([str(a) for a in argv]), **options)


def steps(rows):
    return [one['step'] for one in rows]


def test_resumed_trainings_are_joined(start):
    folder = start(
        '20260101_000000',
        *(row(s, loss=1.0) for s in (5, 10, 15, 20, 25)),
        val(1, acc=0.1),
        val(2, acc=0.2),
        val(3, acc=0.3),
    )
    # From the checkpoint of step 12, in the second epoch.
    start(
        '20260102_000000',
        row(15, loss=3.0),
        row(20, loss=3.0),
        val(2, acc=0.5),
    )
    start('20260103_000000')  # ended before it logged anything
    log = logs.read_log(folder)
    assert steps(log.train) == [5, 10, 15, 20]
    assert [one['loss'] for one in log.train] == [1, 1, 3, 3]
    assert [(one['step'], one['acc']) for one in log.val] == [
        (1, 0.1),
        (2, 0.5),
    ]
    assert log.starts == [15] and log.by_epoch
    assert log.folder.name == '20260102_000000'
    # Anew, in the same folder: nothing of before is left.
    start('20260104_000000', row(5, loss=9.0))
    log = logs.read_log(folder)
    assert [one['loss'] for one in log.train] == [9] and not log.val
    assert log.starts == [5]
    # One start alone.
    alone = logs.read_log(folder / '20260102_000000')
    assert steps(alone.train) == [15, 20] and alone.starts == []


def test_validation_by_iterations(start):
    def by_iteration(step):
        one = row(step)
        del one['epoch']
        return one

    folder = start(
        '1',
        by_iteration(10),
        val(10, acc=0.1),
        by_iteration(20),
        val(20, acc=0.2),
    )
    start('2', by_iteration(15), by_iteration(20))
    log = logs.read_log(folder)
    assert not log.by_epoch
    assert steps(log.train) == [10, 15, 20] and steps(log.val) == [10]


def test_lines_that_are_no_rows(start):
    folder = start(
        '1',
        row(5),
        '',
        'text',
        '[1]',
        dict(loss=1.0),
        row(10),
        '{"loss": 0.5, "st',
    )
    assert steps(logs.read_log(folder).train) == [5, 10]


def test_numbers_larger_than_any_float(start):
    large = f'{{"iter": 5, "step": 5, "loss": 1{400 * "0"}}}'
    (found,) = logs.read_log(start('1', large)).train
    assert found == dict(iter=5, step=5, loss=float('inf'))


def test_setting_of_a_training(start, tmp_path):
    lines = (
        'Epoch(train)  [1][20/40]  lr: 1e-4  eta: 0:10:00  time: 1\n'
        'Epoch(train)  [3][10/40]  lr: 1e-4  eta: 1 day, 0:05:00  time: 1\n'
    )
    folder = start('1', row(5), text=lines)
    setting = logs.read_setting(folder / '1')
    assert setting.batch_size == 16  # of both processes
    assert setting.position == pytest.approx((2 + 10 / 40) / 4)
    assert setting.left == '1 day, 0:05:00' and not setting.is_done
    assert 'sys.platform: <linux>' in setting.environment
    assert not (tmp_path / 'run').exists() and 'mkdir' in setting.config
    start('1', row(5), text='Iter(train) [ 30/120]  eta: 0:00:10  time: 1\n')
    assert logs.read_setting(folder / '1').position == 0.25
    start('1', row(5), text='Iter(train) [ 0/0]  eta: 0:00:00  time: 1\n')
    assert logs.read_setting(folder / '1').position is None
    # The logger leaves out the last steps of an epoch.
    start('1', row(5), text=f'{lines}Saving checkpoint at 4 epochs\n')
    assert logs.read_setting(folder / '1').is_done
    start('1', row(5), config='a = (', text=lines)
    setting = logs.read_setting(folder / '1')
    assert setting.batch_size is None and setting.position is None


def test_values_of_a_config_are_read_and_never_run(tmp_path):
    values = logs.plain_values(
        "a = dict(b=[1, -2.5], c=dict(d=None), e=open('x', 'w'))\n"
        "import os\nf = 'text'\n"
    )
    assert values == dict(
        a=dict(b=[1, -2.5], c=dict(d=None), e=None), f='text'
    )
    assert logs.plain_values('a = {[1]: 2}') == dict(a=None)


def test_panels_hold_the_values(start):
    rows = [
        row(
            5,
            data_time=0.1,
            loss_pixel=1.0,
            r2_pixel=0.25,
            r2_motion=-3.0,
            r2_motion_moving=0.1,
            grad_norm=2.0,
        ),
        row(
            10,
            data_time=0.2,
            time=0.4,
            lr=0.2,
            loss_pixel=2.0,
            r2_pixel=0.5,
            r2_motion=0.0,
            r2_motion_moving=0.2,
            grad_norm=3.0,
        ),
    ]
    folder = start('1', *rows, val(1, **{'acc/top1': 0.5, 'acc/top5': 0.75}))
    log = logs.read_log(folder)
    panels = work_dir.panels_of(log, logs.read_setting(folder / '1'))
    found = {panel.title: dict(panel.lines) for panel in panels}
    assert found == {
        'Loss': dict(
            loss=[(5, 2.0), (10, 2.0)], loss_pixel=[(5, 1.0), (10, 2.0)]
        ),
        'R² of pixel': dict(r2_pixel=[(5, 0.25), (10, 0.5)]),
        'R² of motion': dict(
            r2_motion=[(5, -3.0), (10, 0.0)],
            r2_motion_moving=[(5, 0.1), (10, 0.2)],
        ),
        'Learning rate': dict(
            lr=[(5, 0.1), (10, 0.2)], base_lr=[(5, 0.1), (10, 0.1)]
        ),
        'Samples per second': {'Samples per second': [(5, 32.0), (10, 40.0)]},
        'Waiting for the loader (%)': {
            'Waiting for the loader (%)': [(5, 20.0), (10, 50.0)]
        },
        'grad norm': dict(grad_norm=[(5, 2.0), (10, 3.0)]),
        'Validation: acc': {
            'acc/top1': [(1, 0.5)],
            'acc/top5': [(1, 0.75)],
        },
    }
    facts = dict(
        work_dir.facts_of(folder, log, logs.read_setting(folder / '1'))
    )
    assert facts['seconds per step'] == '0.45'
    assert facts['samples per second'] == f'{16 / 0.45:.3g}'
    assert facts['waiting for the loader'] == '35%'
    assert facts['samples per step'] == '16'
    assert facts['r2_pixel'] == '0.5'


def test_what_is_not_finite_is_shown_and_told(start):
    folder = start(
        '1',
        row(5, loss=1.0),
        row(10, loss=math.nan),
        row(15, loss=math.inf),
        row(20, loss=2.0),
        val(1, acc=math.nan),
    )
    log = logs.read_log(folder)
    assert list(work_dir.warnings_of(folder, log)) == [
        'loss is not finite in 2 of 4 logged values, first at step 10.',
        'acc is not finite in 1 of 1 logged values, first at validation 1.',
    ]
    assert work_dir.validation_of(log) == [['acc', 'nan (at 1)', '', '']]
    panel = work_dir.panels_of(log, logs.Setting())[0]
    bad, good = (
        drawing.plot_panel(panel),
        drawing.plot_panel(
            drawing.Panel('Loss', dict(loss=[(5, 1.0), (20, 2.0)]))
        ),
    )
    assert '#dc143c' in bad and '#dc143c' not in good
    assert not re.search(r'[ML] ?nan|\bnan\b', bad)
    run(folder)
    page = (folder / 'report.html').read_text()
    assert 'loss is not finite in 2 of 4' in page


def test_a_page_needs_nothing_else_and_escapes(start, tmp_path):
    folder = start(
        '1',
        row(5),
        row(10),
        val(1, acc=0.5),
        text='Epoch(train)  [1][10/40]  eta: 0:01:00  time: 1\n',
    )
    (folder / 'bad_videos.txt').write_text(
        'a<b>.mp4\tstorage: gone\nc.mp4\tempty\n'
    )
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    pictures = folder / '1/vis_data/vis_image'
    pictures.mkdir()
    for name, shift in (
        ('reconstruction_0_5', 1),
        ('reconstruction_0_9', 2),
        ('reconstruction_0_10', 3),
        ('reconstruction_1_10', 4),
        ('other', 5),
    ):
        Image.fromarray(image + shift).save(pictures / f'{name}.png')
    run(folder)
    page = (folder / 'report.html').read_text()
    assert page.startswith('<!DOCTYPE html>') and page.rstrip().endswith(
        '</html>'
    )
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert 'a&lt;b&gt;.mp4' in page and 'storage: gone' in page
    assert '&lt;linux&gt;' in page and 'a<b>' not in page
    assert '2 videos could not be loaded' in page
    assert 'http-equiv="refresh"' not in page
    shown = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))[0, 0, 0]
        for data in re.findall(r'data:image/png;base64,([^"]+)', page)
    ]
    assert shown == [1, 3, 4]  # the first of the first, and the newest
    assert [p.name for p in folder.iterdir() if p.suffix == '.tmp'] == []
    # Again, it is replaced; a file of another kind is not.
    run(folder)
    (folder / 'report.html').write_text('mine')
    with pytest.raises(tool.UsageError, match='is no report of this tool'):
        run(folder)
    assert (folder / 'report.html').read_text() == 'mine'
    run(folder, '--out', tmp_path / 'new' / 'page.html')
    assert (tmp_path / 'new' / 'page.html').is_file()


@pytest.mark.parametrize('begun', [False, True])
def test_nothing_logged_yet_is_one_clear_line(tmp_path, begun, start, capsys):
    folder = start('1') if begun else tmp_path
    run(folder)
    printed = capsys.readouterr().out
    assert (
        printed.count('\n') == 1 and 'Nothing has been logged yet' in printed
    )
    page = (folder / 'report.html').read_text()
    assert 'Nothing has been logged yet' in page and '<svg' not in page


def test_watching_until_the_training_is_done(start, capsys):
    folder = start(
        '1', row(5), text='Iter(train) [ 5/10]  eta: 0:00:10  time: 1\n'
    )
    waited, pages = [], []

    def sleep(seconds):
        waited.append(seconds)
        pages.append((folder / 'report.html').read_text())
        if len(waited) == 2:
            start(
                '1',
                row(5),
                row(10),
                text='Iter(train) [10/10]  eta: 0:00:00  time: 1\n',
            )

    run(folder, '--watch', 7, sleep=sleep)
    assert waited == [7, 7]
    for page in pages:
        assert '<meta http-equiv="refresh" content="7">' in page
    assert 'http-equiv="refresh"' not in (folder / 'report.html').read_text()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(': ')[2] for line in lines] == [
        'Step 5, epoch 1; 50% done, 0:00:10 left when that was logged',
        'Step 10, epoch 2; done',
    ]


def test_metrics_of_a_test(tmp_path):
    (tmp_path / '1').mkdir()
    (tmp_path / '1/1.json').write_text(
        json.dumps({'acc/top1': 0.51234, 'time': 1.0})
    )
    assert work_dir.tests_of(tmp_path) == [['acc/top1', '0.5123']]
    run(tmp_path)
    assert '0.5123' in (tmp_path / 'report.html').read_text()


def test_thinned_lines_keep_their_peaks():
    points = np.stack([np.arange(10_000.0), np.sin(np.arange(10_000) / 7)], 1)
    points[1234, 1], points[8765, 1] = 50, -50
    thin = drawing.thin_out(points, most=100)
    assert len(thin) <= 100
    assert thin[:, 1].max() == 50 and thin[:, 1].min() == -50
    assert (np.diff(thin[:, 0]) > 0).all()
    assert {tuple(p) for p in thin} <= {tuple(p) for p in points}
    np.testing.assert_array_equal(
        drawing.thin_out(points[:99], 100), points[:99]
    )


def test_a_folder_that_is_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['report.py', str(tmp_path / 'none')])
    assert tool.main() == 2
    error = capsys.readouterr().err
    assert (
        error.startswith('error: There is no work dir')
        and error.count('\n') == 1
    )


def test_a_real_training_is_read(train, tmp_path):
    """What MMEngine writes today, not only what is written above."""
    recorder = Recorder()
    train(
        PRETRAIN,
        'run',
        hooks=[recorder],
        options=[
            'default_hooks.logger.interval=1',
            'default_hooks.pictures.type=ReconstructionHook',
            'default_hooks.pictures.interval=1',
            'default_hooks.pictures.num_clips=2',
            'log_level=INFO',
        ],
    )
    log = logs.read_log(tmp_path / 'run')
    number = len(recorder.losses)
    assert steps(log.train) == list(range(1, number + 1))
    setting = logs.read_setting(log.folder)
    assert setting.batch_size == 4 and setting.is_done
    run(tmp_path / 'run')
    page = (tmp_path / 'run/report.html').read_text()
    for text in ('R² of pixel', 'R² of motion', 'Learning rate', 'PyTorch'):
        assert text in page
    # What the hook has drawn: the first picture, too, and the last of both.
    assert re.findall('<figcaption>(.*)</figcaption>', page) == [
        f'reconstruction_0, step {number // 2}',
        f'reconstruction_0, step {number}',
        f'reconstruction_1, step {number}',
    ]


def test_a_package_that_is_missing(tmp_path, monkeypatch, capsys):
    for name in ('reports.page', 'reports.work_dir'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, 'jinja2', None)
    monkeypatch.setattr(sys, 'argv', ['report.py', str(tmp_path)])
    assert tool.main() == 2
    error = capsys.readouterr().err
    assert error == (
        "error: A report needs jinja2: pip install 'mmmotionmae[demo]'.\n"
    )
