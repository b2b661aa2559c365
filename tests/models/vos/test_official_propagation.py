# Copyright (c) MotionMAE contributors. All rights reserved.
"""Beside the code that DINO and CropMAE have published.

Clones of https://github.com/facebookresearch/dino and
https://github.com/alexandre-eymael/CropMAE are named by the environment
variables ``DINO_CHECKOUT`` and ``CROPMAE_CHECKOUT``.
"""

import importlib
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.small_sequences import CRW
from mmaction.registry import MODELS
from mmengine.dataset import pseudo_collate
from PIL import Image

from mmmotionmae.datasets import DAVISDataset, moving_shapes
from mmmotionmae.datasets.sequences import write_mask

DINO_CHECKOUT = os.environ.get('DINO_CHECKOUT')
CROPMAE_CHECKOUT = os.environ.get('CROPMAE_CHECKOUT')
BACKBONES = dict(
    pixels=dict(type='RawPixels'),
    vit=dict(type='MotionMAEViT', embed_dims=96, depth=2, num_heads=3),
)
NUM_FRAMES = 12  # more than the context of DINO has


@pytest.fixture(scope='module')
def davis(tmp_path_factory):
    """Two sequences, with one and two objects, of oblong frames."""
    root = tmp_path_factory.mktemp('official') / 'data'
    moving_shapes.write_dataset(
        root,
        num_pretrain=0,
        num_train=0,
        num_val=0,
        num_davis=2,
        davis_frames=NUM_FRAMES,
        davis_size=160,
        disable=True,
    )
    for path in (root / 'davis/JPEGImages').rglob('*.jpg'):
        Image.open(path).crop((0, 20, 160, 130)).save(path, quality=95)
    for path in (root / 'davis/Annotations').rglob('*.png'):
        write_mask(path, np.array(Image.open(path))[20:130])
    return root / 'davis'


@pytest.fixture
def stub(monkeypatch):
    """A function that stands in for packages that they import only.

    Modules imported in a test are forgotten afterwards.
    """
    before = dict(sys.modules)

    def stub(name, **attributes):
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)

    yield stub
    for name in set(sys.modules) - set(before):
        del sys.modules[name]


def build(backbone, **arguments):
    model = MODELS.build(
        dict(
            type='LabelPropagation', backbone=BACKBONES[backbone], **arguments
        )
    )
    model.init_weights()
    return model.eval()


def load(davis, size, number):
    """Our pipeline: the batch of one sequence."""
    pipeline = [
        dict(type='LoadSequence', size=size),
        dict(type='LoadMasks'),
        dict(type='PackSequence'),
    ]
    dataset = DAVISDataset(pipeline, data_root=davis)
    return pseudo_collate([dataset[number]])


def read_masks(folder, pattern='{:05d}.png'):
    return np.stack(
        [
            np.array(Image.open(folder / pattern.format(t)))
            for t in range(NUM_FRAMES)
        ]
    )


def assert_masks_equal(ours, theirs, num_objects):
    assert ours.shape == theirs.shape
    assert (ours == theirs).mean() >= 0.999
    # The comparison means something: labels move, none is lost.
    assert (theirs[-1] != theirs[0]).mean() > 0.005
    assert set(np.unique(theirs[-1])) == set(range(num_objects + 1))


