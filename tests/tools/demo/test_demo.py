# Copyright (c) MotionMAE contributors. All rights reserved.
"""The demo, a few steps of everything, and its parts."""

import base64
import io
import json
import multiprocessing
import os
import re
import runpy
import sys
import threading
from concurrent.futures import Future

import demo  # noqa: E402
import demo_report as report  # noqa: E402
import jobs  # noqa: E402
import numpy as np
import pytest
import torch
from helpers.fake_clock import FakeClock
from PIL import Image

from mmmotionmae.models.targets import (
    FrameDifferenceTarget,
    diverging_colours,
)


@pytest.fixture
def run_demo(monkeypatch, capsys):
    """Run the demo; what it starts are processes of their own."""
    monkeypatch.setenv('OMP_NUM_THREADS', '1')

    def run(*argv):
        code = demo.main([*map(str, argv)])
        out, err = capsys.readouterr()
        assert code == 0, err
        return out

    return run


def test_from_videos_to_a_report(tmp_path, run_demo):
    out_dir = tmp_path / 'demo'
    printed = run_demo('--quick', '--out-dir', out_dir)
    rows = re.findall(
        r'^(none|pixels).*?\s([\d.]+)\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)$',
        printed,
        flags=re.M,
    )
    assert len(rows) == 3
    for _, first, second, mean, _ in rows:
        average = (float(first) + float(second)) / 2
        assert float(mean) == pytest.approx(average, abs=0.11)
    # All differ: the weights are those of the row.
    segmented = re.findall(
        r'^(\w.*?)\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)$',
        printed.split('segmentation by')[1],
        flags=re.M,
    )
    values = {name: float(value) for name, value, _, _ in segmented}
    assert list(values) == [
        'the first mask, copied',
        'raw pixels',
        'encoder, random weights',
        'encoder, pixels only (VideoMAE)',
        'encoder, pixels + motion (MotionMAE)',
        'true masks, through the grid',
    ]
    # Textured objects before textures of the same colours: nothing here, not
    # even these few steps, is near what the grid allows.
    best, second = sorted(values, key=values.get)[:-3:-1]
    assert best == 'true masks, through the grid'
    assert values[best] > values[second] + 10
    assert len(set(values.values())) == len(values)
    for _, mean, region, boundary in segmented:
        average = (float(region) + float(boundary)) / 2
        assert float(mean) == pytest.approx(average, abs=0.11)
    # The accuracies are those of the validation at the end of each training.
    logs = sorted((out_dir / 'finetune').glob('*/*/vis_data/scalars.json'))
    assert len(logs) == 6
    last = [json.loads(log.read_text().splitlines()[-1]) for log in logs]
    printed_values = sorted(float(v) for row in rows for v in row[1:3])
    logged = sorted(100 * line['acc/top1'] for line in last)
    assert printed_values == pytest.approx(logged, abs=0.06)
    # Fine-tuning really started from the checkpoints.
    log = out_dir / 'logs' / 'fine_tune_pixels___motion__MotionMAE___seed_0'
    text = log.with_suffix('.txt').read_text()
    assert 'pretrain_motionmae/epoch_2.pth' in text
    assert (
        'left as they were: 2 tensors (fc_norm.weight, fc_norm.bias)' in text
    )
    assert 'Not used: 2 tensors (norm.weight, norm.bias)' in text
    # The report is whole and needs no other file.
    page = (out_dir / 'report.html').read_text()
    assert page.rstrip().endswith('</html>')
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert page.count('data:image/png') == 6 * 5 + 2
    assert page.count('data:image/gif') == 6
    # A second run keeps the first.
    demo.make_room(out_dir)
    kept = list(tmp_path.glob('demo-*/report.html'))
    assert [path.read_text() for path in kept] == [page]


