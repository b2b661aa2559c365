# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/benchmark.py vos`, at sizes that take milliseconds."""

import json
import os
import statistics
import sys
from dataclasses import replace

import benchmark
import cv2
import numpy as np
import pytest
import torch
from benchmarks import vos as tool
from benchmarks import vos_propagation, vos_tasks
from benchmarks.clones.cropmae import CropMAE
from benchmarks.clones.dino import Dino, disk, load_davis_scores
from benchmarks.clones.imports import importing_from, stand_in
from benchmarks.memory import Memory
from benchmarks.networks import SIZES
from benchmarks.vos import Times, time_in_turn
from benchmarks.vos_setup import (
    Setup,
    copy_sequences,
    draw_masks,
    write_generated,
)
from benchmarks.vos_tasks import Task, scoring
from helpers.fake_clock import FakeClock
from PIL import Image

from mmmotionmae.apis import UsageError
from mmmotionmae.apis.cost.network import Size
from mmmotionmae.datasets.sequences import read_mask, write_mask

CPU = torch.device('cpu')
# Clones of the official code; nothing is downloaded for a test.
CLONES = {
    name: os.environ.get(f'{name}_CHECKOUT')
    for name in ('DINO', 'CROPMAE', 'DAVIS2017')
}


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(SIZES, 'small', Size(32, 2, 2, 16, 2))


@pytest.fixture
def setup(tiny, tmp_path):
    write_generated(tmp_path / 'davis', 4, 64)
    return Setup(str(tmp_path / 'davis'), size=64, patch_size=8)


# --------------------------------------------------------------- sequences


def test_generated_sequence(tmp_path):
    write_generated(tmp_path, 3, 96)
    frames = sorted(tmp_path.glob('JPEGImages/480p/generated/*'))
    masks = sorted(tmp_path.glob('Annotations/480p/generated/*'))
    assert [f.stem for f in frames] == [m.stem for m in masks]
    assert [f.name for f in frames] == [f'0000{t}.jpg' for t in range(3)]
    expected = draw_masks(3, (96, 171))
    for t in range(3):
        assert cv2.imread(str(frames[t])).shape == (96, 171, 3)
        mask = read_mask(masks[t])
        assert (mask == expected[t]).all()
        assert set(np.unique(mask)) == {0, 1, 2, 3}
        assert 0.05 < (mask > 0).mean() < 0.6


def test_shapes_move_and_one_is_a_ring():
    masks = draw_masks(6, (480, 854))
    for number in (1, 2, 3):
        shares = [(m == number).mean() for m in masks]
        assert min(shares) > 0.5 * max(shares)
        moved = (masks[0] == number) & (masks[5] == number)
        assert 0.5 < moved.sum() / (masks[0] == number).sum() < 0.98
    parts = [
        cv2.connectedComponents(np.uint8(masks[0] != number))[0] - 1
        for number in (1, 2, 3)
    ]
    assert parts == [1, 2, 1]  # what is not of the object


def test_copy_of_some_frames(tmp_path):
    source = tmp_path / 'source'
    for name in ('a', 'b'):
        folder = source / 'JPEGImages/480p' / name
        folder.mkdir(parents=True)
        for t in (7, 8, 9, 10):
            Image.new('RGB', (20, 10), (t, 0, 0)).save(folder / f'{t}.jpg')
            mask = np.full((10, 20), t % 3 + 1, np.uint8)
            write_mask(source / f'Annotations/480p/{name}/{t}.png', mask)
    copy_sequences(str(source), ['b'], tmp_path / 'copy', 3)
    copies = tmp_path / 'copy/JPEGImages/480p'
    frames = sorted(copies.glob('*/*'))
    assert frames == [copies / f'b/0000{t}.jpg' for t in range(3)]
    originals = [source / f'JPEGImages/480p/b/{t}.jpg' for t in (7, 8, 9)]
    for frame, original in zip(frames, originals, strict=True):
        assert frame.read_bytes() == original.read_bytes()
    masks = sorted((tmp_path / 'copy').glob('Annotations/480p/b/*'))
    assert [read_mask(m)[0, 0] for m in masks] == [2, 3, 1]
    with pytest.raises(UsageError, match="no sequences \\['c'\\]"):
        copy_sequences(str(source), ['c'], tmp_path / 'c', 3)
    (source / 'Annotations/480p/a/8.png').unlink()
    with pytest.raises(UsageError, match='8.jpg has no mask'):
        copy_sequences(str(source), ['a'], tmp_path / 'a', 3)


