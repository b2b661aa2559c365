# Copyright (c) MotionMAE contributors. All rights reserved.
import math
import pickle

import cv2
import numpy as np
import pytest
import torch
from conftest import as_batch, tube_mask
from mmaction.registry import DATASETS, MODELS, TRANSFORMS
from mmaction.structures import ActionDataSample
from mmengine.dataset import COLLATE_FUNCTIONS
from mmengine.optim import OptimWrapper

from mmmotionmae.datasets import moving_shapes
from mmmotionmae.engine.samplers import SampleIndex
from mmmotionmae.models.targets.flow_target import flow_to_rgb

VELOCITIES = [(2.0, 0.0), (0.0, -1.5), (-1.25, 0.75)]  # of frames 1, 2, 3


def build_transform(**kwargs):
    return TRANSFORMS.build(dict(type='OpticalFlow', **kwargs))


def build_target(**kwargs):
    defaults = dict(type='FlowTarget', name='flow', patch_size=8)
    return MODELS.build(defaults | kwargs)


def texture(x, y):
    """A picture as a function of continuous coordinates, RGB."""
    rng = np.random.default_rng(0)
    value = np.zeros((*np.broadcast_shapes(x.shape, y.shape), 3))
    for _ in range(12):
        fx, fy = rng.uniform(-0.7, 0.7, 2)
        phase, height = rng.uniform(0, 6), rng.uniform(0, 10, 3)
        value += np.sin(fx * x + fy * y + phase)[..., None] * height
    return (127 + value).round().clip(0, 255).astype(np.uint8)


def moving_texture(velocities=VELOCITIES, size=64):
    """A texture that moves by a known velocity into each frame."""
    y, x = np.mgrid[:size, :size].astype(float)
    frames = [texture(x, y)]
    for dx, dy in velocities:
        x, y = x - dx, y - dy
        frames.append(texture(x, y))
    return frames


def random_frames(*shape):
    return np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)


def grey(frame):
    return cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)


@pytest.mark.parametrize('first', ['repeat', 'zero'])
@pytest.mark.parametrize(
    'method', [dict(), dict(preset='medium'), dict(method='farneback')]
)
def test_flow_of_a_translation_is_its_velocity(method, first):
    """Sub-pixel; sign, order of the axes, and which frame it belongs to."""
    transform = build_transform(first=first, **method)
    results = transform(dict(imgs=moving_texture(), clip_len=4))
    flow = results['flow']
    assert flow.shape == (1, 2, 4, 64, 64) and flow.dtype == torch.float16
    for t, velocity in enumerate(VELOCITIES, 1):
        interior = flow[0, :, t, 10:-10, 10:-10].float()
        off = (interior - torch.tensor(velocity).view(2, 1, 1)).abs()
        assert off.mean() < 0.1 and off.max() < 0.5
    begin = flow[:, :, 1] if first == 'repeat' else torch.zeros(1, 2, 64, 64)
    assert torch.equal(flow[:, :, 0], begin.half())


def test_it_lies_on_the_grid_of_the_later_frame():
    """A square that moves before a background at rest."""
    y, x = np.mgrid[:96, :96].astype(float)
    frames, places = [], []
    for left in (24, 32):
        place = (abs(y - 47.5) < 16) & (x >= left) & (x < left + 32)
        square = texture(2 * (x - left), 2 * y + 500)
        frames.append(np.where(place[..., None], square, texture(x, y)))
        places.append(place)
    flow = build_transform(preset='medium')(dict(imgs=frames, clip_len=2))
    dx, dy = flow['flow'][0, :, 1].float().numpy()
    moves = np.hypot(dx, dy) > 4
    earlier, later = (
        (moves & place).sum() / (moves | place).sum() for place in places
    )
    assert later > 0.8 and later > earlier + 0.1
    # The earlier frame, fetched from where the flow says, is the later one.
    xy = [(grid - d).astype(np.float32) for grid, d in ((x, dx), (y, dy))]
    warped = cv2.remap(frames[0], *xy, cv2.INTER_LINEAR).astype(int)
    assert np.abs(warped - frames[1])[places[1]].mean() < 6
    assert np.abs(frames[0].astype(int) - frames[1])[places[1]].mean() > 15


