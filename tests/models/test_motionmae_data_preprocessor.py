# Copyright (c) MotionMAE contributors. All rights reserved.
import numpy as np
import pytest
import torch
from conftest import tube_mask
from mmaction.registry import MODELS, TRANSFORMS
from mmaction.structures import ActionDataSample

from mmmotionmae.models import FrameDifferenceTarget

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


def build(**kwargs):
    return MODELS.build(dict(type='MotionMAEDataPreprocessor', **kwargs))


def random_frames(shape=(3, 8, 32, 32)):
    return torch.randint(256, shape, dtype=torch.uint8)


def as_samples(clips, masks=None):
    """A batch as the loader gives it: clips (N, C, T, H, W), masks (N, L)."""
    samples = [ActionDataSample() for _ in clips]
    for sample, mask in zip(samples, masks or [], strict=False):
        sample.set_field(mask, 'mask')
    return dict(inputs=clips, data_samples=samples)


def test_clip_and_pixels_equal_numpy():
    clips = [random_frames((1, 3, 8, 32, 32)) for _ in range(2)]
    batch = as_samples(clips, [tube_mask(1), tube_mask(1)])
    result = build()(batch, training=True)
    clip, videos = result['inputs']['clip'], result['inputs']['videos']
    assert clip.shape == (2, 3, 8, 32, 32)
    assert clip.dtype == torch.float32
    assert videos['pixel'].dtype == torch.uint8
    for b in range(2):
        frames = clips[b][0].numpy().astype(np.float64)
        for c in range(3):
            np.testing.assert_allclose(
                clip[b, c].numpy(), (frames[c] - MEAN[c]) / STD[c], atol=1e-6
            )
        np.testing.assert_array_equal(videos['pixel'][b].numpy(), frames)


def test_other_mean_and_std():
    frames = random_frames((1, 3, 8, 8, 8))
    build_ = build(mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
    result = build_(as_samples([frames]))['inputs']
    for c in range(3):
        expected = (frames[0, c].float() - (c + 1)) / (c + 4)
        torch.testing.assert_close(result['clip'][0, c], expected)
    assert torch.equal(result['videos']['pixel'], frames)


@pytest.mark.parametrize(
    'options',
    [{}, dict(mode='absolute'), dict(gap=3), dict(gap=2, first='zero')],
)
def test_motion_equals_the_transform_on_each_sample(options):
    cfg = dict(type='FrameDifference', **options)
    clips = [random_frames((2, 3, 8, 8, 12)) for _ in range(3)]
    motion = build(frame_difference=cfg)(as_samples(clips))
    motion = motion['inputs']['videos']['motion']
    assert motion.shape == (6, 3, 8, 8, 12) and motion.dtype == torch.int16
    transform = TRANSFORMS.build(cfg)
    for i, clip in enumerate(clips):
        sample = transform(dict(imgs=clip.numpy()))
        expected = torch.from_numpy(sample['motion'])
        assert torch.equal(motion[2 * i : 2 * i + 2] / 255, expected)


def test_clips_of_a_sample_stay_together_and_keep_their_masks():
    clips = [random_frames((3, 3, 8, 32, 32)) for _ in range(2)]
    masks = [tube_mask(3) for _ in range(2)]
    inputs = build()(as_samples(clips, masks))['inputs']
    split = inputs['split']
    assert split.num_tokens == 64
    for b in range(2):
        for n in range(3):
            i = 3 * b + n
            masked = masks[b][n].nonzero().flatten()
            visible = (~masks[b][n]).nonzero().flatten()
            assert torch.equal(split.masked[i], masked)
            assert torch.equal(split.visible[i], visible)
            assert torch.equal(inputs['videos']['pixel'][i], clips[b][n])


def test_bgr_frames_become_rgb():
    bgr = random_frames((2, 3, 4, 8, 8))
    rgb = torch.stack([bgr[:, 2], bgr[:, 1], bgr[:, 0]], dim=1)
    converted = build(to_rgb=True)(as_samples([bgr]))['inputs']
    expected = build()(as_samples([rgb]))['inputs']
    assert torch.equal(converted['clip'], expected['clip'])
    for name in ('pixel', 'motion'):
        assert torch.equal(converted['videos'][name], expected['videos'][name])


@pytest.mark.parametrize('targets', [('pixel',), ('motion',)])
def test_only_the_targets_that_are_asked_for(targets, monkeypatch):
    calls = []
    video = FrameDifferenceTarget.video
    monkeypatch.setattr(
        FrameDifferenceTarget,
        'video',
        lambda *args: calls.append(1) or video(*args),
    )
    processor = build(targets=targets)
    inputs = processor(as_samples([random_frames((1, 3, 4, 8, 8))]))['inputs']
    assert tuple(inputs['videos']) == targets
    assert len(calls) == ('motion' in targets)


def test_without_masks_there_is_none():
    clips = [random_frames((1, 3, 4, 8, 8)) for _ in range(2)]
    assert build()(as_samples(clips))['inputs']['split'] is None


def test_errors():
    clip = random_frames((1, 3, 4, 8, 8))
    with pytest.raises(TypeError, match='must be uint8, not torch.float32'):
        build()(as_samples([clip.float()]))
    with pytest.raises(ValueError, match=r'8, 8\), \(1, 3, 4, 8, 12'):
        build()(as_samples([clip, random_frames((1, 3, 4, 8, 12))]))
    with pytest.raises(ValueError, match='no difference of frames 4 apart'):
        cfg = dict(type='FrameDifference', gap=4)
        build(frame_difference=cfg)(as_samples([clip]))