# ----------------------------------------------------------- official code


def test_modules_are_there_for_a_while_only(tmp_path, monkeypatch):
    (tmp_path / 'utils').mkdir()
    (tmp_path / 'utils' / '__init__.py').write_text('')
    (tmp_path / 'utils' / 'more.py').write_text('from missing.deep import f')
    mine = object()
    monkeypatch.setitem(sys.modules, 'utils', mine)
    before, path = dict(sys.modules), list(sys.path)
    stand_ins = stand_in('missing.deep', f=len)
    with importing_from(str(tmp_path), ['utils'], stand_ins):
        from utils import more
    assert more.f is len
    assert sys.modules == before and sys.path == path
    with (
        pytest.raises(KeyError),
        importing_from(str(tmp_path), ['utils'], stand_ins),
    ):
        import utils.more  # noqa: F401

        raise KeyError
    assert sys.modules == before and sys.path == path


@pytest.mark.parametrize('radius', [1, 4.0, 8.0])
def test_disk(radius):
    side = range(-int(radius), int(radius) + 1)
    expected = [[x * x + y * y <= radius**2 for x in side] for y in side]
    assert disk(radius).tolist() == expected


DINO_CODE = """
import os
import numpy as np, torch
from PIL import Image
from torchvision import transforms
import utils, vision_transformer as vits

@torch.no_grad()
def eval_video_tracking_davis(args, model, frames, name, first, seg, palette):
    folder = os.path.join(args.output_dir, name.split('/')[-1])
    os.makedirs(folder)
    for path in tqdm(frames):
        frame, height, width = read_frame(path)
        features, h, w = extract_feature(model, frame, return_h_w=True)
        assert len(features) == h * w and seg.shape == (height, width)
        image = Image.fromarray(np.zeros_like(seg))
        image.putpalette(palette.ravel())
        name = path.split('/')[-1].replace('.jpg', '.png')
        image.save(os.path.join(folder, name))

def restrict_neighborhood(h, w):
    utils.calls.append((h, w))
    assert args.size_mask_neighborhood == 12
    return torch.ones(h * w, h * w).cuda(non_blocking=True)

def label_propagation(args, model, frame, feats, segs, mask=None):
    target, h, w = extract_feature(model, frame, return_h_w=True)
    assert all(f.shape == target.T.shape for f in feats)
    assert all(s.shape[0] == 1 and s.shape[2:] == (h, w) for s in segs)
    assert mask.shape == (1, h * w, h * w) and len(feats) == len(segs)
    return sum(s.cuda() for s in segs), target.T, mask

def extract_feature(model, frame, return_h_w=False):
    return model(frame.cuda()), frame.shape[1] // 8, frame.shape[2] // 8

def read_frame(path, scale_size=[480]):
    width, height = Image.open(path).size
    return torch.zeros(3, scale_size[0], scale_size[0]), height, width

def read_seg(path, factor, scale_size=[480]):
    return None, np.asarray(Image.open(path))
"""
VITS_CODE = """
import torch
class ViT(torch.nn.Module):
    def forward(self, x):
        return torch.zeros(x.shape[1] * x.shape[2] // 64, 5)
def vit_small(patch_size, num_classes):
    return ViT()
"""


