# Copyright (c) MotionMAE contributors. All rights reserved.
import numpy as np
import pytest
import torch
from mmaction.registry import METRICS, MODELS
from mmaction.structures import ActionDataSample

from mmmotionmae.utils.errors import ScoringError


@pytest.fixture
def samples():
    """Two videos, every joint on a circle of radius 100.

    Joint number k is 1.5 k + 0.75 pixels off; a fifth is lost.
    """
    rng = np.random.default_rng(0)
    angles = np.arange(15) * 2 * np.pi / 15
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    samples = []
    for video, num_frames in {'walk/a_0': 20, 'pour/b_1': 7}.items():
        gt = 150 + 100 * np.repeat(circle[None], num_frames, axis=0)
        pred = gt + (1.5 * np.arange(15) + 0.75)[:, None] * [0.6, -0.8]
        pred[rng.random((num_frames, 15)) < 0.2] = np.nan
        samples.append(
            dict(
                sequence=video,
                keypoints=gt,
                pred_keypoints=pred.astype(np.float32),
                finished=False,
            )
        )
    return samples


def build(out_dir, **kwargs):
    return METRICS.build(dict(type='PCKMetric', out_dir=out_dir, **kwargs))


def distances_by_hand(samples):
    """Distances of each joint in units of the person's size."""
    distances = [[] for _ in range(15)]
    for sample in samples:
        pairs = zip(sample['keypoints'], sample['pred_keypoints'], strict=True)
        for gt, pred in list(pairs)[1:]:
            found = ~np.isnan(pred[:, 0])
            size = 0.6 * np.linalg.norm(np.ptp(gt[found], axis=0))
            for k in np.flatnonzero(found):
                distances[k].append(1.0 * (1.5 * k + 0.75) / size)
    return [np.array(values) for values in distances]


@pytest.mark.parametrize('num_workers', [0, 2])
def test_pck_over_all_videos(samples, tmp_path, num_workers):
    metric = build(tmp_path, num_workers=num_workers)
    for sample in samples:
        metric.process(None, [sample])
    metrics = metric.evaluate(2)
    distances = distances_by_hand(samples)
    expected = {
        f'jhmdb/PCK@{t}': pytest.approx(
            np.mean([(d <= t).mean() for d in distances])
        )
        for t in (0.1, 0.2, 0.3, 0.4, 0.5)
    }
    expected['jhmdb/lost_joints'] = pytest.approx(
        1 - sum(map(len, distances)) / (15 * (19 + 6))
    )
    expected['jhmdb/num_sequences'] = 2
    assert metrics == expected
    assert 0.1 < metrics['jhmdb/PCK@0.1'] < 0.9


def test_results_on_disk_are_scored_by_a_later_test(samples, tmp_path):
    first = build(tmp_path)
    assert not first.is_finished('walk/a_0')
    first.process(None, samples)
    expected = first.evaluate(2)
    saved = np.load(tmp_path / 'keypoints/walk/a_0.npy')
    np.testing.assert_array_equal(saved, samples[0]['pred_keypoints'])

    second = build(tmp_path)
    assert second.is_finished('walk/a_0') and second.is_finished('pour/b_1')
    for sample in samples:
        sample['finished'] = True
        del sample['pred_keypoints']
    second.process(None, samples)
    assert second.evaluate(2) == expected
    files = [p for p in tmp_path.rglob('*') if p.is_file()]
    assert len(files) == 2  # nothing temporary is left


def test_what_cannot_be_scored_is_named(samples, tmp_path):
    metric = build(tmp_path)
    joints = samples[0]['pred_keypoints'][1:]
    with pytest.raises(ValueError, match=r'walk/a_0.*\(19, 15, 2\)'):
        metric.process(None, [dict(samples[0], pred_keypoints=joints)])
    assert not metric.is_finished('walk/a_0')
    path = tmp_path / 'keypoints/walk/a_0.npy'
    path.parent.mkdir(parents=True)
    path.write_bytes(b'')
    with pytest.raises(ScoringError, match=f'walk/a_0.*{path}'):
        metric.process(None, [dict(samples[0], finished=True)])


def test_joints_follow_a_picture_that_moves(tmp_path):
    """From pixels to PCK: a random picture that is shifted by whole cells."""
    size, step = 64, 4
    generator = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (3, size, size), generator=generator)
    video = torch.stack([picture.roll(-t * step, -1) for t in range(6)])
    video = video.to(torch.uint8)
    rng = np.random.default_rng(0)
    joints = rng.uniform([30, 10], [55, 55], (15, 2))
    shifts = np.arange(6)[:, None] * [step, 0]
    sample = ActionDataSample()
    sample.set_metainfo(
        dict(
            sequence='run/c_0',
            finished=False,
            keypoints=joints - shifts[:, None],
            original_shape=(size, size),
            img_shape=(size, size),
        )
    )
    model = MODELS.build(
        dict(
            type='LabelPropagation',
            backbone=dict(type='RawPixels', patch_size=step),
            topk=1,
            radius=None,
            codec=dict(type='KeypointCodec'),
        )
    )
    sample = model.predict([video], [sample])[0]
    assert sample.pred_keypoints.shape == (6, 15, 2)
    # Half a cell of rounding.
    error = np.abs(sample.pred_keypoints - sample.keypoints)
    assert error.max() <= step / 2 + 1e-4
    metric = build(tmp_path)
    metric.process(None, [sample.to_dict()])
    metrics = metric.evaluate(1)
    assert metrics['jhmdb/PCK@0.1'] == 1
    assert metrics['jhmdb/lost_joints'] == 0
