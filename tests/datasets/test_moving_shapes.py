# Copyright (c) MotionMAE contributors. All rights reserved.
"""Tests of the Moving Shapes generator."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import decord
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from mmmotionmae.datasets.moving_shapes import (
    DIRECTIONS,
    MOTIONS,
    Scene,
    files,
    render,
    sample_scene,
    sample_vos_scene,
    write_dataset,
)
from mmmotionmae.datasets.sequences.masks import PALETTE
from mmmotionmae.utils.video_files import write_video

Array = npt.NDArray[Any]
SMALL: dict[str, Any] = dict(
    num_pretrain=5,
    num_train=16,
    num_val=8,
    num_frames=6,
    num_davis=2,
    disable=True,
)
UNIT = {name: np.exp(0.25j * np.pi * i) for i, name in enumerate(DIRECTIONS)}


def decode(path: Path) -> Array:
    reader = decord.VideoReader(str(path), num_threads=1)
    return np.asarray(reader.get_batch(range(len(reader))).asnumpy())


def torus_centroid(masks: Array) -> Array:
    """Centre (T, 2) of the non-zero pixels in frame sides, modulo 1."""
    side = masks.shape[-1]
    wave = np.exp(2j * np.pi * (np.arange(side) + 0.5) / side)
    on = masks > 0
    moments = np.stack(
        [(on * wave).sum((1, 2)), (on * wave[:, None]).sum((1, 2))], axis=1
    )
    return np.asarray(np.angle(moments) / (2 * np.pi) % 1)


def torus_steps(masks: Array) -> Array:
    """Displacement per frame ``x + iy`` (T - 1) in frame sides."""
    steps = (np.diff(torus_centroid(masks), axis=0) + 0.5) % 1 - 0.5
    return np.asarray(steps @ np.array([1, 1j]))


def files_of(root: Path) -> dict[str, tuple[int, int]]:
    """Inode and modification time of every file."""
    return {
        p.relative_to(root).as_posix(): (p.stat().st_ino, p.stat().st_mtime_ns)
        for p in root.rglob('*')
        if p.is_file()
    }


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('shapes') / 'data'
    assert write_dataset(folder, **SMALL)
    return folder


# Scenes and motion


def test_render_format_and_determinism() -> None:
    scene = sample_scene(np.random.default_rng(1), 'up')
    frames, masks = render(scene, 5, 32)
    assert frames.shape == (5, 32, 32, 3) and frames.dtype == np.uint8
    assert masks.shape == (5, 32, 32) and masks.dtype == np.uint8
    assert np.unique(masks).tolist() == [0, 1]
    again, _ = render(sample_scene(np.random.default_rng(1), 'up'), 5, 32)
    other, _ = render(sample_scene(np.random.default_rng(2), 'up'), 5, 32)
    assert np.array_equal(frames, again)
    assert np.abs(frames.astype(int) - other).mean() > 10


def test_same_seed_gives_same_appearance_for_every_direction() -> None:
    first = [
        render(sample_scene(np.random.default_rng(5), motion), 1, 32)[0]
        for motion in DIRECTIONS
    ]
    assert all(np.array_equal(first[0], frame) for frame in first)


@pytest.mark.parametrize('motion', ['down-left', 'rotate-cw', 'recede'])
def test_render_is_resolution_independent(motion: str) -> None:
    scene = sample_scene(np.random.default_rng(3), motion)
    small, _ = render(scene, 4, 32)
    large, _ = render(scene, 4, 128)
    for a, b in zip(small, large, strict=True):
        b = cv2.resize(b, (32, 32), interpolation=cv2.INTER_AREA)
        # The outline that cv2 adds (half a fine pixel) is all that differs.
        assert np.abs(a.astype(int) - b).mean() < 1


def test_shape_stands_out() -> None:
    rng = np.random.default_rng(0)
    luma = np.array([0.299, 0.587, 0.114])
    for _ in range(50):
        scene = sample_scene(rng, 'left')
        frames, masks = render(scene, 1, 64)
        inside = frames[0] @ luma
        color = np.array(scene.objects[0].color) @ luma
        assert np.abs(inside[masks[0] == 0] - color).max() > 59
        assert 0.04 < masks.mean() < 0.24


@pytest.mark.parametrize('motion', DIRECTIONS)
def test_translation_has_the_named_direction(motion: str) -> None:
    rng = np.random.default_rng(11)
    for _ in range(5):
        _, masks = render(sample_scene(rng, motion), 30, 64)
        steps = torus_steps(masks)
        mean = steps.mean()
        assert 0.059 < abs(mean) < 0.101
        assert abs(np.angle(mean / UNIT[motion])) < math.radians(3)
        # It keeps on across the border.
        assert np.abs(steps - mean).max() < 0.02


@pytest.mark.parametrize('motion', ['rotate-cw', 'rotate-ccw'])
def test_rotation_has_the_named_sense(motion: str) -> None:
    rng = np.random.default_rng(12)
    for _ in range(10):
        scene = sample_scene(rng, motion)
        assert scene.objects[0].shape != 'disc'
        centred = dataclasses.replace(scene.objects[0], position=(0.5, 0.5))
        _, masks = render(Scene(scene.corners, (centred,)), 4, 128)
        for now, then in zip(masks, masks[1:], strict=False):
            # Positive angles of cv2 are counter-clockwise on the screen.
            error = {}
            for sense, degrees in (('rotate-cw', -11), ('rotate-ccw', 11)):
                turn = cv2.getRotationMatrix2D((63.5, 63.5), degrees, 1)
                turned = cv2.warpAffine(now * 255, turn, (128, 128)) > 127
                error[sense] = int((turned != then).sum())
            assert min(error, key=error.__getitem__) == motion


def test_zoom_changes_the_area() -> None:
    rng = np.random.default_rng(13)
    for motion in ('approach', 'recede'):
        for _ in range(10):
            _, masks = render(sample_scene(rng, motion), 12, 64)
            area = masks.sum((1, 2), dtype=float)
            if motion == 'recede':
                area = area[::-1]
            assert (np.diff(area) > 0).all()
            assert 1.7**2 < area[-1] / area[0] < 2.65**2


@pytest.mark.parametrize(
    'motions, times', [(DIRECTIONS, [0, 6]), (MOTIONS, [3])]
)
def test_single_frame_does_not_tell_the_class(
    motions: tuple[str, ...], times: list[int]
) -> None:
    """Frame 3 of 7 is the middle, where sizes agree in all classes."""
    rng = np.random.default_rng(21)
    features = np.empty((len(motions), 150, len(times), 10))
    for rows, motion in zip(features, motions, strict=True):
        for row in rows:
            frames, masks = (
                x[times] for x in render(sample_scene(rng, motion), 7, 16)
            )
            wave = 2 * np.pi * torus_centroid(masks)
            row[:, 0:2], row[:, 2:4] = np.cos(wave), np.sin(wave)
            row[:, 4:6] = [np.argwhere(mask).mean(0) for mask in masks]
            row[:, 6:9] = frames.mean((1, 2))
            row[:, 9] = masks.sum((1, 2))
    means, errors = features.mean(1), features.std(1) / math.sqrt(150)
    # Positions are uniform on the torus in every class.
    assert np.abs(means[..., :4] / errors[..., :4]).max() < 4
    assert np.abs((means - means.mean(0)) / errors)[..., :9].max() < 4
    # The rotating classes lack the disc, hence have less area.
    fair = [not motion.startswith('rotate') for motion in motions]
    area, error = means[fair, :, 9], errors[fair, :, 9]
    assert np.abs((area - area.mean(0)) / error).max() < 4


def test_unknown_motion() -> None:
    with pytest.raises(ValueError, match='unknown motion'):
        sample_scene(np.random.default_rng(0), 'sideways')


# Video files


@pytest.mark.parametrize('size', [32, 64])
def test_decoded_video_is_what_was_rendered(tmp_path: Path, size: int) -> None:
    rng = np.random.default_rng(31)
    for i in range(5):
        frames, masks = render(sample_scene(rng, MOTIONS[i]), 12, size)
        path = tmp_path / 'new' / f'{i}.mp4'
        write_video(path, frames, fps=10)
        decoded = decode(path)
        assert decoded.shape == frames.shape
        assert np.abs(decoded.astype(int) - frames).mean() < 6
        reader = decord.VideoReader(str(path))
        assert reader.get_avg_fps() == 10
        # No frame is predicted from others, which would tell the motion.
        assert list(reader.get_key_indices()) == list(range(12))
    assert sorted(p.name for p in path.parent.iterdir()) == [
        f'{i}.mp4' for i in range(5)
    ]


@pytest.mark.parametrize(
    'frames',
    [
        np.zeros((4, 31, 32, 3), np.uint8),
        np.zeros((4, 32, 31, 3), np.uint8),
        np.zeros((0, 32, 32, 3), np.uint8),
        np.zeros((4, 32, 32), np.uint8),
        np.zeros((4, 32, 32, 3), np.float32),
    ],
)
def test_bad_frames(tmp_path: Path, frames: Array) -> None:
    with pytest.raises(ValueError, match='even sides|must be uint8'):
        write_video(tmp_path / 'bad.mp4', frames)
    assert not list(tmp_path.iterdir())


# The data set


def test_layout_and_lists(root: Path) -> None:
    classes = (root / 'classes.txt').read_text().split()
    assert classes == list(DIRECTIONS)
    assert (root / 'pretrain.txt').read_text().split('\n') == [
        f'videos/pretrain/{i:05d}.mp4' for i in range(5)
    ] + ['']
    listed = set((root / 'pretrain.txt').read_text().split())
    for split, count in (('train', 16), ('val', 8)):
        rows = [
            line.split(' ')
            for line in (root / f'{split}.txt').read_text().splitlines()
        ]
        assert Counter(int(label) for _, label in rows) == {
            label: count // 8 for label in range(8)
        }
        for path, label in rows:
            assert Path(path).parent.as_posix() == (
                f'videos/{split}/{classes[int(label)]}'
            )
        listed |= {path for path, _ in rows}
    assert listed == {
        p.relative_to(root).as_posix() for p in (root / 'videos').rglob('*.*')
    }


def test_labels_are_the_motion_in_the_file(root: Path) -> None:
    for line in (root / 'train.txt').read_text().splitlines():
        path, label = line.split(' ')
        frames = decode(root / path).astype(float)
        assert frames.shape == (6, 32, 32, 3)
        # Phase correlation of successive frames, less the static background.
        frames = frames.mean(3) - np.median(frames.mean(3), axis=0)
        spectra = np.fft.fft2(frames)
        power = np.fft.ifft2((spectra[1:] * spectra[:-1].conj()).sum(0)).real
        y, x = np.unravel_index(int(power.argmax()), power.shape)
        shift = complex((x + 16) % 32 - 16, (y + 16) % 32 - 16)
        agree = {
            name: (shift * unit.conjugate()).real
            for name, unit in UNIT.items()
        }
        assert max(agree, key=agree.__getitem__) == DIRECTIONS[int(label)]


def test_dataset_is_deterministic_and_grows(
    root: Path, tmp_path: Path
) -> None:
    write_dataset(tmp_path / 'grown', **{**SMALL, 'num_train': 24})
    write_dataset(tmp_path / 'other', **{**SMALL, 'seed': 1})
    for split in ('pretrain', 'train', 'val'):
        lines = (root / f'{split}.txt').read_text().splitlines()
        grown = (tmp_path / f'grown/{split}.txt').read_text().splitlines()
        assert grown[: len(lines)] == lines
        for line in lines:
            path = line.split(' ')[0]
            video = decode(root / path)
            assert np.array_equal(video, decode(tmp_path / 'grown' / path))
            other = decode(tmp_path / 'other' / path).astype(int)
            assert np.abs(video - other).mean() > 5
    # Splits do not share videos.
    path = 'right/00000.mp4'
    assert not np.array_equal(
        decode(root / 'videos/train' / path),
        decode(root / 'videos/val' / path),
    )


def test_several_processes_write_the_same_files(
    root: Path, tmp_path: Path
) -> None:
    write_dataset(tmp_path, **SMALL, num_processes=2)
    names = {p.relative_to(root) for p in root.rglob('*') if p.is_file()}
    written = {
        p.relative_to(tmp_path) for p in tmp_path.rglob('*') if p.is_file()
    }
    assert written == names
    for name in names:
        assert (tmp_path / name).read_bytes() == (root / name).read_bytes()


def test_a_video_that_a_process_cannot_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, *args: object) -> None:
        raise ValueError(f'no {path.name}')

    monkeypatch.setattr(files, '_write_one', fail)
    with pytest.raises(OSError, match=r'cannot be written: .*no 0000\d.mp4'):
        write_dataset(tmp_path, **SMALL, num_processes=2)
    assert not (tmp_path / 'manifest.json').exists()


def test_second_call_writes_nothing(root: Path) -> None:
    before = files_of(root)
    assert not write_dataset(root, **SMALL)
    assert files_of(root) == before
    manifest = json.loads((root / 'manifest.json').read_text())
    assert manifest['arguments']['num_train'] == 16
    assert manifest['arguments']['motions'] == list(DIRECTIONS)


def test_other_arguments_are_refused(root: Path) -> None:
    before = files_of(root)
    with pytest.raises(FileExistsError, match='another folder') as info:
        write_dataset(root, **{**SMALL, 'seed': 1})
    assert str(root) in str(info.value)
    assert files_of(root) == before


def test_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'thesis.txt').write_text('precious')
    with pytest.raises(FileExistsError, match='thesis.txt'):
        write_dataset(tmp_path, **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ['thesis.txt']


def test_interrupted_run_is_completed(tmp_path: Path) -> None:
    arguments = {
        **SMALL,
        'num_train': 0,
        'num_val': 0,
        'num_davis': 1,
        'davis_frames': 2,
    }
    write_dataset(tmp_path, **arguments)
    names = set(files_of(tmp_path))
    first = tmp_path / 'videos/pretrain/00000.mp4'
    video = decode(first)
    (tmp_path / 'manifest.json').unlink()
    (tmp_path / 'videos/pretrain/00004.mp4').unlink()
    (tmp_path / 'videos/pretrain/00004.mp4.tmp').write_bytes(b'half')
    first.write_bytes(b'damaged')
    assert write_dataset(tmp_path, **arguments)
    assert set(files_of(tmp_path)) == names
    assert np.array_equal(decode(first), video)


@pytest.mark.parametrize(
    'bad, message',
    [
        ({'size': 33}, 'even'),
        ({'size': 8}, 'size must be at least 16'),
        ({'num_val': -1}, 'num_val'),
        ({'seed': -1}, 'seed'),
        ({'level': 4}, 'levels must be among 0 to 3, got level 4'),
        ({'davis_level': -1}, 'davis_level -1'),
        ({'pretrain_levels': ()}, r'pretrain_levels \(\)'),
        ({'pretrain_levels': (0, 7)}, r'pretrain_levels \(0, 7\)'),
        ({'motions': ()}, 'motions'),
        ({'motions': ('up', 'up')}, 'motions'),
        ({'motions': ('up', 'sideways')}, 'motions'),
    ],
)
def test_bad_arguments(
    tmp_path: Path, bad: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_dataset(tmp_path / 'new', **{**SMALL, **bad})
    assert not (tmp_path / 'new').exists()


# Video object segmentation


def test_davis_layout(root: Path) -> None:
    davis = root / 'davis'
    names = (davis / 'ImageSets/2017/val.txt').read_text().split()
    assert names == ['shapes-00', 'shapes-01']
    for name, num_objects in zip(names, (1, 2), strict=True):
        images = sorted((davis / 'JPEGImages/480p' / name).iterdir())
        annotations = sorted((davis / 'Annotations/480p' / name).iterdir())
        assert [p.name for p in images] == [f'{t:05d}.jpg' for t in range(20)]
        assert [p.stem for p in annotations] == [p.stem for p in images]
        for t, (image, annotation) in enumerate(
            zip(images, annotations, strict=True)
        ):
            with Image.open(image) as frame, Image.open(annotation) as mask:
                assert frame.mode == 'RGB' and mask.mode == 'P'
                assert frame.size == mask.size == (128, 128)
                ids = np.unique(np.asarray(mask)).tolist()
                if t == 0:
                    assert ids == list(range(num_objects + 1))
                assert set(ids) <= set(range(num_objects + 1))
                palette = np.array(mask.getpalette()).reshape(-1, 3)
                assert np.array_equal(palette, PALETTE[: len(palette)])
                assert len(palette) > num_objects


def test_vos_objects_stay_inside_and_bounce() -> None:
    rng = np.random.default_rng(41)
    bounces = 0
    for _ in range(20):
        scene = sample_vos_scene(rng, 1)
        _, masks = render(scene, 20, 64)
        obj = scene.objects[0]
        area = masks.sum((1, 2)) / obj.zoom ** (2 * np.linspace(-0.5, 0.5, 20))
        assert area.max() / area.min() < 1.15  # nothing is cut off
        steps = torus_steps(masks)
        assert np.abs(steps).max() < 0.035
        velocity = np.array(obj.velocity) @ np.array([1, 1j])
        bounces += bool(np.abs(steps[-1] - velocity) > 0.5 * abs(velocity))
    assert 3 <= bounces < 20


def test_vos_objects_are_apart_in_the_first_frame() -> None:
    rng = np.random.default_rng(42)
    for _ in range(20):
        scene = sample_vos_scene(rng, 2)
        _, both = render(scene, 1, 64)
        _, back = render(
            dataclasses.replace(scene, objects=scene.objects[:1]), 1, 64
        )
        assert np.array_equal(both == 1, back == 1)
        assert (both == 2).any()
    with pytest.raises(ValueError, match='1 or 2'):
        sample_vos_scene(rng, 3)


# The command line tool


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    path = (
        Path(__file__).resolve().parents[2]
        / 'tools/data/make_moving_shapes.py'
    )
    spec = importlib.util.spec_from_file_location('make_moving_shapes', path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tool(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        str(tmp_path / 'out'),
        '--num-pretrain',
        '2',
        '--num-train',
        '4',
        '--num-val',
        '2',
        '--size',
        '64',
        '--frames',
        '5',
        '--motions',
        'approach',
        'left',
        '--num-davis',
        '0',
    ]
    assert tool.main(command) == 0
    assert (tmp_path / 'out/train.txt').read_text().splitlines() == [
        'videos/train/approach/00000.mp4 0',
        'videos/train/left/00000.mp4 1',
        'videos/train/approach/00001.mp4 0',
        'videos/train/left/00001.mp4 1',
    ]
    video = decode(tmp_path / 'out/videos/val/left/00000.mp4')
    assert video.shape == (5, 64, 64, 3)
    assert not (tmp_path / 'out/davis').exists()
    assert tool.main(command) == 0
    assert 'already complete' in capsys.readouterr().out


@pytest.mark.parametrize(
    'options', [['--size', '33'], ['--motions', 'sideways']]
)
def test_tool_reports_errors_in_one_line(
    tool: ModuleType,
    tmp_path: Path,
    options: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert tool.main([str(tmp_path / 'out'), *options]) == 2
    message = capsys.readouterr().err
    assert message.startswith('error: ') and message.count('\n') == 1
