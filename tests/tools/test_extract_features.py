# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/extract_features.py`."""

import importlib.util
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from mmaction.registry import MODELS
from mmengine.logging import MMLogger

from mmmotionmae.apis import UsageError
from mmmotionmae.apis.features import extract_features, read_features
from mmmotionmae.checkpoints import trust_checkpoints
from mmmotionmae.utils.errors import CheckpointError

CONFIG = """
model = dict(
    type='MotionMAE',
    backbone=dict(
        type='MotionMAEViT', img_size=32, patch_size=8, num_frames=8,
        embed_dims=64, depth=2, num_heads=2))
"""
HINTS = ['--num-heads', 2, '--trained-img-size', 32]
QUICK = ['--num-workers', 0, '--device', 'cpu']


def load_tool(name):
    spec = importlib.util.spec_from_file_location(
        f'{name}_tool', ROOT / 'tools' / f'{name}.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOOL = load_tool('extract_features')


@pytest.fixture(autouse=True)
def _loggers():
    MMLogger._instance_dict.clear()
    yield
    MMLogger._instance_dict.clear()
    trust_checkpoints(False)


def extract(*argv):
    argv = [str(a) for a in (*argv, *QUICK)]
    return TOOL.extract(TOOL.parse_args(argv))


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(CONFIG)
    return path


@pytest.fixture
def model():
    scope = {}
    exec(CONFIG, scope)
    return MODELS.build(scope['model'])


@pytest.fixture
def checkpoint(model, tmp_path):
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return path


def test_flags(shapes_dir, tmp_path, model, checkpoint, config, capsys):
    """Each reaches the function, whatever way the model is given."""
    prefix = ['--data-prefix', shapes_dir]
    flags = [
        *('--block', 0, '-1', '--pooling', 'time', '--no-final-norm'),
        *('--clip-len', 4, '--frame-interval', 2, '--img-size', 40),
        *('--num-clips', 2, '--num-crops', 3, '--views', 'all'),
        *('--dtype', 'float16', '--amp', '--batch-size', 5),
    ]
    want = extract_features(
        model,
        shapes_dir / 'val.txt',
        data_prefix=shapes_dir,
        block=(0, -1),
        pooling='time',
        final_norm=False,
        num_frames=4,
        frame_interval=2,
        img_size=40,
        num_clips=2,
        num_crops=3,
        views='all',
        dtype='float16',
        amp='bf16',
        batch_size=5,
        num_workers=0,
        device='cpu',
        progress=False,
    )
    assert want.values.shape == (16, 6, 2, 5, 5, 64)
    for name, *more in (
        ('a.npy', *HINTS),
        ('b.npy', '--config', config),
    ):
        out = tmp_path / name
        extract(
            checkpoint, shapes_dir / 'val.txt', out, *prefix, *flags, *more
        )
        got = read_features(out)
        assert np.array_equal(got.values, want.values)
        assert got.card['fingerprint'] == want.card['fingerprint']
        assert got.labels.tolist() == want.labels.tolist()
    assert 'float16 (16, 6, 2, 5, 5, 64), 0.614 MB, with labels, 0 bad' in (
        capsys.readouterr().out
    )


def test_defaults(shapes_dir, tmp_path, model, checkpoint):
    extract(checkpoint, shapes_dir / 'videos/val', tmp_path / 'a.npy', *HINTS)
    got = read_features(tmp_path / 'a.npy')
    want = extract_features(
        model, shapes_dir / 'videos/val', num_workers=0, device='cpu'
    )
    assert got.values.shape == (16, 64)
    np.testing.assert_allclose(got.values, want.values, atol=1e-5)
    uniform = ['--uniform', *HINTS]
    extract(
        checkpoint, shapes_dir / 'videos/val', tmp_path / 'b.npy', *uniform
    )
    card = read_features(tmp_path / 'b.npy').card
    assert card['fingerprint']['clips']['frame_interval'] is None


def test_random_weights(shapes_dir, tmp_path, config):
    """Xavier's, not PyTorch's; the same ones each time."""
    folder = shapes_dir / 'videos/val'
    cards = [
        extract('none', folder, tmp_path / name, '--config', config).card
        for name in ('a.npy', 'b.npy')
    ]
    assert cards[0]['fingerprint'] == cards[1]['fingerprint']


def test_mistakes(shapes_dir, tmp_path, checkpoint, config):
    folder, out = shapes_dir / 'videos/val', tmp_path / 'a.npy'
    for message, *argv in (
        ("no checkpoint 'no.pth'", 'no.pth', folder, out),
        ("no checkpoint 'no.pth'", 'no.pth', folder, out, '--config', config),
        ('no config file', checkpoint, folder, out, '--config', 'no.py'),
        ('"none" needs --config', 'none', folder, out),
        ('needs --config', checkpoint, folder, out, '--trust-checkpoint'),
        ('.npy or .h5', checkpoint, folder, tmp_path / 'a.csv'),
        ('no block 2', checkpoint, folder, out, '--block', 2, *HINTS),
    ):
        with pytest.raises(UsageError, match=message):
            extract(*argv)
    with pytest.raises(CheckpointError, match='--trained-img-size'):
        extract(checkpoint, folder, out)
    assert not out.exists()


def test_exit_codes(shapes_dir, tmp_path, checkpoint, monkeypatch, capsys):
    folder, out = shapes_dir / 'videos/val', tmp_path / 'a.npy'

    def main(*argv):
        monkeypatch.setattr(sys, 'argv', ['tool', *map(str, argv)])
        return TOOL.main()

    assert main(checkpoint, folder, out, *HINTS, *QUICK) == 0
    assert main(checkpoint, folder, out, *HINTS, *QUICK) == 0
    assert main(checkpoint, folder, out, *HINTS, *QUICK, '--block', 0) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f'error: {out} holds other features (features.b')

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(TOOL, 'extract_features', interrupt)
    assert main(checkpoint, folder, out, *HINTS, *QUICK) == 130
    assert 'the same command goes on' in capsys.readouterr().err
