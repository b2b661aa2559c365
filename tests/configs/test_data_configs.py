# Copyright (c) MotionMAE contributors. All rights reserved.
"""The pipelines of configs/_base_/datasets, on generated videos."""

import copy

import numpy as np
import pytest
import torch
from conftest import ROOT
from mmaction.registry import DATASETS, MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.dataset import COLLATE_FUNCTIONS

from mmmotionmae.utils.seeding import SampleIndex

FOLDER = ROOT / 'configs/_base_/datasets'
# Stride and mask ratio: VideoMAE's scripts; HMDB51: EVEREST's.
PRETRAIN = {
    'kinetics400': (4, 0.9),
    'sthv2': (2, 0.9),
    'ucf101': (4, 0.75),
    'hmdb51': (2, 0.9),
    'videos': (4, 0.9),
}
# Sampling and its stride, classes, clips of a test video, beside 3 crops.
FINETUNE = {
    'kinetics400': ('SampleFrames', 4, 400, 5),
    'sthv2': ('UniformSample', None, 174, 2),
    'ucf101': ('SampleFrames', 4, 101, 10),
    'hmdb51': ('SampleFrames', 4, 51, 10),
    'videos': ('SampleFrames', 4, 10, 5),
}
VARIABLES = ('LISTS', 'NUM_CLASSES', 'SPLIT', 'VIDEOS')


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def read(name):
    return Config.fromfile(FOLDER / f'{name}.py')


def build(cfg, shapes_dir, split='train', pipeline=None):
    dataset = copy.deepcopy(cfg[f'{split}_dataloader'].dataset)
    dataset.ann_file = str(
        shapes_dir / ('train.txt' if split == 'train' else 'val.txt')
    )
    dataset.data_prefix = dict(video=str(shapes_dir))
    if pipeline is not None:
        dataset.pipeline = pipeline
    return DATASETS.build(dataset)


def collate(cfg, split, samples):
    collate_fn = cfg[f'{split}_dataloader'].get(
        'collate_fn', dict(type='pseudo_collate')
    )
    return COLLATE_FUNCTIONS.get(collate_fn['type'])(samples)


def test_nothing_is_forgotten():
    names = {path.stem for path in FOLDER.glob('*.py')}
    assert names == {
        *(f'{name}_pretrain' for name in PRETRAIN),
        *(f'{name}_finetune' for name in FINETUNE),
        'ava_kinetics',  # see test_detection_configs.py
    }


@pytest.mark.parametrize('name', PRETRAIN)
def test_pretraining_is_videomaes_augmentation(name, shapes_dir):
    """The clips that MMAction2's own transforms make of the same draws."""
    stride, ratio = PRETRAIN[name]
    cfg = read(f'{name}_pretrain')
    dataset = build(cfg, shapes_dir)
    stock = [
        dict(type='SeedSample'),
        dict(type='DecordInit'),
        dict(
            type='SampleFrames',
            clip_len=16,
            frame_interval=stride,
            out_of_bound_opt='repeat_last',
        ),
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
        dict(type='TubeMasking', mask_ratio=ratio),
        dict(type='PackActionInputs', algorithm_keys=('mask',)),
    ]
    expected = build(cfg, shapes_dir, pipeline=stock)
    assert dataset.num_repeats == 4
    assert cfg.train_dataloader.batch_size * 4 == 64
    samples = [dataset[SampleIndex(i, i)] for i in range(3)]
    masked = 8 * int(ratio * 196)
    for i, sample in enumerate(samples):
        assert len(sample) == 4
        for ours, theirs in zip(
            sample, expected[SampleIndex(i, i)], strict=True
        ):
            assert torch.equal(ours['inputs'], theirs['inputs'])
            mask = ours['data_samples'].mask
            assert torch.equal(mask, theirs['data_samples'].mask)
            assert int(mask.sum()) == masked
    preprocessor = MODELS.build(dict(type='MotionMAEDataPreprocessor'))
    batch = preprocessor(collate(cfg, 'train', samples), True)['inputs']
    assert batch['clip'].shape == (12, 3, 16, 224, 224)
    assert batch['split'].visible.shape == (12, 1568 - masked)
    assert batch['split'].masked.shape == (12, masked)


