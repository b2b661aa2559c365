# Copyright (c) MotionMAE contributors. All rights reserved.
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample

from mmmotionmae.models.data_preprocessors.video_augmentation import (
    RandAugment,
    RandomErasing,
)

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
NUM_CLASSES = 5
MIXUP = dict(type='MixupBlending', alpha=0.8, num_classes=NUM_CLASSES)
CUTMIX = dict(type='CutmixBlending', alpha=1.0, num_classes=NUM_CLASSES)
BLENDING = dict(type='RandomBatchAugment', augments=[MIXUP, CUTMIX])
ERASING = dict(prob=1)


def build(type='AugmentingDataPreprocessor', **kwargs):
    return MODELS.build(dict(type=type, **kwargs))


def stock(**kwargs):
    return build(
        'ActionDataPreprocessor',
        mean=MEAN,
        std=STD,
        format_shape='NCTHW',
        **kwargs,
    )


def random_clips(batch_size=4, num_clips=1):
    """As the pipelines give them: views of (N, T, H, W, C)."""
    shape = (num_clips, 4, 16, 24, 3)
    return [
        torch.randint(256, shape, dtype=torch.uint8).permute(0, 4, 1, 2, 3)
        for _ in range(batch_size)
    ]


def as_batch(clips):
    """Clip i is of class i."""
    samples = [ActionDataSample().set_gt_label(i) for i in range(len(clips))]
    return dict(inputs=clips, data_samples=samples)


def seed(value=0):
    torch.manual_seed(value)
    np.random.seed(value)  # RandomBatchAugment's


def run(processor, clips, training=True):
    """Clips and labels that come out, always of the same draws."""
    seed()
    data = processor(as_batch(clips), training=training)
    labels = [sample.gt_label for sample in data['data_samples']]
    return data['inputs'], torch.stack(labels)


@pytest.mark.parametrize('to_rgb', [False, True])
def test_testing_equals_mmaction2(to_rgb):
    pytest.importorskip('kornia')
    clips = random_clips(num_clips=2)
    processor = build(
        rand_augment=dict(prob=1),
        random_erasing=ERASING,
        blending=BLENDING,
        to_rgb=to_rgb,
    )
    result, labels = run(processor, clips, training=False)
    expected, _ = run(stock(to_rgb=to_rgb), clips, training=False)
    assert result.shape == (4, 2, 3, 4, 16, 24)
    assert result.dtype == torch.float32
    assert torch.equal(result, expected)
    assert torch.equal(labels, torch.arange(4)[:, None])


@pytest.mark.parametrize('blending', [None, MIXUP, CUTMIX, BLENDING])
def test_without_augmentation_training_equals_mmaction2(blending):
    clips = random_clips()
    result, labels = run(build(blending=blending), clips)
    expected, expected_labels = run(stock(blending=blending), clips)
    assert torch.equal(result, expected)
    assert torch.equal(labels, expected_labels)


def test_every_clip_has_its_own_rand_augment_before_normalisation():
    pytest.importorskip('kornia')
    clips = random_clips(batch_size=3, num_clips=2)
    before = [clip.clone() for clip in clips]
    result, _ = run(build(rand_augment=dict(prob=1)), clips)
    seed()
    augment = RandAugment(prob=1)
    augmented = [torch.stack([augment(c) for c in video]) for video in clips]
    expected, _ = run(stock(), augmented)
    assert torch.equal(result, expected)
    plain, _ = run(stock(), clips)
    for b in range(3):
        assert torch.equal(clips[b], before[b])
        for n in range(2):
            assert not torch.equal(result[b, n], plain[b, n])


def test_clips_of_one_video_differ():
    pytest.importorskip('kornia')
    video = random_clips(1)[0].expand(2, -1, -1, -1, -1)
    result, _ = run(build(rand_augment=dict(prob=1)), [video])
    assert not torch.equal(result[0, 0], result[0, 1])


def test_bgr_frames_are_augmented_as_rgb():
    pytest.importorskip('kornia')
    rgb = random_clips(batch_size=12)
    bgr = [clip.flip(1) for clip in rgb]
    options = dict(rand_augment=dict(prob=1))
    result, _ = run(build(to_rgb=True, **options), bgr)
    expected, _ = run(build(**options), rgb)
    assert torch.equal(result, expected)