@pytest.fixture
def dino_clone(tmp_path):
    folder = tmp_path / 'dino'
    folder.mkdir()
    (folder / 'eval_video_segmentation.py').write_text(DINO_CODE)
    (folder / 'vision_transformer.py').write_text(VITS_CODE)
    (folder / 'utils.py').write_text('calls = []')
    return str(folder)


def test_propagation_beside_dino(setup, dino_clone):
    dino = Dino(dino_clone, 8, 64, CPU)
    clock = FakeClock()
    dino.neighborhood = clock.slow(dino.neighborhood, 3)
    dino.propagate = clock.slow(dino.propagate, 5)
    task = vos_propagation.dino_propagation(setup, dino, clock)
    assert task.facts['neighborhood_seconds'] == 3
    assert list(task.steps) == ['DINO', 'ours'] and task.count == 1
    assert '3 frames as context, grid 8x8' in task.title
    assert task.steps['DINO']().shape == (1, 4, 8, 8)
    labels = task.steps['ours']()
    assert labels.shape == (64, 4)
    torch.testing.assert_close(labels.sum(1), torch.ones(64))
    # The official masks here are empty, so equal where ours is background.
    assert task.facts['compared_frames'] == 3
    assert 0.3 < task.facts['equal_pixels'] < 0.95
    assert dino.code.utils.calls == [(8, 8)]


def test_agreement():
    theirs = np.zeros((3, 2, 5), np.uint8)
    ours = theirs.copy()
    ours[0] = 1  # the first frame does not count
    ours[1, 0, :4] = 1
    found = vos_propagation.agreement([(theirs, ours), (theirs, theirs)])
    assert found == dict(
        equal_pixels=pytest.approx(0.9),
        least_in_a_frame=pytest.approx(0.6),
        compared_frames=4,
    )


def test_whole_programs_write_all_masks(setup, dino_clone):
    dino = Dino(dino_clone, 8, 64, CPU)
    task = vos_tasks.end_to_end(setup, dino)
    assert task.count == 4 and '4 frames (generated)' in task.title
    assert [step() for step in task.steps.values()] == [4, 4]


def test_memory_of_the_whole_program(setup, dino_clone):
    setup = replace(setup, dino=dino_clone)
    ours = vos_tasks.measure_memory('ours', setup)
    # The affinities of 64 cells to 64 of a frame, at least.
    assert 4 * 64**2 < ours.tensors < 50e6
    theirs = vos_tasks.measure_memory('DINO', setup)
    assert 4 * 3 * 64**2 <= theirs.tensors < ours.tensors


DAVIS_CODE = """
import numpy as np

class DAVISEvaluation:
    @staticmethod
    def _evaluate_semisupervised(gt, masks, void, metric):
        from skimage.morphology import disk
        assert disk(1).sum() == 5 and void is None and metric == ('J', 'F')
        both = (gt & masks).sum((2, 3)) / (gt | masks).sum((2, 3))
        return both, np.full_like(both, 2.0)
"""


@pytest.fixture
def davis_clone(tmp_path):
    folder = tmp_path / 'davis-evaluation'
    (folder / 'davis2017').mkdir(parents=True)
    (folder / 'davis2017' / 'evaluation.py').write_text(DAVIS_CODE)
    return str(folder)


def test_scores(davis_clone):
    task = scoring(davis_clone, 3, (120, 200))
    assert task.count == 9 and task.unit == 'frame-object'
    region, boundary = task.steps['ours']()
    theirs = task.steps['official']()
    np.testing.assert_allclose(theirs[0], region, rtol=1e-12)
    assert 0.2 < region.min() and region.max() < 1
    # F is 2 everywhere in this made-up code.
    expected = np.abs(2 - boundary).max()
    assert task.facts['largest_difference'] == pytest.approx(expected)
    assert task.facts['mean_j'] == pytest.approx(region.mean())