@pytest.mark.parametrize('name', FINETUNE)
def test_finetuning_batches(name, shapes_dir):
    pytest.importorskip('kornia')
    cfg = read(f'{name}_finetune')
    dataset = build(cfg, shapes_dir)
    samples = [dataset[SampleIndex(i, i)] for i in range(4)]
    again = [dataset[SampleIndex(i, i)] for i in range(4)]
    for sample, other in zip(samples, again, strict=True):
        assert torch.equal(sample['inputs'], other['inputs'])
    preprocessor = MODELS.build(cfg.augmentation)
    torch.manual_seed(0)
    data = preprocessor(collate(cfg, 'train', samples), True)
    assert data['inputs'].shape == (4, 1, 3, 16, 224, 224)
    labels = torch.stack([s.gt_label for s in data['data_samples']])
    assert labels.shape == (4, FINETUNE[name][2])
    assert labels.sum(1).tolist() == pytest.approx([1] * 4)
    assert (labels > 0).sum(1).max() == 2  # two videos are blended


def test_the_augmentation_is_videomaes():
    """run_class_finetuning.py, its defaults, and scripts/*/finetune.sh."""
    for name, (*_, num_classes, _) in FINETUNE.items():
        cfg = read(f'{name}_finetune')
        assert cfg.num_classes == num_classes
        assert cfg.augmentation.to_dict() == dict(
            type='AugmentingDataPreprocessor',
            rand_augment=dict(
                num_ops=4, magnitude=7, magnitude_std=0.5, prob=0.5
            ),
            random_erasing=dict(prob=0.25),
            blending=dict(
                type='RandomBatchAugment',
                augments=[
                    dict(
                        type='MixupBlending',
                        alpha=0.8,
                        num_classes=num_classes,
                    ),
                    dict(
                        type='CutmixBlending',
                        alpha=1.0,
                        num_classes=num_classes,
                    ),
                ],
            ),
        )


def test_only_classes_that_tell_left_from_right_are_not_flipped():
    """Neither is anything in pre-training."""
    for kind, names in (('pretrain', PRETRAIN), ('finetune', FINETUNE)):
        for name in names:
            pipeline = read(f'{name}_{kind}').train_dataloader.dataset.pipeline
            flips = [t.flip_ratio for t in pipeline if t.type == 'Flip']
            flipped = kind == 'finetune' and name != 'sthv2'
            assert flips == ([0.5] if flipped else []), name


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
@pytest.mark.parametrize('name', FINETUNE)
def test_sampling(name, split):
    kind, stride, _, clips = FINETUNE[name]
    cfg = read(f'{name}_finetune')
    (sampling,) = (
        t
        for t in cfg[f'{split}_dataloader'].dataset.pipeline
        if t.type in ('SampleFrames', 'UniformSample')
    )
    assert sampling.type == kind
    assert sampling.clip_len == 16
    assert sampling.get('frame_interval') == stride
    assert sampling.num_clips == (clips if split == 'test' else 1)
    assert sampling.get('test_mode', False) == (split != 'train')


SAMPLED = [
    *((f'{name}_pretrain', 'train') for name in PRETRAIN),
    *(
        (f'{name}_finetune', split)
        for name, (kind, *_) in FINETUNE.items()
        for split in ('train', 'val', 'test')
        if kind == 'SampleFrames'
    ),
]


def draw(cfg, num_frames, seed=0):
    """The sampled frames, (clips, 16), of a video."""
    np.random.seed(seed)
    results = TRANSFORMS.build(cfg)(
        dict(total_frames=num_frames, start_index=0)
    )
    return results['frame_inds'].reshape(-1, 16)


def sampling_of(name, split):
    pipeline = read(name)[f'{split}_dataloader'].dataset.pipeline
    (cfg,) = (t for t in pipeline if t.type == 'SampleFrames')
    return cfg


def videomaes_frames(num_frames, stride):
    """The clip of a video that is too short, as VideoMAE's kinetics.py has it.

    It counts from 1, and stays where the next step would reach the end.
    """
    offset, frames = 1, []
    for _ in range(16):
        frames.append(offset - 1)
        if offset + stride < num_frames:
            offset += stride
    return frames


