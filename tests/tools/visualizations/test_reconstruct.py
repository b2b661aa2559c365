# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/visualizations/reconstruct.py`."""

import json
import sys

import numpy as np
import pytest
import reconstruct as tool  # noqa: E402
import torch
from conftest import TINY_MODEL
from PIL import Image

from mmmotionmae.apis.inferencer import MotionMAEInferencer

HINTS = dict(
    num_heads=2,
    decoder_num_heads=2,
    trained_num_frames=8,
    trained_img_size=32,
)
FLAGS = [x for k, v in HINTS.items() for x in (f'--{k.replace("_", "-")}', v)]


@pytest.fixture
def checkpoint(tiny_model, tmp_path):
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict=tiny_model().state_dict()), path)
    return path


@pytest.fixture
def videos(shapes_dir):
    return sorted((shapes_dir / 'videos' / 'pretrain').glob('*.mp4'))[:3]


def run(*argv):
    tool.reconstruct(tool.parse_args([str(a) for a in argv]))


def main(monkeypatch, *argv):
    monkeypatch.setattr(sys, 'argv', ['reconstruct.py', *map(str, argv)])
    return tool.main()


def test_pictures_and_errors(checkpoint, videos, tmp_path, capsys):
    out, errors = tmp_path / 'out', tmp_path / 'errors.json'
    settings = dict(
        num_clips=2, mask='random', mask_ratio=0.75, seed=5, frame_interval=1
    )
    flags = [
        x for k, v in settings.items() for x in (f'--{k.replace("_", "-")}', v)
    ]
    run(
        checkpoint,
        *videos[:2],
        *(*FLAGS, *flags),
        *('--out-dir', out, '--out-type', 'img'),
        *('--errors', errors, '--device', 'cpu', '--batch-size', 2),
    )
    infer = MotionMAEInferencer(
        checkpoint, device='cpu', show_progress=False, load_options=HINTS
    )
    expected = infer(
        [str(video) for video in videos[:2]],
        batch_size=2,
        return_vis=True,
        **settings,
    )
    lines = []
    for prediction, pictures in zip(
        expected['predictions'], expected['visualization'], strict=True
    ):
        for i in range(2):
            name = prediction['name']
            with Image.open(out / f'{name}_clip{i + 1}.png') as image:
                np.testing.assert_array_equal(
                    np.asarray(image), pictures['sheet'][i]
                )
            pixel = prediction['errors'][i]['pixel']
            motion = prediction['errors'][i]['motion']
            lines.append(
                f'{name}, clip {i + 1}: '
                f'pixels R2 {pixel["r2"]:.3f}, {pixel["psnr"]:.1f} dB; '
                f'motion R2 {motion["r2"]:.3f}, '
                f'moving {motion["r2_moving"]:.3f}'
            )
    lines.append(f'{out}: 2 videos, 0 left out')
    printed = capsys.readouterr().out.splitlines()
    assert [x for x in printed if 'mmengine' not in x] == lines
    assert len(list(out.iterdir())) == 4
    written = json.loads(errors.read_text())['predictions']
    assert [w['errors'] for w in written] == [
        p['errors'] for p in expected['predictions']
    ]


def test_defaults_with_a_config(checkpoint, videos, tmp_path, capsys):
    """The flags' defaults are the inferencer's."""
    config = tmp_path / 'config.py'
    config.write_text(f'model = {TINY_MODEL!r}\n')
    out = tmp_path / 'out'
    run(config, videos[0], '--weights', checkpoint, '--out-dir', out)
    name = videos[0].stem
    assert {p.name for p in out.iterdir()} == {f'{name}.png', f'{name}.mp4'}
    infer = MotionMAEInferencer(
        str(config), weights=str(checkpoint), show_progress=False
    )
    pictures = infer(videos[0], return_vis=True)['visualization'][0]
    with Image.open(out / f'{name}.png') as image:
        np.testing.assert_array_equal(np.asarray(image), pictures['sheet'][0])


def test_mistakes_are_told_in_a_line(
    checkpoint, videos, tmp_path, monkeypatch, capsys
):
    out = tmp_path / 'out'
    good = (checkpoint, videos[0], *FLAGS, '--out-dir', out)
    cases = [
        ((), None),
        ((), f"error: '{out}/{videos[0].stem}.png' exists already; "),
        (('--overwrite',), None),
        (('--errors', 'a.txt'), "error: --errors must end in .json, not 'a."),
        (('--mask-ratio', 2), 'error: mask_ratio must be between 0 and 1'),
        (('--img-size', 36), 'error: '),
    ]
    for flags, message in cases:
        code = main(monkeypatch, *good, *flags)
        error = capsys.readouterr().err
        if message is None:
            assert code == 0, error
        else:
            assert code == 2
            assert error.startswith(message) and error.count('\n') == 1


def test_a_video_that_cannot_be_read(
    checkpoint, videos, tmp_path, monkeypatch, capsys
):
    bad = tmp_path / 'bad.mp4'
    bad.touch()
    flags = (*FLAGS, '--out-dir', tmp_path / 'out', '--out-type', 'img')
    assert main(monkeypatch, checkpoint, bad, *flags) == 2
    assert capsys.readouterr().err == (
        f"error: '{bad}' cannot be read: the file is empty.\n"
    )
    assert main(monkeypatch, checkpoint, bad, videos[0], *flags) == 0
    assert capsys.readouterr().out.endswith('1 videos, 1 left out\n')
    assert main(
        monkeypatch, checkpoint, bad, videos[1], *flags, '--on-error', 'raise'
    )