@pytest.mark.parametrize('preset', ['ultrafast', 'fast', 'medium'])
def test_it_is_opencv_rounded(preset):
    frames = moving_texture()
    flow = build_transform(preset=preset)(dict(imgs=frames, clip_len=4))
    name = f'DISOPTICAL_FLOW_PRESET_{preset.upper()}'
    for t in (1, 2, 3):
        dis = cv2.DISOpticalFlow_create(getattr(cv2, name))
        exact = -dis.calc(grey(frames[t]), grey(frames[t - 1]), None)
        found = flow['flow'][0, :, t].permute(1, 2, 0).double().numpy()
        bound = np.maximum(np.abs(exact) / 2048, 2**-24)
        assert (np.abs(found - exact) <= bound).all()


def test_layouts_agree_and_clips_do_not_mix():
    """A list of frames, `FormatShape`, `FormatClip`; two clips."""
    clips = np.stack([moving_texture(), moving_texture()[::-1]])
    clips[1] = 255 - clips[1]
    common = dict(clip_len=4, num_clips=2)
    transform = build_transform()
    as_list = dict(imgs=list(clips.reshape(8, 64, 64, 3)), **common)
    flow = transform(dict(as_list))['flow']
    assert flow.shape == (2, 2, 4, 64, 64)
    for n in range(2):
        alone = transform(dict(imgs=list(clips[n]), clip_len=4))['flow']
        assert torch.equal(flow[n : n + 1], alone)
    for shape in (
        dict(type='FormatShape', input_format='NCTHW'),
        dict(type='FormatClip', size=64),
    ):
        results = transform(TRANSFORMS.build(shape)(dict(as_list)))
        assert results['imgs'].shape == (2, 3, 4, 64, 64)
        assert torch.equal(results['flow'], flow)