@pytest.mark.parametrize(('name', 'split'), SAMPLED)
def test_a_short_video_repeats_its_last_frame(name, split):
    """What follows the end does not move; MMAction2's default begins anew."""
    cfg = sampling_of(name, split)
    stride, clips = cfg.frame_interval, cfg.get('num_clips', 1)
    for num_frames in (1, 2, 10, 25, 28):
        expected = [
            min(stride * i, (num_frames - 1) // stride * stride)
            for i in range(16)
        ]
        drawn = draw(cfg, num_frames)
        assert drawn.tolist() == [expected] * clips
        if (num_frames - 1) % stride:  # else VideoMAE stops a step earlier
            assert expected == videomaes_frames(num_frames, stride)
        wrapped = draw(dict(cfg, out_of_bound_opt='loop'), num_frames)
        jumps = np.diff(wrapped[0]) < 0
        assert jumps.any() == (num_frames > 2)
    # VideoMAE's fine-tuning, in testing: it appends the last of these.
    frames = [*range(0, 25, stride)]
    frames += frames[-1:] * (16 - len(frames))
    assert draw(cfg, 25)[0].tolist() == frames


@pytest.mark.parametrize(('name', 'split'), SAMPLED)
def test_clips_of_long_videos_are_those_of_mmactions_default(name, split):
    cfg = sampling_of(name, split)
    stock = {k: v for k, v in cfg.items() if k != 'out_of_bound_opt'}
    span = 15 * cfg.frame_interval + 1
    for num_frames in (span, span + 2, span + 3, span + 4, 131, 300, 1000):
        for seed in range(5):
            ours = draw(cfg, num_frames, seed)
            assert ours.tolist() == draw(stock, num_frames, seed).tolist()
            assert ours.dtype == np.int32


def test_no_config_samples_otherwise():
    """But those of the study and of moving shapes, whose length is known."""
    for path in sorted(ROOT.glob('configs/**/*.py')):
        text = path.read_text(encoding='utf-8')
        known = path.parent.name == 'study' or 'moving-shapes' in path.name
        repeats = text.count("out_of_bound_opt='repeat_last'")
        wanted = 0 if known else text.count("type='SampleFrames'")
        assert repeats == wanted, path


@pytest.mark.parametrize('split', ['val', 'test'])
@pytest.mark.parametrize('name', FINETUNE)
def test_views(name, split, shapes_dir):
    """As MMAction2's own preprocessor takes them, nothing augmented."""
    cfg = read(f'{name}_finetune')
    sample = build(cfg, shapes_dir, split)[2]
    views = 3 * FINETUNE[name][3] if split == 'test' else 1
    assert sample['inputs'].shape == (views, 3, 16, 224, 224)
    preprocessor = MODELS.build(
        dict(type='ActionDataPreprocessor', format_shape='NCTHW')
        | dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
    )
    ours = MODELS.build(dict(cfg.augmentation, rand_augment=None))
    sample['inputs'] = sample['inputs'][:3]
    batch = collate(cfg, split, [sample])
    expected = preprocessor(copy.deepcopy(batch))['inputs']
    assert torch.equal(ours(batch)['inputs'], expected)


def files_of(cfg):
    """Lists and folders of all data sets of a config, and class names."""
    found = {}
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if loader:
            dataset = loader.dataset
            found[split] = (
                dataset.get('ann_file', ''),
                dataset.data_prefix.video,
            )
    if 'test_evaluator' in cfg:
        found['classes'] = cfg.test_evaluator.get('classes')
    return found


@pytest.mark.parametrize('name', ['kinetics400', 'sthv2'])
def test_files(name):
    root, videos = f'data/{name}', f'data/{name}/videos'
    train = {'train': (f'{root}/train.txt', videos)}
    assert files_of(read(f'{name}_pretrain')) == train
    assert files_of(read(f'{name}_finetune')) == train | {
        'val': (f'{root}/val.txt', videos),
        'test': (f'{root}/val.txt', videos),
        'classes': f'{root}/classes.txt',
    }


@pytest.mark.parametrize('split', [None, '1', '2', '3'])
@pytest.mark.parametrize('name', ['ucf101', 'hmdb51'])
def test_files_of_a_split(name, split, monkeypatch):
    if split is not None:
        monkeypatch.setenv('SPLIT', split)
    number = split or '1'
    root, videos = f'data/{name}', f'data/{name}/videos'
    train = {'train': (f'{root}/train_split{number}.txt', videos)}
    assert files_of(read(f'{name}_pretrain')) == train
    assert files_of(read(f'{name}_finetune')) == train | {
        'val': (f'{root}/val_split{number}.txt', videos),
        'test': (f'{root}/val_split{number}.txt', videos),
        'classes': f'{root}/classes.txt',
    }


def test_files_of_ones_own(monkeypatch):
    assert files_of(read('videos_pretrain')) == dict(train=('', 'data/videos'))
    monkeypatch.setenv('VIDEOS', 'mine')
    monkeypatch.setenv('LISTS', 'lists')
    monkeypatch.setenv('NUM_CLASSES', '7')
    assert files_of(read('videos_pretrain')) == dict(train=('', 'mine'))
    cfg = read('videos_finetune')
    assert files_of(cfg) == dict(
        train=('lists/train.txt', 'mine'),
        val=('lists/val.txt', 'mine'),
        test=('lists/val.txt', 'mine'),
        classes=None,
    )
    assert cfg.num_classes == 7
    assert [a.num_classes for a in cfg.augmentation.blending.augments] == [
        7,
        7,
    ]
