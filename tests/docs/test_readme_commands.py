# Copyright (c) MotionMAE contributors. All rights reserved.
"""The commands of the README, typed one after the other, in small."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from helpers.typed_commands import LOADER, Shell, bash_blocks, link_project
from mmengine.registry import init_default_scope
from PIL import Image

from mmmotionmae.apis import load_pretrained, read_features
from mmmotionmae.datasets import moving_shapes

pytest.importorskip('transformers')
ort = pytest.importorskip('onnxruntime')
pytest.importorskip('h5py')
pytest.importorskip('sklearn')

README = (ROOT / 'README.md').read_text()
VALIDATION = ('cfg', 'dataloader', 'evaluator')
TINY = ('embed_dims=48', 'depth=2', 'num_heads=3')


def tiny(words):
    """Options that make a training or a test small."""
    config = words[1]
    options = [f'model.backbone.{option}' for option in TINY]
    if 'configs/vos' in config:
        return [*options, 'test_dataloader.num_workers=0']
    options += [f'train_dataloader.{option}' for option in LOADER]
    options += ['train_dataloader.batch_size=8', 'train_cfg.max_epochs=1']
    if 'configs/motionmae' in config:
        options += ['train_dataloader.dataset.indices=8']
        options += [f'model.neck.{option}' for option in TINY]
    else:
        options += ['model.cls_head.in_channels=48']
        options += ['optim_wrapper.paramwise_cfg.num_layers=2']
        options += [f'val_{name}=None' for name in VALIDATION]
    return options


@pytest.fixture(scope='module')
def typed(tmp_path_factory):
    """The folder of a user, after all commands of the README."""
    folder = link_project(tmp_path_factory.mktemp('user'))
    moving_shapes.write_dataset(
        folder / 'data',
        num_pretrain=0,
        num_train=24,
        num_val=0,
        num_davis=1,
        davis_frames=3,
        disable=True,
    )
    (folder / 'data/davis').rename(folder / 'data/davis2017')
    init_default_scope('mmaction')
    block = '\n'.join(bash_blocks(README.split('## Use it')[1]))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        videos = str(folder / 'data/videos/train')
        Shell(monkeypatch, tiny, VIDEOS=videos).type(block)
        yield folder


def test_encoder_goes_from_one_to_the_next(typed):
    pretrained, finetuned = (
        torch.load(path, weights_only=True)['state_dict']
        for path in ('work_dirs/pretrained/epoch_1.pth',)
        + ('work_dirs/finetuned/epoch_1.pth',)
    )
    shared = [name for name in finetuned if name in pretrained]
    assert len(shared) >= 2 * 12  # of its blocks
    for name in shared:
        # One epoch of the warm-up is next to none.
        assert (finetuned[name] - pretrained[name]).abs().max() < 1e-3, name


def test_features(typed):
    train, val = (read_features(f'{name}.h5') for name in ('train', 'val'))
    assert (train.values.shape, val.values.shape) == ((16, 48), (8, 48))
    assert sorted(val.labels) == list(range(8))
    accuracy = json.loads(Path('val.accuracy.json').read_text())
    assert json.dumps(accuracy).count('top1') >= 2  # k-NN and linear


def test_masks(typed):
    truth = Path('data/davis2017/Annotations/480p/shapes-00')
    masks = Path('work_dirs/davis/results/masks/shapes-00')
    (given, first), (true, found), *rest = (
        [
            np.asarray(Image.open(folder / name)) > 0
            for folder in (truth, masks)
        ]
        for name in sorted(path.name for path in truth.iterdir())
    )
    assert np.array_equal(given, first) and len(rest) == 1
    results = json.loads((masks.parents[1] / 'results.json').read_text())
    # Neither the first nor the last of the three frames is scored.
    overlap = (true & found).sum() / (true | found).sum()
    assert results['metrics']['J-Mean'] == pytest.approx(overlap)


def test_classifier(typed):
    first, last = (
        torch.load(path, weights_only=True)['state_dict']
        for path in ('work_dirs/finetuned/epoch_1.pth', 'classifier.pth')
    )
    assert {*first} == {*last}
    assert all(torch.equal(first[name], last[name]) for name in first)
    clip = np.random.default_rng(0).integers(
        0, 256, (1, 3, 16, 224, 224), np.uint8
    )
    model = load_pretrained('work_dirs/finetuned')
    mean, std = (
        torch.tensor(values).reshape(3, 1, 1, 1)
        for values in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    )
    with torch.no_grad():
        tokens = model.backbone((torch.from_numpy(clip) - mean) / std)
        expected = model.cls_head(tokens).softmax(-1)
    session = ort.InferenceSession('classifier.onnx')
    (scores,) = session.run(None, {session.get_inputs()[0].name: clip})
    torch.testing.assert_close(
        torch.from_numpy(scores), expected, rtol=1e-3, atol=1e-5
    )
