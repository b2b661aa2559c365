# Copyright (c) MotionMAE contributors. All rights reserved.
import numpy as np
import pytest
from mmaction.registry import METRICS
from PIL import Image

from mmmotionmae.utils.errors import ScoringError

NAMES = ('000000000001', '000000000026')


@pytest.fixture
def samples(tmp_path):
    """Two videos of two frames, with ground truth in files."""
    rng = np.random.default_rng(0)
    samples = []
    for video in ('videos8', 'videos12'):
        gt = rng.integers(0, 17, (2, 20, 30), np.uint8)
        gt[:, :2] = 255
        paths = [tmp_path / 'gt' / video / f'{name}.png' for name in NAMES]
        for path, mask in zip(paths, gt, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
        pred = rng.integers(0, 19, gt.shape, np.uint8)
        right = (gt < 20) & (rng.random(gt.shape) < 0.7)
        samples.append(
            dict(
                sequence=video,
                frame_names=list(NAMES),
                mask_paths=[str(path) for path in paths],
                pred_masks=np.where(right, gt, pred),
                finished=False,
                gt=gt,
            )
        )
    return samples


def build(out_dir, **kwargs):
    return METRICS.build(dict(type='VIPMetric', out_dir=out_dir, **kwargs))


def mean_iou(gt, pred):
    """Mean over the categories that appear; 255 is not counted."""
    ious = []
    for category in range(20):
        in_gt, in_pred = gt == category, (pred == category) & (gt != 255)
        if (in_gt | in_pred).any():
            ious.append((in_gt & in_pred).sum() / (in_gt | in_pred).sum())
    return np.mean(ious)


@pytest.mark.parametrize('num_workers', [0, 2])
def test_all_frames_of_all_videos_are_counted_together(
    samples, tmp_path, num_workers
):
    metric = build(tmp_path / 'out', num_workers=num_workers)
    for sample in samples:
        metric.process(None, [sample])
    metrics = metric.evaluate(len(samples))
    gt = np.concatenate([sample['gt'] for sample in samples])
    pred = np.concatenate([sample['pred_masks'] for sample in samples])
    counted = gt != 255
    assert metrics == {
        'vip/mIoU': pytest.approx(mean_iou(gt, pred), abs=1e-12),
        'vip/mAcc': pytest.approx(
            np.mean([(pred[gt == c] == c).mean() for c in range(17)])
        ),
        'vip/aAcc': pytest.approx((gt == pred)[counted].mean()),
        'vip/num_sequences': 2,
    }


def test_results_on_disk_are_scored_by_a_later_test(samples, tmp_path):
    first = build(tmp_path / 'out', num_workers=0)
    assert not first.is_finished('videos8')
    first.process(None, samples)
    expected = first.evaluate(2)

    second = build(tmp_path / 'out', num_workers=0)
    assert second.is_finished('videos8') and second.is_finished('videos12')
    for sample in samples:
        sample['finished'] = True
        pred = sample.pop('pred_masks')
        for name, mask in zip(NAMES, pred, strict=True):
            path = tmp_path / 'out/masks' / sample['sequence'] / f'{name}.png'
            np.testing.assert_array_equal(Image.open(path), mask)
    second.process(None, samples)
    assert second.evaluate(2) == expected


def test_masks_of_another_size_are_resized(samples, tmp_path):
    sample = samples[0]
    small = sample['pred_masks'][:, ::2, ::3]
    metric = build(tmp_path / 'out', num_workers=0)
    metric.process(None, [dict(sample, pred_masks=small)])
    large = small.repeat(2, axis=1).repeat(3, axis=2)
    assert metric.evaluate(1)['vip/mIoU'] == pytest.approx(
        mean_iou(sample['gt'], large), abs=1e-12
    )


def test_what_cannot_be_scored_is_named(samples, tmp_path):
    metric = build(tmp_path / 'out', num_workers=0)
    sample = dict(samples[0], pred_masks=samples[0]['pred_masks'] + 3)
    with pytest.raises(ScoringError, match=r'videos8.*20 classes'):
        metric.process(None, [sample])
    path = samples[1]['mask_paths'][1]
    Image.new('RGB', (30, 20), 'red').save(path)
    with pytest.raises(ScoringError, match=f'videos12.*{path} is a colour'):
        metric.process(None, [samples[1]])
    with open(path, 'wb') as file:
        file.write(b'no image')
    with pytest.raises(ScoringError, match=f'videos12.*{path} cannot be'):
        metric.process(None, [samples[1]])


def test_a_frame_without_a_mask_leaves_nothing_behind(samples, tmp_path):
    metric = build(tmp_path / 'out', num_workers=0)
    pred = samples[0]['pred_masks'][:1]
    with pytest.raises(ValueError):
        metric.process(None, [dict(samples[0], pred_masks=pred)])
    assert not metric.is_finished('videos8')
