# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/visualizations/attention.py`."""

import sys

import attention as tool  # noqa: E402
import numpy as np
import pytest
import torch
from PIL import Image

from mmmotionmae.apis.features.encoder import find_encoder
from mmmotionmae.apis.inferencer.inputs import (
    ClipLoader,
    ClipSettings,
    clip_size_of,
    list_inputs,
)
from mmmotionmae.models.utils.attention_maps import attention_maps
from mmmotionmae.visualization import attention_rows, draw_sheet

FLAGS = ('--num-heads', 2, '--trained-num-frames', 8, '--trained-img-size', 32)


@pytest.mark.parametrize('kind', ['rollout', 'last'])
def test_pictures(kind, tiny_model, tmp_path, shapes_dir, monkeypatch, capsys):
    model = tiny_model().eval()
    checkpoint = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    video = min((shapes_dir / 'videos/pretrain').glob('*.mp4'))
    out = tmp_path / 'out'
    argv = [checkpoint, video, *FLAGS, '--out-dir', out, '--kind', kind]
    argv += ['--out-type', 'img', 'gif', '--frame-interval', 1]
    monkeypatch.setattr(sys, 'argv', ['attention.py', *map(str, argv)])
    assert tool.main() == 0
    assert capsys.readouterr().out.endswith(f'{out}: 1 videos, 0 left out\n')

    settings = ClipSettings(frame_interval=1, mask=None)
    load = ClipLoader(clip_size_of(model.backbone), settings)
    clip = load(list_inputs(str(video))[0])['inputs'][0]
    encoder = find_encoder(model)
    mean, std = (
        torch.tensor(values).view(3, 1, 1, 1)
        for values in (encoder.mean, encoder.std)
    )
    normalised = ((clip - mean) / std)[None]
    (weights,) = attention_maps(model.backbone, normalised, kind)
    sheet = draw_sheet(attention_rows(clip / 255, weights))
    name = f'{video.stem}_attention'
    with Image.open(out / f'{name}.png') as image:
        shown = np.asarray(image).astype(int)
    assert shown.shape == sheet.shape
    assert np.abs(shown - sheet).max() <= 1
    with Image.open(out / f'{name}.gif') as image:
        assert image.n_frames == 8

    assert tool.main() == 2
    assert 'exists already' in capsys.readouterr().err


def test_one_bad_video_of_several(
    tiny_model, tmp_path, shapes_dir, monkeypatch, capsys
):
    checkpoint = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict=tiny_model().state_dict()), checkpoint)
    video = min((shapes_dir / 'videos/pretrain').glob('*.mp4'))
    bad, out = tmp_path / 'bad.mp4', tmp_path / 'out'
    bad.write_text('no video')

    def main(*videos):
        argv = [checkpoint, *videos, *FLAGS, '--out-dir', out]
        monkeypatch.setattr(sys, 'argv', ['attention.py', *map(str, argv)])
        return tool.main()

    assert main(bad, video) == 0
    told = capsys.readouterr()
    assert f"Left out: '{bad}' cannot be read" in told.err
    assert told.out.endswith(f'{out}: 1 videos, 1 left out\n')
    assert [path.stem for path in out.iterdir()] == [f'{video.stem}_attention']
    assert main(bad) == 2
    assert f"error: '{bad}' cannot be read" in capsys.readouterr().err
