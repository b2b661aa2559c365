# Copyright (c) MotionMAE contributors. All rights reserved.
"""Weights that come with the package."""

import numpy as np
import pytest
import torch
from conftest import ROOT
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint

from mmmotionmae.apis import extract_features, load_pretrained
from mmmotionmae.checkpoints import (
    locate_checkpoint,
    read_checkpoint,
    shipped_weights,
    write_checkpoint,
)
from mmmotionmae.datasets.moving_shapes import write_dataset
from mmmotionmae.utils.errors import CheckpointError

NAMES = shipped_weights()


def test_names():
    assert len(NAMES) == 2
    for name in NAMES:
        path = locate_checkpoint(name)
        assert path == locate_checkpoint(f'{name}.safetensors')
        assert open(path, 'rb').seek(0, 2) < 8e6
    assert locate_checkpoint('mmmotionmae/a.pth') == 'mmmotionmae/a.pth'
    with pytest.raises(
        CheckpointError, match=f"'mmmotionmae://b', but {NAMES[0]}"
    ):
        read_checkpoint('mmmotionmae://b')


@pytest.mark.parametrize('name', NAMES)
def test_they_fit_their_config(name):
    """And are finite, with exact positions."""
    stem = name.rpartition('/')[2]
    cfg = Config.fromfile(ROOT / f'configs/study/{stem}.py')
    with DefaultScope.overwrite_default_scope('mmaction'):
        model = MODELS.build(cfg.model)
    positions = model.backbone.pos_embed.clone()
    load_checkpoint(model, name, 'cpu', strict=True)
    assert torch.equal(model.backbone.pos_embed, positions)
    built = load_pretrained(name).state_dict()
    for key, tensor in model.state_dict().items():
        assert tensor.isfinite().all()
        assert torch.equal(built[key], tensor)


def test_features_by_name(tmp_path):
    write_dataset(tmp_path, 2, 2, 2)
    videos = tmp_path / 'videos/val'
    features = extract_features(NAMES[0], videos, tmp_path / 'a.npy')
    assert np.asarray(features.values).shape == (2, 96)
    with pytest.raises(CheckpointError, match='ships no weights'):
        extract_features('mmmotionmae://b', videos, tmp_path / 'b.npy')


def test_other_precision(tmp_path):
    whole = read_checkpoint(NAMES[0])
    path = write_checkpoint(
        whole, tmp_path / 'half.safetensors', dtype=torch.bfloat16
    )
    half = read_checkpoint(path).tensors
    for name, tensor in whole.tensors.items():
        if 'pos_embed' in name:
            assert torch.equal(half[name], tensor)
        else:
            assert torch.equal(half[name], tensor.to(torch.bfloat16))
    (tmp_path / 'plain').touch()  # as readable as any other file
    assert path.stat().st_mode == (tmp_path / 'plain').stat().st_mode