@pytest.mark.parametrize(
    'make,address',
    [
        (lambda folder: Dino(folder, 8, 64, CPU), 'facebookresearch/dino'),
        (lambda folder: CropMAE(folder, 8, (64, 64), CPU), 'CropMAE'),
        (load_davis_scores, 'davis2017-evaluation'),
    ],
)
def test_official_code_is_not_there(tmp_path, make, address):
    with pytest.raises(UsageError, match=f'no file .*{address}'):
        make(str(tmp_path))


@pytest.mark.skipif(not CLONES['DINO'], reason='DINO_CHECKOUT is not set')
def test_the_real_dino(setup):
    dino = Dino(CLONES['DINO'], 8, 64, CPU)
    task = vos_propagation.dino_propagation(setup, dino)
    assert task.facts['equal_pixels'] == 1
    labels = task.steps['DINO']()[0].flatten(1).T
    torch.testing.assert_close(labels, task.steps['ours']())
    assert vos_tasks.whole_program('DINO', setup, dino)() == 4


@pytest.mark.skipif(
    not CLONES['CROPMAE'], reason='CROPMAE_CHECKOUT is not set'
)
def test_the_real_cropmae(setup):
    code = CropMAE(CLONES['CROPMAE'], 8, setup.crw_size, CPU)
    task = vos_propagation.crw_propagation(setup, code)
    assert task.facts['equal_pixels'] == 1
    labels = task.steps['CropMAE']().transpose(1, 2)
    torch.testing.assert_close(labels, torch.stack(task.steps['ours']()))


@pytest.mark.skipif(
    not CLONES['DAVIS2017'], reason='DAVIS2017_CHECKOUT is not set'
)
def test_the_real_scores():
    task = scoring(CLONES['DAVIS2017'], 3, (240, 320))
    assert task.facts['largest_difference'] == 0


# ------------------------------------------------------------------ report


def test_all_take_turns():
    clock = FakeClock()
    seen = []
    steps = {
        name: clock.slow(lambda name=name: seen.append(name), seconds)
        for name, seconds in (('a', 2), ('b', 3))
    }
    task = Task('made up', 'frame', 2, CPU, 'a', steps)
    measured = time_in_turn(task, 4, clock)
    assert ''.join(seen[2:]) == 'abba' * 2 and sorted(seen[:2]) == ['a', 'b']
    assert measured.rounds == dict(a=[2000] * 4, b=[3000] * 4)


@pytest.fixture
def measured():
    task = Task(
        'made up',
        'frame',
        2,
        CPU,
        'them',
        {},
        dict(
            equal_pixels=0.9995,
            least_in_a_frame=0.99,
            compared_frames=7,
            neighborhood_seconds=2.04,
        ),
        dict(them=Memory(5_000_000, 7_000_000), us=Memory(2_000_000)),
    )
    return Times(task, dict(them=[40.0, 60.0, 100.0], us=[20.0, 20.0, 25.0]))


def test_figures(measured):
    them, us = measured.rows()
    assert them['ms'] == [25, 30, 40] and them['ratio'] == [1, 1, 1]
    assert us['ms'] == [10, 10, 11.25] and us['per_second'] == 100
    assert us['ratio'] == [2.5, 3, 3.5]
    assert us['memory'] == dict(tensors=2_000_000, resident=None)


def test_table(measured):
    title, table, text = measured.markdown().split('\n\n')
    assert title == '**made up**'
    lines = table.splitlines()
    assert lines[0] == (
        '|  | ms/frame | frames/s | x them | memory, MB '
        '| resident memory, MB |'
    )
    assert lines[3] == (
        '| us | 10.00 (10.00 to 11.25) | 100.00 | 3.00 (2.50 to 3.50) | 2 |  |'
    )
    assert '99.9500% of the pixels' in text and '99.0000% in the' in text
    assert 'takes 2.0 s for each sequence' in text


def test_table_of_ours_alone(measured):
    del measured.rounds['them']
    measured.task.memory.clear()
    head = measured.markdown().split('\n\n')[1].splitlines()[0]
    assert head == '|  | ms/frame | frames/s |'


# ------------------------------------------------------------ command line


