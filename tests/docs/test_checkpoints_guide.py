# Copyright (c) MotionMAE contributors. All rights reserved.
"""The lines of the guide to checkpoints, run one after the other."""

import re
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from helpers.typed_commands import LOADER, Shell, bash_blocks, link_project
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmmotionmae.apis import load_pretrained
from mmmotionmae.checkpoints import read_checkpoint, write_checkpoint

transformers = pytest.importorskip('transformers')

GUIDES = ROOT / 'docs/user_guides'
CHECKPOINTS = (GUIDES / 'checkpoints.md').read_text()
FEATURES = (GUIDES / 'features.md').read_text()
BLOCK = next(b for b in bash_blocks(CHECKPOINTS) if 'videomae.pth' in b)


@pytest.fixture(scope='module')
def folder(tmp_path_factory, shapes_dir):
    """Where the lines are typed: the project, one video, one file.

    The file has the tensors of an official ViT-S; its network is cut to two
    blocks, its decoder to one, for the sake of time.
    """
    path = link_project(tmp_path_factory.mktemp('user'))
    video = next((shapes_dir / 'videos').rglob('*.mp4'))
    (path / 'list.txt').write_text(f'{video} 3\n')
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='MotionMAE',
            backbone=dict(
                type='MotionMAEViT', embed_dims=384, depth=2, num_heads=6
            ),
            neck=dict(
                type='MotionMAEDecoder', embed_dims=192, depth=1, num_heads=3
            ),
            head=dict(type='MotionMAEHead', motion_weight=0.0),
        )
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    torch.save(dict(state_dict=model.state_dict()), path / 'any.pth')
    write_checkpoint(
        read_checkpoint(path / 'any.pth'), path / 'videomae.pth', 'videomae'
    )
    (path / 'any.pth').unlink()
    return path


def small(folder):
    """Options that make a training small."""

    def options(words):
        data = (*LOADER, f'dataset.ann_file={folder}/list.txt')
        data += ('dataset.data_prefix.video=/',)
        return [
            *(f'train_dataloader.{option}' for option in data),
            'model.backbone.depth=2',
            'train_cfg.max_epochs=1',
            'val_cfg=None',
            'val_dataloader=None',
            'val_evaluator=None',
            *(['model.neck.depth=1'] * ('configs/motionmae' in words[1])),
        ]

    return options


def weights(path, key):
    return torch.load(path, weights_only=True)[key]


@pytest.fixture(scope='module')
def typed(folder):
    """The folder after all lines."""
    init_default_scope('mmaction')
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        Shell(monkeypatch, small(folder)).type(BLOCK)
    return folder


def test_every_line(typed, monkeypatch):
    monkeypatch.chdir(typed)
    # One step at the start of the warm-up is next to none: the encoders are
    # still those of the file.
    start = weights('start.pth', 'state_dict')
    for run_dir in ('pretrained', 'finetuned'):
        trained = weights(f'work_dirs/{run_dir}/epoch_1.pth', 'state_dict')
        shared = [n for n in trained if n in start and 'backbone' in n]
        assert len(shared) >= len([n for n in start if 'backbone' in n]) - 2
        for name in shared:
            assert (trained[name] - start[name]).abs().max() < 1e-3, name
    config = Config.fromfile(next(Path('work_dirs/finetuned').glob('*.py')))
    assert config.model.type == 'Recognizer3D'
    assert config.model.backbone.type == 'VisionTransformer'

    first, last = (weights(f'{x}.pth', 'model') for x in ('videomae', 'back'))
    assert {*first} == {*last}
    assert all(torch.equal(first[name], last[name]) for name in first)

    clip = torch.randn(1, 3, 16, 224, 224)
    frames = clip.transpose(1, 2)
    with torch.no_grad():
        theirs = transformers.VideoMAEModel.from_pretrained('videomae_hf')
        tokens = theirs.eval()(frames).last_hidden_state
        ours = load_pretrained('start.pth', part='encoder')(clip)
        torch.testing.assert_close(ours, tokens, rtol=1e-4, atol=1e-4)
        kind = transformers.VideoMAEForVideoClassification
        logits = kind.from_pretrained('classifier_hf').eval()(frames).logits
        recognizer = load_pretrained('work_dirs/finetuned')
        scores = recognizer.cls_head(recognizer.backbone(clip))
        torch.testing.assert_close(scores, logits, rtol=1e-3, atol=1e-4)
    assert Path('classifier.onnx').stat().st_size > 1e6


def test_notebook(typed, shapes_dir, monkeypatch):
    """The lines in Python, after those above, with a few videos."""
    block = next(
        b
        for b in re.findall(r'```python\n(.*?)```', FEATURES, flags=re.S)
        if 'load_pretrained' in b
    )
    monkeypatch.chdir(typed)
    for name in ('train', 'test'):
        lines = shapes_dir / f'{"val" if name == "test" else name}.txt'
        videos = [
            f'{shapes_dir}/{line}'
            for line in lines.read_text().splitlines()[:11]
        ]
        Path(f'{name}.txt').write_text('\n'.join(videos))
    Path('videos').mkdir(exist_ok=True)
    Path('videos/one.mp4').symlink_to(videos[0].rsplit(' ', 1)[0])
    scope: dict = {}
    exec(block, scope)
    (prediction,) = scope['results']['predictions']
    assert prediction['pixel_reconstruction'].shape == (1, 3, 16, 224, 224)
    assert [*Path('pictures').rglob('*.png')]
    for name in ('train', 'test'):
        assert scope[name].values.shape == (11, 384)