def test_it_can_be_sent_to_another_process():
    transform = build_transform(method='farneback')
    results = dict(imgs=moving_texture(), clip_len=4)
    flow = transform(dict(results))['flow']
    copy = pickle.loads(pickle.dumps(transform))
    assert torch.equal(copy(dict(results))['flow'], flow)
    assert repr(copy) == repr(transform)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(method='raft'), "method .*'raft'"),
        (dict(preset='slow'), "preset .*'slow'"),
        (dict(first='drop'), "first .*'drop'"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build_transform(**kwargs)


@pytest.mark.parametrize(
    'imgs',
    [
        list(random_frames(4, 16, 16, 1)),
        list(random_frames(4, 16, 16)),
        list(random_frames(4, 16, 16, 3) / 255),
        random_frames(4, 3, 16, 16),
        random_frames(1, 3, 1, 16, 16),
    ],
)
def test_frames_that_are_no_rgb_clips(imgs):
    with pytest.raises(ValueError, match='two RGB frames in uint8.*got'):
        build_transform()(dict(imgs=imgs, clip_len=4))


def dataset(shapes_dir, kind, size, tail, **kwargs):
    return DATASETS.build(
        dict(
            type=kind,
            ann_file=str(shapes_dir / 'train.txt'),
            data_prefix=dict(video=str(shapes_dir)),
            pipeline=[
                dict(type='DecordInit'),
                dict(type='SampleFrames', clip_len=8, frame_interval=1),
                dict(type='DecordDecode'),
                dict(type='RandomCrop', size=size),
                dict(type='Flip', flip_ratio=0.5),
                *tail,
                dict(type='TubeMasking', mask_ratio=0.5, patch_size=8),
                dict(type='OpticalFlow'),
                dict(type='PackActionInputs', algorithm_keys=('mask', 'flow')),
            ],
            **kwargs,
        )
    )


def test_works_in_a_stock_dataset(shapes_dir):
    shape = dict(type='FormatShape', input_format='NCTHW')
    sample = dataset(shapes_dir, 'VideoDataset', 32, [shape])[0]
    frames = sample['inputs'].permute(0, 2, 3, 4, 1).numpy()
    expected = build_transform()(dict(imgs=list(frames[0]), clip_len=8))
    assert torch.equal(sample['data_samples'].flow, expected['flow'])
    assert expected['flow'].abs().max() > 1  # something moves


@pytest.mark.parametrize('num_workers', [0, 2])
def test_repeated_sampling_through_the_model(
    shapes_dir, tiny_model, num_workers
):
    loader = torch.utils.data.DataLoader(
        dataset(
            shapes_dir,
            'RobustVideoDataset',
            24,
            [dict(type='FormatClip', size=32)],
            num_repeats=3,
        ),
        batch_size=2,
        sampler=[SampleIndex(i, i) for i in range(2)],
        num_workers=num_workers,
        collate_fn=COLLATE_FUNCTIONS.get('repeat_pseudo_collate'),
    )
    model = tiny_model(
        targets=dict(
            pixel=dict(type='PixelTarget'), flow=dict(type='FlowTarget')
        )
    )
    (batch,) = loader
    data = model.data_preprocessor(batch, True)
    flow = data['inputs']['videos']['flow']
    assert flow.shape == (6, 2, 8, 32, 32) and flow.dtype == torch.float32
    for clip, found in zip(batch['inputs'], flow, strict=True):
        expected = build_transform()(dict(imgs=clip))['flow'][0]
        assert torch.equal(found, expected.float())
    losses = model(**data, mode='loss')
    assert set(losses) == {'loss_pixel', 'loss_flow', 'r2_pixel', 'r2_flow'}
    assert all(torch.isfinite(loss) for loss in losses.values())


def samples_with(flows):
    samples = []
    for flow in flows:
        samples.append(ActionDataSample())
        if flow is not None:
            samples[-1].set_field(flow, 'flow')
    return samples


def test_values_of_the_target_equal_loops():
    """Two samples of two clips each; values are (C, p0, p1, p2)."""
    flows = torch.randn(2, 2, 2, 4, 16, 24).half()
    frames = torch.zeros(4, 3, 4, 16, 24, dtype=torch.uint8)
    target = build_target(norm='none')
    video = target.video(frames, samples_with(flows))
    index = torch.randperm(12)[:5].sort().values.expand(4, 5)
    values = target.build(video, index).values
    assert target.num_values == 2 * 2 * 8 * 8 == values[0, 0].numel()
    for b in range(4):
        for i, token in enumerate(index[b].tolist()):
            t, y, x = token // 6, token // 3 % 2, token % 3
            expected = flows[b // 2, b % 2][
                :, 2 * t :, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8
            ][:, :2].float()
            assert torch.equal(values[b, i].flatten(), expected.flatten())


@pytest.mark.parametrize(
    'flows',
    [None, [], [torch.zeros(1, 2, 4, 16, 16), None], [None, None]],
)
def test_no_flow(flows):
    frames = torch.zeros(2, 3, 4, 16, 16, dtype=torch.uint8)
    samples = None if flows is None else samples_with(flows)
    message = r"(?s)no 'flow'.*OpticalFlow.*\('mask', 'flow'\)"
    with pytest.raises(ValueError, match=message):
        build_target().video(frames, samples)


@pytest.mark.parametrize(
    'shapes',
    [
        [(2, 2, 4, 8, 8)],
        [(1, 2, 4, 16, 16)],
        [(2, 3, 4, 16, 16)],
        [(1, 2, 4, 16, 16), (1, 2, 4, 8, 8)],
    ],
)
def test_flow_of_another_size(shapes):
    frames = torch.zeros(2, 3, 4, 16, 16, dtype=torch.uint8)
    samples = samples_with([torch.zeros(shape) for shape in shapes])
    with pytest.raises(ValueError, match=r'2 clips must be of \(2, 4, 16'):
        build_target().video(frames, samples)


def middlebury(dx, dy):
    """One pixel, as `computeColor` of colorcode.cpp has it, with loops."""
    wheel = []
    for n, colour in (
        (15, lambda i: (255, 255 * i // 15, 0)),
        (6, lambda i: (255 - 255 * i // 6, 255, 0)),
        (4, lambda i: (0, 255, 255 * i // 4)),
        (11, lambda i: (0, 255 - 255 * i // 11, 255)),
        (13, lambda i: (255 * i // 13, 0, 255)),
        (6, lambda i: (255, 0, 255 - 255 * i // 6)),
    ):
        wheel += [colour(i) for i in range(n)]
    radius = math.sqrt(dx * dx + dy * dy)
    place = (math.atan2(-dy, -dx) / math.pi + 1) / 2 * (len(wheel) - 1)
    k = int(place)
    result = []
    for c in range(3):
        low, high = wheel[k][c] / 255, wheel[(k + 1) % len(wheel)][c] / 255
        colour = (1 - (place - k)) * low + (place - k) * high
        if radius <= 1:
            colour = 1 - radius * (1 - colour)
        else:
            colour *= 0.75
        result.append(255 * colour)
    return result


def test_colours_are_those_of_middlebury():
    flow = np.random.default_rng(0).normal(scale=2, size=(2, 3, 8, 9))
    drawn = flow_to_rgb(flow.astype(np.float32), scale=3.0)
    assert drawn.shape == (3, 8, 9, 3) and drawn.dtype == np.uint8
    for place in np.ndindex(3, 8, 9):
        expected = middlebury(*(flow[(slice(None), *place)] / 3))
        # Rounded down there.
        assert np.abs(drawn[place] + 0.5 - expected).max() < 0.51
    at_rest_right_left = np.array([[0.0, 2, -2], [0, 0, 0]])
    drawn = flow_to_rgb(at_rest_right_left[:, None, None], scale=2.0)
    assert drawn[0, 0].tolist() == [[255] * 3, [255, 0, 0], [0, 209, 255]]


def test_pictures():
    target = build_target()
    video = torch.zeros(2, 4, 16, 16)
    assert target.scale(video) == 0.5  # noise is not shown
    video[0] = 3
    video[1] = -4
    assert target.scale(video) == pytest.approx(5)
    assert torch.equal(target.magnitude(video), torch.full((4, 16, 16), 5.0))
    drawn = target.draw(video, 5.0)
    assert np.array_equal(drawn, flow_to_rgb(video.numpy(), 5.0))
    assert '5.0 pixels' in target.legend(5.0)


def test_overfits_one_batch(tiny_model):
    transform, frames = build_transform(preset='medium'), []
    for i in range(2):
        scene = moving_shapes.sample_scene(
            np.random.default_rng(i), moving_shapes.DIRECTIONS[i]
        )
        frames.append(moving_shapes.render(scene, num_frames=8, size=32)[0])
    clips = torch.from_numpy(np.stack(frames)).permute(0, 4, 1, 2, 3)
    batch = as_batch(clips, tube_mask(2))
    for sample, clip in zip(batch['data_samples'], frames, strict=True):
        results = transform(dict(imgs=list(clip), clip_len=8))
        sample.set_field(results['flow'], 'flow')
    model = tiny_model(
        neck=dict(embed_dims=64, num_heads=4),
        targets=dict(flow=dict(type='FlowTarget')),
    )
    model.init_weights()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=3e-3, betas=(0.9, 0.95)
    )
    wrapper = OptimWrapper(optimizer)
    start = model.train_step(batch, wrapper)
    for _ in range(150):
        log = model.train_step(batch, wrapper)
    assert log['loss_flow'] < 0.1 * start['loss_flow']
    assert log['r2_flow'] > 0.9
    with torch.no_grad():
        samples = model.val_step(batch)
    for sample in samples:
        off = sample.flow_reconstruction - sample.flow
        assert off.abs().mean() < 0.3  # pixels
