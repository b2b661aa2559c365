# Copyright (c) MotionMAE contributors. All rights reserved.
"""Configs of video object segmentation and its sister benchmarks."""

import shutil
from functools import cache

import cv2
import numpy as np
import pytest
import test as tool  # noqa: E402
from conftest import ROOT
from mmaction.registry import MODELS
from mmengine.config import Config
from scipy.io import savemat

from mmmotionmae.datasets.moving_shapes import write_dataset

CONFIGS = ROOT / 'configs' / 'vos'
SIZES = {  # embed_dims, depth, num_heads; parameters in millions
    'small': (384, 12, 6, 22),
    'base': (768, 12, 12, 86),
    'large': (1024, 24, 16, 304),
}
TESTS = (
    'dino_davis2017',
    'siammae_davis2017',
    'siammae_vip',
    'siammae_jhmdb',
)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('test', TESTS)
def test_encoders(size, test):
    name = f'vit-{size}-p16_label-propagation-{test}.py'
    backbone = Config.fromfile(CONFIGS / name).model.backbone
    assert SIZES[size][:3] == (
        backbone.embed_dims,
        backbone.depth,
        backbone.num_heads,
    )


@pytest.mark.parametrize('size', SIZES)
def test_number_of_parameters(size):
    name = f'vit-{size}-p16_label-propagation-{TESTS[0]}.py'
    cfg = Config.fromfile(CONFIGS / name)
    model = MODELS.build(cfg.model)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == pytest.approx(SIZES[size][3] * 1e6, rel=0.02)


def test_protocols():
    """facts of DINO's, CropMAE's code; see the bases of the configs."""

    def model_of(name):
        cfg = Config.fromfile(CONFIGS / f'raw-pixels-p16_{name}.py')
        loading = cfg.test_dataloader.dataset.pipeline[0]
        return cfg.model, {**loading, 'size': loading['size']}

    dino, loading = model_of('label-propagation-dino_davis2017')
    assert (dino.topk, dino.temperature, dino.radius) == (5, 0.1, 12)
    assert (dino.num_context, dino.window) == (7, 'square')
    assert loading == dict(
        type='LoadSequence', size=480, side='short', divisor=64
    )
    for data, topk, size in (
        ('davis2017', 7, (480, 880)),
        ('vip', 10, 880),
        ('jhmdb', 7, (320, 320)),
    ):
        crw, loading = model_of(f'label-propagation-siammae_{data}')
        assert (crw.topk, crw.temperature, crw.radius) == (topk, 0.7, 20)
        assert (crw.num_context, crw.window) == (20, 'circle')
        assert (crw.first_local, crw.pad_context) == (False, True)
        assert loading['size'] == size


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Two sequences of four frames, in the layouts of all three data sets."""
    root = tmp_path_factory.mktemp('sequences')
    write_dataset(
        root, 0, 0, 0, num_davis=2, davis_frames=4, davis_size=64, disable=True
    )
    images = root / 'davis/JPEGImages/480p'
    masks = root / 'davis/Annotations/480p'
    shutil.copytree(images, root / 'vip/Images')
    shutil.copytree(masks, root / 'vip/Annotations/Category_ids')
    (root / 'vip/lists').mkdir()
    shutil.copy(
        root / 'davis/ImageSets/2017/val.txt',
        root / 'vip/lists/val_videos.txt',
    )
    (root / 'jhmdb/splits').mkdir(parents=True)
    lines = []
    for folder in sorted(images.iterdir()):
        name = f'wave/{folder.name}'
        frames = root / 'jhmdb/Rename_Images' / name
        frames.mkdir(parents=True)
        for number, path in enumerate(sorted(folder.iterdir()), 1):
            image = cv2.imread(str(path))
            cv2.imwrite(str(frames / f'{number:05d}.png'), image)
        joints = np.linspace(8, 56, 2 * 15 * 4).reshape(2, 15, 4)
        target = root / 'jhmdb/joint_positions' / name
        target.mkdir(parents=True)
        savemat(target / 'joint_positions.mat', dict(pos_img=joints))
        lines.append(f'{folder.name}.avi 2\n')
    (root / 'jhmdb/splits/wave_test_split1.txt').write_text(''.join(lines))
    return root


RUNS = {
    'copy-first-mask_davis2017': 'davis/J&F-Mean',
    'copy-first-mask_vip': 'vip/mIoU',
    'grid-oracle-p16_davis2017': 'davis/J&F-Mean',
    'raw-pixels-p16_label-propagation-dino_davis2017': 'davis/J&F-Mean',
    'raw-pixels-p16_label-propagation-siammae_vip': 'vip/mIoU',
    'vit-small-p16_label-propagation-dino_davis2017': ('davis/J&F-Mean'),
    'vit-small-p16_label-propagation-siammae_davis2017': ('davis/J&F-Mean'),
    'vit-small-p16_label-propagation-siammae_vip': 'vip/mIoU',
    'vit-small-p16_label-propagation-siammae_jhmdb': ('jhmdb/PCK@0.5'),
}


@pytest.fixture(scope='module')
def run(data, tmp_path_factory):
    """A function that tests a config: its score and its results' folder.

    Encoder and frames are shrunk. What was tested before is not again.
    """

    @cache
    def run(name):
        kind = name.split('_')[-1].replace('2017', '')
        work_dir = tmp_path_factory.mktemp(name)
        options = [
            f'test_dataloader.dataset.data_root={data / kind}',
            'test_dataloader.dataset.pipeline.0.size=(96,96)',
            'test_dataloader.num_workers=0',
            'test_dataloader.prefetch_factor=None',
            'test_evaluator.num_workers=0',
        ]
        checkpoint = []
        if name.startswith('vit-'):
            options += ['model.backbone.embed_dims=32']
            options += ['model.backbone.depth=2', 'model.backbone.num_heads=2']
            checkpoint = ['none']
        argv = [str(CONFIGS / f'{name}.py'), *checkpoint]
        argv += ['--work-dir', str(work_dir), '--cfg-options', *options]
        metrics = tool.test(tool.parse_args(argv))
        return metrics[RUNS[name]], work_dir / 'results'

    return run


@pytest.mark.parametrize('name', RUNS)
def test_run(name, run):
    """Whole tests, scored, with all results on disk."""
    score, results = run(name)
    assert 0 < score <= 1
    files = sorted(results.rglob('*/shapes-0*'))
    if name.endswith('_jhmdb'):
        assert [len(np.load(path)) for path in files] == [4, 4]
    else:
        assert [len(list(path.iterdir())) for path in files] == [4, 4]


def test_true_masks_are_better_than_features_of_nothing(run):
    by_dino = [run(name)[0] for name in RUNS if 'dino' in name]
    assert len(by_dino) == 2
    assert max(by_dino) < run('grid-oracle-p16_davis2017')[0]