def run(*argv):
    return tool.benchmark(tool.parse_args(argv))


SMALL = ['--size=64', '--frames=3', '--rounds=3', '--patch-size=8']


def test_files(tiny, tmp_path, dino_clone, davis_clone, capsys, monkeypatch):
    asked = []

    def measure_apart(measure, key, setup, way_out):
        asked.append((key, setup.dino))
        return Memory(7_000_000, 8_000_000)

    monkeypatch.setattr(tool, 'measure_apart', measure_apart)
    threads = cv2.getNumThreads()
    result = run(
        *SMALL,
        *(f'--out={tmp_path}/a.md', f'--json={tmp_path}/a.json'),
        *(f'--dino={dino_clone}', f'--davis2017-evaluation={davis_clone}'),
        '--device=cpu',
    )
    captured = capsys.readouterr()
    text = (tmp_path / 'a.md').read_text()
    assert text == result['markdown'] + '\n' == captured.out[-len(text) :]
    assert 'without --cropmae' in captured.err
    assert 'https://github.com/alexandre-eymael/CropMAE' in captured.err
    assert 'facebookresearch' not in captured.err
    figures = json.loads((tmp_path / 'a.json').read_text())
    assert figures['settings']['frames'] == 3 and figures['date'] in text
    names = [[row['name'] for row in t['rows']] for t in figures['tables']]
    assert names == [
        ['DINO', 'ours'],
        ['DINO', 'ours'],
        ['ours'],
        ['official', 'ours'],
    ]
    assert asked == [('DINO', dino_clone), ('ours', dino_clone)]
    for table in figures['tables']:
        own = table['rounds']['ours']
        row = table['rows'][-1]
        assert len(own) == 3
        middle = statistics.median(own) / table['count']
        assert row['ms'][1] == pytest.approx(middle)
        if len(table['rows']) == 2:
            other = table['rounds'][table['reference']]
            ratios = [a / b for a, b in zip(other, own, strict=True)]
            middle = statistics.median(ratios)
            assert row['ratio'][1] == pytest.approx(middle)
    assert figures['tables'][1]['rows'][0]['memory']['tensors'] == 7_000_000
    assert '| 7 | 8 |' in text
    assert cv2.getNumThreads() == threads


def test_own_data(tiny, tmp_path):
    source = tmp_path / 'source'
    write_generated(source, 5, 64)
    files = {path: path.read_bytes() for path in source.rglob('*.*')}
    result = run(
        *SMALL, '--tasks', 'end-to-end', '--no-memory', f'--data={source}'
    )
    (table,) = result['tables']
    assert table['count'] == 3 and 'memory' not in table['rows'][0]
    assert files == {path: path.read_bytes() for path in source.rglob('*.*')}


def test_files_are_not_overwritten(tiny, tmp_path, capsys):
    file = tmp_path / 'old'
    file.write_text('precious')
    for flag in ('--json', '--out'):
        argv = ['vos', f'{flag}={file}', *SMALL, '--tasks', 'scoring']
        assert benchmark.main(argv) == 2
        error = capsys.readouterr().err
        assert error.startswith('error: ') and error.count('\n') == 1
        assert str(file) in error and '--overwrite' in error
        assert file.read_text() == 'precious'
    assert benchmark.main([*argv, '--overwrite']) == 0
    assert 'J and F' in file.read_text()


def test_mistakes(tmp_path):
    for argv, message in (
        ([f'--dino={tmp_path}'], '--dino takes a clone of .*dino'),
        (['--sequences', 'a'], '--sequences needs --data'),
        (['--frames=2'], 'at least 3'),
        (['--size=100'], 'multiple of 16'),
    ):
        with pytest.raises(UsageError, match=message):
            run(*argv)
    for argv in (['--rounds=0'], ['--patch-size=14'], ['--tasks', 'dance']):
        with pytest.raises(SystemExit):
            tool.parse_args(argv)
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match='no device'):
            run('--device=cuda')