def test_on_a_folder_of_videos(tmp_path, run_demo, shapes_dir):
    out_dir = tmp_path / 'demo videos'
    (tmp_path / 'not a video.mp4').write_text('text')
    folder = tmp_path / 'my folder'
    (folder / 'sub folder').mkdir(parents=True)
    for i, path in enumerate(sorted(shapes_dir.rglob('*.mp4'))[:6]):
        place = folder / 'sub folder' if i % 2 else folder
        (place / f'video {i}.mp4').write_bytes(path.read_bytes())
    (folder / 'broken.mp4').write_text('text')
    printed = run_demo('--quick', '--videos', folder, '--out-dir', out_dir)
    assert 'Pre-training on 7 videos' in printed
    page = (out_dir / 'report.html').read_text()
    assert page.count('data:image/gif') == 4
    log = (out_dir / 'logs' / 'pre_train.txt').read_text()
    assert 'broken.mp4' in log and 'cannot be loaded' in log


def test_a_folder_without_videos_is_one_clear_line(
    tmp_path, monkeypatch, capsys
):
    out_dir = tmp_path / 'out'
    out_dir.mkdir()
    (out_dir / 'report.html').write_text('an earlier run')
    empty = tmp_path / 'empty'
    empty.mkdir()
    argv = ['demo', '--videos', str(empty), '--out-dir', str(out_dir)]
    monkeypatch.setattr(sys, 'argv', argv)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(demo.__file__, run_name='__main__')
    assert end.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith('error: ') and error.count('\n') == 1
    assert f"There is no video below '{empty}'" in error
    assert (out_dir / 'report.html').read_text() == 'an earlier run'


def test_a_failed_step_shows_its_log(tmp_path, monkeypatch):
    # It fails before it matters how its process began; this is faster.
    fork = multiprocessing.get_context('fork')
    monkeypatch.setattr(multiprocessing, 'get_context', lambda method: fork)
    stage = jobs.Stage(tmp_path, jobs.Results(), total=1.0)
    job = jobs.train_job(
        'broken step', tmp_path / 'no_config.py', tmp_path, options=()
    )
    with pytest.raises(jobs.DemoError) as error:
        stage.run([job])
    assert 'broken step failed' in str(error.value)
    assert 'no_config.py' in str(error.value)
    assert str(tmp_path / 'logs' / 'broken_step.txt') in str(error.value)


def test_a_process_that_died_before_the_next_step(tmp_path, monkeypatch):
    fork = multiprocessing.get_context('fork')
    monkeypatch.setattr(multiprocessing, 'get_context', lambda method: fork)
    stage = jobs.Stage(tmp_path, jobs.Results(), total=1.0)
    assert stage.pool.submit(os._exit, 9).exception()
    with pytest.raises(jobs.DemoError, match='late failed: .*process pool'):
        stage.run([jobs.train_job('late', 'x.py', tmp_path, options=())])


class Pool:
    """Ends each job before the call that submits it returns, or later."""

    def __init__(self, at_once):
        self.at_once, self.names, self.waiting = at_once, [], []

    def submit(self, function, job, log, alone):
        self.names.append(job.name)
        future = Future()
        if self.at_once:
            future.set_result((1.0, {}))
        else:
            threading.Timer(0.01, future.set_result, [(1.0, {})]).start()
        return future


@pytest.mark.parametrize('at_once', [True, False])
def test_what_needs_weights_follows_as_soon_as_they_are_there(
    tmp_path, monkeypatch, capsys, at_once
):
    results = jobs.Results()
    stage = jobs.Stage(tmp_path, results, total=8.0, clock=FakeClock())
    stage.pool.shutdown()
    stage.pool = Pool(at_once)

    def job(name, cost=1.0):
        return jobs.Job(name, 'train', (name,), tmp_path / name, cost)

    def after(name, *more):
        def add():
            assert results.seconds[name] == 1.0  # it has ended
            return [job(one) for one in more]

        return add

    stage.run(
        [job('long', 4.0), job('short')],
        {'long': after('long', 'c', 'd'), 'd': after('d', 'e')},
    )
    names = stage.pool.names
    assert names[:2] == ['long', 'short'] and names[2:] == ['c', 'd', 'e']
    assert results.commands == [f'python tools/train.py {n}' for n in names]
    assert set(results.seconds) == set(names) and stage.done == 8.0
    assert capsys.readouterr().out.count('done in 1 s') == 5