@pytest.mark.skipif(not DINO_CHECKOUT, reason='DINO_CHECKOUT is not set')
@pytest.mark.parametrize('backbone', BACKBONES)
def test_dino(backbone, davis, stub, monkeypatch, tmp_path):
    stub('torchvision', transforms=None)
    monkeypatch.syspath_prepend(DINO_CHECKOUT)
    official = importlib.import_module('eval_video_segmentation')
    monkeypatch.setattr(torch.Tensor, 'cuda', lambda self, **_: self)
    official.args = SimpleNamespace(
        n_last_frames=7,
        size_mask_neighborhood=12,
        topk=5,
        patch_size=16,
        output_dir=str(tmp_path),
    )
    # DINO's deviation of red is 0.228, not 0.229.
    model = build(
        backbone,
        data_preprocessor=dict(
            type='SequenceDataPreprocessor', std=(58.14, 57.12, 57.375)
        ),
    )

    class TheirModel:
        """Our encoder, with the methods of DINO's; it reads their frames."""

        patch_embed = SimpleNamespace(patch_size=16)

        def get_intermediate_layers(self, frames, n):
            (maps,) = model.features(lambda _: frames, 1)
            tokens = maps.flatten(1).T[None]
            return [torch.cat([torch.zeros_like(tokens[:, :1]), tokens], 1)]

    for number, name in enumerate(('shapes-00', 'shapes-01')):
        frames = official.read_frame_list(davis / 'JPEGImages/480p' / name)
        mask = davis / 'Annotations/480p' / name / '00000.png'
        with torch.no_grad():
            official.eval_video_tracking_davis(
                official.args,
                TheirModel(),
                frames,
                name,
                *official.read_seg(mask, 16),
                np.zeros((256, 3), np.uint8),
            )
        (sample,) = model.test_step(load(davis, 480, number))
        theirs = read_masks(tmp_path / name)
        assert_masks_equal(sample.pred_masks, theirs, number + 1)


@pytest.mark.skipif(not CROPMAE_CHECKOUT, reason='CROPMAE_CHECKOUT is not set')
@pytest.mark.parametrize('backbone', BACKBONES)
def test_cropmae(backbone, davis, stub, monkeypatch, tmp_path):
    size = (176, 256)
    stub(
        'imageio',
        imwrite=lambda path, image: Image.fromarray(image).save(path),
    )
    for name in ('timm', 'timm.models', 'timm.models.vision_transformer'):
        stub(name, Block=None)
    monkeypatch.syspath_prepend(
        str(Path(CROPMAE_CHECKOUT) / 'downstreams/propagation')
    )
    official = importlib.import_module('src.test')
    vos = importlib.import_module('src.data.vos')
    convert = importlib.import_module('src.eval.convert_davis')
    # They write beside the annotations.
    copy = shutil.copytree(davis, tmp_path / 'davis')
    names = ('shapes-00', 'shapes-01')
    (tmp_path / 'davis.txt').write_text(
        ''.join(
            f'{copy}/JPEGImages/480p/{name} {copy}/Annotations/480p/{name}\n'
            for name in names
        )
    )
    folders = [tmp_path / 'raw', tmp_path / 'converted']
    for folder in (*folders, *(folders[1] / name for name in names)):
        folder.mkdir()
    args = SimpleNamespace(
        filelist=str(tmp_path / 'davis.txt'),
        save_path=str(folders[0]),
        img_size=list(size),
        map_scale=np.array([16, 16]),
        model_type='vits16',
        device='cpu',
        batch_size=5,
        video_len=20,
        long_mem=[0],
        radius=6,
        temperature=0.7,
        topk=7,
        no_l2=False,
        norm_mask=False,
    )
    model = build(backbone, **CRW | dict(radius=6, num_context=20))
    seen = []

    def their_model(frames):
        """Our encoder; its features of their frames are kept for us."""
        maps = list(model.features(lambda n: frames[list(n)], len(frames)))
        seen.extend(maps)
        tokens = torch.stack(maps).flatten(2).transpose(1, 2)
        return torch.cat([torch.zeros_like(tokens[:, :1]), tokens], 1)

    dataset = vos.VOSDataset(args)
    loader = torch.utils.data.DataLoader(dataset)
    with torch.no_grad():
        official.test(loader, their_model, args)
    for number, name in enumerate(names):
        convert.convert_dir(
            number,
            f'{copy}/Annotations/480p/',
            f'{folders[1]}/',
            f'{folders[0]}/',
            names,
        )
        # They resize in float, we in uint8: so we get their features.
        # Those of the first frame stand 20 times before.
        begin = number * (20 + NUM_FRAMES) + 20
        theirs = seen[begin : begin + NUM_FRAMES]
        monkeypatch.setattr(
            model, 'features', lambda *_, theirs=theirs: iter(theirs)
        )
        (sample,) = model.test_step(load(davis, size, number))
        assert_masks_equal(
            sample.pred_masks, read_masks(folders[1] / name), number + 1
        )