def test_erasing_comes_after_normalisation_and_before_blending():
    clips = random_clips(num_clips=2)
    result, labels = run(
        build(random_erasing=ERASING, blending=BLENDING), clips
    )
    expected, _ = run(stock(), clips)
    seed()
    erasing = RandomErasing(**ERASING)
    for video in expected:
        for clip in video:
            erasing(clip)
    samples = as_batch(clips)['data_samples']
    expected, samples = MODELS.build(BLENDING)(expected, samples)
    assert torch.equal(result, expected)
    assert torch.equal(labels, torch.stack([s.gt_label for s in samples]))


def test_the_same_seed_gives_the_same_batch():
    pytest.importorskip('kornia')
    clips = random_clips()
    processor = build(
        rand_augment=dict(), random_erasing=dict(prob=0.5), blending=BLENDING
    )
    for first, second in zip(
        run(processor, clips), run(processor, clips), strict=True
    ):
        assert torch.equal(first, second)
    seed(1)
    other = processor(as_batch(clips), training=True)['inputs']
    assert not torch.equal(other, run(processor, clips)[0])


@pytest.mark.parametrize('blending', [MIXUP, CUTMIX, BLENDING])
def test_soft_labels_say_what_the_clips_are_made_of(blending):
    """Clip i is of level 40 i everywhere: its mean tells its mixture."""
    processor = build(mean=(0, 0, 0), std=(1, 1, 1), blending=blending)
    levels = 40 * torch.arange(NUM_CLASSES)
    clips = [
        torch.full((1, 3, 4, 16, 24), int(level), dtype=torch.uint8)
        for level in levels
    ]
    mixed = 0
    for value in range(10):
        seed(value)
        data = processor(as_batch(clips), training=True)
        labels = torch.stack([s.gt_label for s in data['data_samples']])
        assert labels.shape == (NUM_CLASSES, NUM_CLASSES)
        torch.testing.assert_close(labels.sum(1), torch.ones(NUM_CLASSES))
        assert labels.min() >= 0
        torch.testing.assert_close(
            data['inputs'].mean((1, 2, 3, 4, 5)), labels @ levels.float()
        )
        mixed += int((labels.max(1).values < 0.999).sum())
    assert mixed > 10


def test_smoothed_loss_of_blended_labels_equals_closed_form():
    """VideoMAE: (1 - eps) of the mixture and eps / K for every class."""
    head = MODELS.build(
        dict(
            type='TimeSformerHead',
            num_classes=NUM_CLASSES,
            in_channels=8,
            label_smooth_eps=0.1,
        )
    )
    seed()
    data = build(blending=BLENDING)(as_batch(random_clips()), training=True)
    labels = torch.stack([s.gt_label for s in data['data_samples']])
    scores = torch.randn(4, NUM_CLASSES)
    loss = head.loss_by_feat(scores, data['data_samples'])['loss_cls']
    smoothed = 0.9 * labels + 0.1 / NUM_CLASSES
    expected = -(smoothed * F.log_softmax(scores, 1)).sum(1).mean()
    torch.testing.assert_close(loss, expected)


def test_kornia_is_imported_only_for_rand_augment():
    """In a new process: other tests have imported it here."""
    code = (
        'import sys, mmmotionmae\n'
        'from mmaction.registry import MODELS\n'
        "cfg = dict(type='AugmentingDataPreprocessor', random_erasing={})\n"
        'MODELS.build(cfg)\n'
        "sys.exit('kornia' in sys.modules)\n"
    )
    subprocess.run([sys.executable, '-c', code], check=True)


def test_errors():
    pytest.importorskip('kornia')
    clips = [clip.float() for clip in random_clips()]
    with pytest.raises(TypeError, match='must be uint8, not torch.float32'):
        run(build(rand_augment=dict()), clips)
    with pytest.raises(ValueError, match=r'not \(3, 4, 16, 24\).*collapse'):
        run(build(), [clip[0] for clip in random_clips()])
    with pytest.raises(ValueError, match="be 'NCTHW', not 'NCHW'"):
        build(format_shape='NCHW')
    with pytest.raises(ValueError, match='give mean and std'):
        build(mean=None, std=None, random_erasing=dict())
