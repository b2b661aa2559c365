# Copyright (c) MotionMAE contributors. All rights reserved.
"""The pipelines of configs/_base_/datasets, on generated videos."""

import copy

import pytest
import torch
from conftest import ROOT
from mmaction.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import COLLATE_FUNCTIONS

from mmmotionmae.engine.samplers import SampleIndex

FOLDER = ROOT / 'configs/_base_/datasets'
PRETRAIN = ['sthv2_pretrain', 'kinetics400_pretrain']
FINETUNE = ['sthv2_finetune', 'kinetics400_finetune']


def dataset_of(name, shapes_dir, split='train', pipeline=None):
    cfg = Config.fromfile(FOLDER / f'{name}.py')
    dataset = copy.deepcopy(cfg[f'{split}_dataloader'].dataset)
    dataset.ann_file = str(shapes_dir / f'{split}.txt')
    dataset.data_prefix = dict(video=str(shapes_dir))
    if pipeline is not None:
        dataset.pipeline = pipeline
    return cfg, DATASETS.build(dataset)


def collate(cfg, split, samples):
    collate_fn = cfg[f'{split}_dataloader'].get(
        'collate_fn', dict(type='pseudo_collate')
    )
    return COLLATE_FUNCTIONS.get(collate_fn['type'])(samples)


def test_nothing_is_forgotten():
    names = {path.stem for path in FOLDER.glob('*.py')}
    assert names == {*PRETRAIN, *FINETUNE}


@pytest.mark.parametrize(
    ('name', 'stride'), zip(PRETRAIN, (2, 4), strict=True)
)
def test_pretraining_is_videomaes_augmentation(name, stride, shapes_dir):
    """The clips that MMAction2's own transforms make of the same draws."""
    cfg, dataset = dataset_of(name, shapes_dir)
    stock = [
        dict(type='SeedSample'),
        dict(type='DecordInit'),
        dict(type='SampleFrames', clip_len=16, frame_interval=stride),
        dict(type='DecordDecode'),
        dict(
            type='MultiScaleCrop',
            input_size=224,
            scales=(1, 0.875, 0.75, 0.66),
            random_crop=False,
            num_fixed_crops=13,
        ),
        dict(type='Resize', scale=(224, 224), keep_ratio=False),
        dict(type='FormatShape', input_format='NCTHW'),
        dict(type='TubeMasking'),
        dict(type='PackActionInputs', algorithm_keys=('mask',)),
    ]
    _, expected = dataset_of(name, shapes_dir, pipeline=stock)
    assert dataset.num_repeats == 4
    samples = [dataset[SampleIndex(i, i)] for i in range(3)]
    for i, sample in enumerate(samples):
        assert len(sample) == 4
        for ours, theirs in zip(
            sample, expected[SampleIndex(i, i)], strict=True
        ):
            assert torch.equal(ours['inputs'], theirs['inputs'])
            mask = ours['data_samples'].mask
            assert torch.equal(mask, theirs['data_samples'].mask)
            assert int(mask.sum()) == 8 * int(0.9 * 196)
    preprocessor = MODELS.build(dict(type='MotionMAEDataPreprocessor'))
    batch = preprocessor(collate(cfg, 'train', samples), True)['inputs']
    assert batch['clip'].shape == (12, 3, 16, 224, 224)
    assert batch['mask'].visible.shape == (12, 160)
    assert batch['mask'].masked.shape == (12, 1408)


@pytest.mark.parametrize('name', FINETUNE)
def test_finetuning_batches(name, shapes_dir):
    pytest.importorskip('kornia')
    cfg, dataset = dataset_of(name, shapes_dir)
    samples = [dataset[SampleIndex(i, i)] for i in range(4)]
    again = [dataset[SampleIndex(i, i)] for i in range(4)]
    for sample, other in zip(samples, again, strict=True):
        assert torch.equal(sample['inputs'], other['inputs'])
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    torch.manual_seed(0)
    data = preprocessor(collate(cfg, 'train', samples), True)
    assert data['inputs'].shape == (4, 1, 3, 16, 224, 224)
    labels = torch.stack([s.gt_label for s in data['data_samples']])
    assert labels.shape == (4, cfg.num_classes)
    assert labels.sum(1).tolist() == pytest.approx([1] * 4)
    assert (labels > 0).sum(1).max() == 2  # two videos are blended


def test_only_classes_that_tell_left_from_right_are_not_flipped():
    flips = {}
    for name in (*PRETRAIN, *FINETUNE):
        cfg = Config.fromfile(FOLDER / f'{name}.py')
        pipeline = cfg.train_dataloader.dataset.pipeline
        flips[name] = [t.flip_ratio for t in pipeline if t.type == 'Flip']
    assert flips == dict(
        sthv2_pretrain=[],
        kinetics400_pretrain=[],
        sthv2_finetune=[],
        kinetics400_finetune=[0.5],
    )


@pytest.mark.parametrize(
    ('name', 'split', 'clips'),
    [
        ('sthv2_finetune', 'val', 1),
        ('kinetics400_finetune', 'val', 1),
        ('sthv2_finetune', 'test', 6),
        ('kinetics400_finetune', 'test', 15),
    ],
)
def test_views(name, split, clips, shapes_dir):
    cfg = Config.fromfile(FOLDER / f'{name}.py')
    dataset = copy.deepcopy(cfg[f'{split}_dataloader'].dataset)
    dataset.ann_file = str(shapes_dir / 'val.txt')
    dataset.data_prefix = dict(video=str(shapes_dir))
    dataset = DATASETS.build(dataset)
    sample = dataset[2]
    assert sample['inputs'].shape == (clips, 3, 16, 224, 224)
    preprocessor = MODELS.build(
        dict(type='ActionDataPreprocessor', format_shape='NCTHW')
        | dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
    )
    ours = MODELS.build(dict(cfg.model.data_preprocessor, rand_augment=None))
    batch = collate(cfg, split, [sample])
    expected = preprocessor(copy.deepcopy(batch))['inputs']
    assert torch.equal(ours(batch)['inputs'], expected)