def test_the_time_left_goes_by_what_is_done(tmp_path, capsys):
    clock = FakeClock()
    stage = jobs.Stage(tmp_path, jobs.Results(), total=40.0, clock=clock)
    stage.pool.shutdown()
    stage.done = 5.0
    folder = tmp_path / 'run' / '1'
    (folder / 'vis_data').mkdir(parents=True)
    row = dict(loss=0.5, iter=3, step=3, r2_pixel=0.25)
    (folder / 'vis_data/scalars.json').write_text(json.dumps(row))
    (folder / '1.log').write_text('Iter(train) [ 3/12]  lr: 1\n')
    running = jobs.Job('run', 'train', (), tmp_path / 'run', 20.0)
    waiting = jobs.Job('later', 'train', (), tmp_path / 'none', 15.0)
    clock.advance(65)
    stage._show([running, waiting])
    # 5 of the one and a quarter of 20: 10 of 40 in 65 s.
    assert capsys.readouterr().out.splitlines() == [
        '[01:05]   run: step 3, loss 0.500, r2_pixel 0.250',
        '[01:05]   about 3 min left',
    ]


def test_curve_reads_training_lines_only(tmp_path):
    folder = tmp_path / '20260101_000000' / 'vis_data'
    folder.mkdir(parents=True)
    rows = [
        dict(loss=1.5, iter=5, step=5),
        dict(acc=0.5, step=5),
        dict(loss=1, iter=9, step=9),
    ]
    text = '\n'.join(json.dumps(row) for row in rows)
    (folder / 'scalars.json').write_text(text)
    assert report.Curve.read('x', tmp_path).scalars == [rows[0], rows[2]]
    assert report.Curve.read('x', tmp_path / 'none').scalars == []


def test_film_strips_hold_the_frames_side_by_side():
    video = torch.rand(1, 3, 4, 40, 48)
    motion = torch.zeros(1, 3, 4, 40, 48)
    motion[0, 0, 2, 1, 5:9] = 0.06
    (clip,) = report.film_strips(
        dict(
            input=video,
            masked=video,
            motion=motion,
            motion_reconstruction=motion,
        ),
        dict(motion=FrameDifferenceTarget(name='motion')),
    )
    rows = dict(clip['rows'])
    assert list(rows) == [
        *('input', 'masked', 'motion, true', 'motion, predicted')
    ]

    def pixels(url):
        data = base64.b64decode(url.split(',')[1])
        return np.asarray(Image.open(io.BytesIO(data)))

    strip = pixels(rows['input'])
    assert strip.shape == (80, 4 * (96 + 2), 3)
    for t in range(4):
        frame = strip[::2, 98 * t : 98 * t + 96 : 2]
        expected = (255 * video[0, :, t]).round().permute(1, 2, 0).byte()
        assert np.array_equal(frame, expected.numpy())
    strip = pixels(rows['motion, true'])
    colours = diverging_colours()
    # The mean of the channels is 0.02, on the least scale, 0.05.
    assert strip[2, 98 * 2 + 10].tolist() == colours[127 + 51].tolist()
    assert strip[0, 0].tolist() == colours[127].tolist()


def test_report_escapes_what_it_is_given(tmp_path):
    path = tmp_path / 'report.html'
    report.write(
        path,
        title='<b>',
        lead='a & b',
        table=None,
        segmentation=None,
        curves=['<svg></svg>'],
        clips=[],
        reconstruction_note='',
        commands=['python x --flag "<y>"'],
        versions='v',
    )
    page = path.read_text()
    assert '<h1>&lt;b&gt;</h1>' in page and 'a &amp; b' in page
    assert '<svg></svg>' in page
    assert list(tmp_path.iterdir()) == [path]
