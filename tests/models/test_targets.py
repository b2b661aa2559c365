# Copyright (c) MotionMAE contributors. All rights reserved.
"""The slot for targets, and the short names for the two of the method."""

import math

import pytest
import torch
from conftest import TINY_MODEL, as_batch, tube_mask
from mmaction.registry import MODELS
from torch import nn

from mmmotionmae.apis.export import ClipModel
from mmmotionmae.apis.features.encoder import find_encoder
from mmmotionmae.checkpoints.strict import encoder_prefix
from mmmotionmae.models import (
    MotionMAE,
    ReconstructionTarget,
    TubeletTarget,
)
from mmmotionmae.models.backbones import locate_encoder, video_vit_of
from mmmotionmae.models.targets import (
    FrameDifferenceTarget,
    PixelTarget,
    draw_frames,
    resolve_targets,
)
from mmmotionmae.models.utils.tubelet import split_mask
from mmmotionmae.utils.errors import UsageError


def random_batch(num_clips=2):
    frames = torch.randint(256, (num_clips, 3, 8, 32, 32), dtype=torch.uint8)
    return as_batch(frames, tube_mask(num_clips))


def values_of(target):
    """All that a config can say of a target."""
    return {
        name: getattr(target, name)
        for name in ('name', 'weight', 'norm', 'channels', 'tubelet_size')
        + ('patch_size', 'mode', 'gap', 'first', 'moving_threshold')
        if hasattr(target, name)
    }


SIZE = dict(channels=3, tubelet_size=2, patch_size=8)
DIFFERENCE = dict(mode='signed', gap=1, first='repeat', moving_threshold=0.02)
PIXEL = dict(name='pixel', weight=1.0, norm='tubelet', **SIZE)
MOTION = dict(name='motion', weight=1.0, norm='tubelet', **SIZE, **DIFFERENCE)


@pytest.mark.parametrize(
    ('parts', 'expected'),
    [
        ({}, [PIXEL, MOTION]),
        (dict(head=dict(motion_weight=0)), [PIXEL]),
        (
            dict(head=dict(type='MotionMAEHead', pixel_weight=0.0)),
            [MOTION],
        ),
        (
            dict(
                head=dict(
                    pixel_weight=0.5,
                    pixel_norm='none',
                    motion_norm='clip',
                    moving_threshold=0.3,
                ),
                data_preprocessor=dict(
                    frame_difference=dict(
                        type='FrameDifference',
                        mode='absolute',
                        gap=2,
                        first='zero',
                    )
                ),
            ),
            [
                PIXEL | dict(weight=0.5, norm='none'),
                MOTION
                | dict(
                    norm='clip',
                    moving_threshold=0.3,
                    mode='absolute',
                    gap=2,
                    first='zero',
                ),
            ],
        ),
        (
            dict(neck=dict(targets=('pixel',))),
            [PIXEL],
        ),
        (
            dict(data_preprocessor=dict(targets=('motion',))),
            [MOTION],
        ),
        (
            dict(targets=dict(motion=dict(type='FrameDifferenceTarget'))),
            [MOTION],
        ),
        # The same, said twice.
        (
            dict(
                targets=dict(
                    pixel=dict(type='PixelTarget', weight=2.0),
                    motion=dict(type='FrameDifferenceTarget', weight=0),
                ),
                head=dict(pixel_weight=2, motion_weight=0.0),
            ),
            [PIXEL | dict(weight=2.0)],
        ),
        # Each says what the other leaves open.
        (
            dict(
                targets=dict(motion=dict(norm='clip')),
                head=dict(motion_weight=3.0, pixel_weight=1.0),
            ),
            [MOTION | dict(norm='clip', weight=3.0), PIXEL],
        ),
    ],
)
def test_targets_and_their_short_names(tiny_model, parts, expected):
    model = tiny_model(**parts)
    assert [values_of(t) for t in model.targets.values()] == expected
    for part in (model.head, model.data_preprocessor):
        assert list(part.targets) == [t['name'] for t in expected]
        for name, target in part.targets.items():
            assert target is model.targets[name]
    assert list(model.neck.targets) == [t['name'] for t in expected]


@pytest.mark.parametrize(
    ('parts', 'message'),
    [
        (
            dict(
                targets=dict(motion=dict(weight=1.0)),
                head=dict(motion_weight=0.0),
            ),
            r'head\.motion_weight asks for weight=0\.0 of the target '
            r"'motion', and targets\.motion for weight=1\.0: leave one",
        ),
        (
            dict(
                targets=dict(motion=dict(gap=1)),
                data_preprocessor=dict(frame_difference=dict(gap=2)),
            ),
            r'data_preprocessor\.frame_difference\.gap asks for gap=2',
        ),
        (
            dict(neck=dict(targets=('pixel',)), head=dict(motion_weight=1.0)),
            r'neck\.targets asks for weight=0 of the target .motion.',
        ),
        (
            dict(neck=dict(targets=('pixel', 'motion', 'flow'))),
            r"neck\.targets names .*'flow'.*leave neck\.targets out",
        ),
        (
            dict(head=dict(motion_weight=0, pixel_weight=0)),
            'must not be both 0',
        ),
        (dict(head=dict(motion_weight=-1)), 'must not be negative'),
        (
            dict(targets=dict(hog=dict(weight=1.0))),
            r'targets\.hog has no type',
        ),
        (dict(targets={'a.b': dict(type='PixelTarget')}), "'a.b' cannot be"),
        (dict(targets=dict(shared=dict(type='PixelTarget'))), "'shared' can"),
        (dict(targets=dict(keys=dict(type='PixelTarget'))), "'keys' cannot"),
        (dict(targets=dict(pixel=dict(norm='patch'))), "'pixel' must be one"),
        (
            dict(
                data_preprocessor=dict(frame_difference=dict(type='Flow')),
            ),
            'it can only be a FrameDifference',
        ),
        (dict(targets=dict(motion=dict(mode='l1'))), "not 'l1'"),
    ],
)
def test_contradictions_and_mistakes_are_explained(tiny_model, parts, message):
    with pytest.raises(ValueError, match=message):
        tiny_model(**parts)


def test_configs_are_not_changed():
    configs = dict(motion=dict(norm='clip'))
    head = dict(motion_weight=2.0)
    resolve_targets(configs, head)
    assert configs == dict(motion=dict(norm='clip'))
    assert head == dict(motion_weight=2.0)


def test_targets_leave_no_trace_in_the_state_dict(tiny_model):
    keys = list(tiny_model().state_dict())
    assert not [key for key in keys if 'targets' in key]
    assert [key for key in keys if key.startswith('head.')] == [
        f'head.predictors.{name}.{kind}'
        for name in ('pixel', 'motion')
        for kind in ('weight', 'bias')
    ]


@MODELS.register_module()
class MeanColour(ReconstructionTarget):
    """Three values a token, no tubelets: their mean colour, and no video."""

    norms = ('tubelet', 'none')

    @property
    def num_values(self):
        return 3

    def video(self, frames, data_samples=None):
        return frames.float() / 255

    def select(self, video, index):
        t, h, w = (
            video.size(2) // self.tubelet_size,
            video.size(3) // self.patch_size,
            video.size(4) // self.patch_size,
        )
        means = nn.functional.adaptive_avg_pool3d(video, (t, h, w))
        tokens = means.flatten(2).transpose(1, 2)
        index = index[..., None].expand(-1, -1, 3)
        return tokens.gather(1, index)[:, :, None]


@MODELS.register_module()
class LoadedField(TubeletTarget):
    """Two channels that the loader made, as optical flow is."""

    label = 'flow'

    @property
    def video_channels(self):
        return 2

    def video(self, frames, data_samples=None):
        return torch.cat([sample.flow for sample in data_samples])


@MODELS.register_module()
class Teacher(MeanColour):
    """It has weights of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.layer = nn.Linear(3, 3).requires_grad_(False)

    def select(self, video, index):
        return self.layer(super().select(video, index))


@pytest.mark.parametrize('sharing', ['shared', 'independent'])
def test_targets_of_any_width_are_trained_and_predicted(tiny_model, sharing):
    model = tiny_model(
        neck=dict(sharing=sharing),
        targets=dict(
            colour=dict(type='MeanColour', norm='none', weight=0.5),
            flow=dict(type='LoadedField', norm='clip'),
            motion=dict(type='FrameDifferenceTarget'),
        ),
    )
    widths = {n: p.out_features for n, p in model.head.predictors.items()}
    assert widths == dict(colour=3, flow=2 * 2 * 64, motion=3 * 2 * 64)
    batch = random_batch()
    flow = torch.randn(2, 1, 2, 8, 32, 32)
    for sample, field in zip(batch['data_samples'], flow, strict=True):
        sample.set_field(field, 'flow')
    frames = torch.cat(batch['inputs'])
    data = model.data_preprocessor(batch, training=True)
    inputs = data['inputs']
    assert torch.equal(inputs['videos']['flow'], flow[:, 0])
    losses = model(**data, mode='loss')
    assert list(losses) == [
        *('loss_colour', 'loss_flow', 'loss_motion'),
        *('r2_colour', 'r2_flow', 'r2_motion', 'r2_motion_moving'),
    ]
    tokens = model.decode(inputs['clip'], inputs['split'])
    preds = model.head(tokens)
    # By hand: the mean colour of each masked token, not normalised.
    total = 0.0
    for b, row in enumerate(inputs['split'].masked.tolist()):
        for i, token in enumerate(row):
            t, y, x = token // 16, token // 4 % 4, token % 4
            cube = frames[b, :, 2 * t : 2 * t + 2]
            cube = cube[:, :, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
            truth = cube.flatten(1).double().mean(1) / 255
            off = preds['colour'][b, i] - truth
            total += off.square().sum().item()
    expected = 0.5 * total / preds['colour'].numel()
    assert losses['loss_colour'].item() == pytest.approx(expected, rel=1e-4)
    sum(losses[f'loss_{name}'] for name in widths).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
    samples = model(**data, mode='predict')
    assert samples[0].flow_reconstruction.shape == (1, 2, 8, 32, 32)
    visible = ~tube_places(samples[0].mask[0])
    torch.testing.assert_close(
        samples[0].flow_reconstruction[0][:, visible], flow[0, 0][:, visible]
    )
    assert 'colour_reconstruction' not in samples[0]


def tube_places(mask):
    """(L, ) to (T, H, W), bool."""
    places = mask.view(4, 4, 4)
    for axis, times in enumerate((2, 8, 8)):
        places = places.repeat_interleave(times, axis)
    return places


def test_a_teacher_is_owned_once(tiny_model):
    model = tiny_model(targets=dict(teacher=dict(type='Teacher')))
    keys = [key for key in model.state_dict() if key.startswith('targets')]
    assert keys == [
        'targets.teacher.layer.weight',
        'targets.teacher.layer.bias',
    ]
    losses = model(
        **model.data_preprocessor(random_batch(), training=True), mode='loss'
    )
    losses['loss_teacher'].backward()
    assert model.targets['teacher'].layer.weight.grad is None


def test_the_difference_in_units_and_numbers_of_the_moving():
    target = FrameDifferenceTarget(
        name='m', moving_threshold=0.1, tubelet_size=1, patch_size=2
    )
    frames = torch.zeros(1, 3, 2, 2, 4, dtype=torch.uint8)
    frames[:, :, 1, :, 2:] = 51  # by a fifth
    video = target.video(frames)
    assert video.dtype == torch.int16
    values = target.build(video, torch.tensor([[2, 3]]))
    torch.testing.assert_close(values.rms, torch.tensor([[0.0, 0.2]]))
    error = torch.tensor([[5.0, 0.0]])
    scores = target.scores(values, error)
    assert list(scores) == ['r2', 'r2_moving']


def test_pixel_errors_are_in_decibels():
    target = PixelTarget(name='pixel')
    assert target.errors(0.01) == dict(mse=0.01, psnr=pytest.approx(20))
    assert target.errors(0.0)['psnr'] == pytest.approx(100)


def test_statistics_of_the_visible():
    """A prediction of 0 is the mean of what is visible."""
    target = PixelTarget(
        name='p', norm='clip', channels=1, tubelet_size=1, patch_size=2
    )
    video = torch.arange(8.0).view(1, 1, 1, 2, 4)
    split = split_mask(torch.tensor([[True, False]]))
    found = target.reconstruct(torch.zeros(1, 1, 4), video, split, 'visible')
    assert found[0, 0, 0].tolist() == [[4.5, 4.5, 2, 3], [4.5, 4.5, 6, 7]]
    true = target.reconstruct(torch.zeros(1, 1, 4), video, split)
    assert true[0, 0, 0, 0].tolist() == [3.5, 3.5, 2, 3]


@pytest.mark.parametrize('missing', ['token_grid', 'in_channels'])
def test_an_encoder_that_breaks_the_contract_is_named(missing):
    backbone = dict(TINY_MODEL['backbone'], type='VisionTransformer')
    with pytest.raises(
        TypeError, match=f'VisionTransformer cannot.*{missing}'
    ):
        MotionMAE(backbone=backbone)


@MODELS.register_module()
class MeanEncoder(nn.Module):
    """Nothing but the contract, no VisionTransformer."""

    patch_size, tubelet_size, token_grid = 8, 2, (4, 4, 4)
    num_tokens, embed_dims, in_channels = 64, 12, 3

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 2 * 64, 12)

    def forward(self, clip, split=None):
        tokens = clip.unfold(2, 2, 2).unfold(3, 8, 8).unfold(4, 8, 8)
        tokens = tokens.permute(0, 2, 3, 4, 1, 5, 6, 7).flatten(4)
        tokens = self.layer(tokens.flatten(1, 3))
        index = split.visible[..., None].expand(-1, -1, 12)
        return tokens.gather(1, index)


def test_an_encoder_of_ones_own():
    """It is trained, loaded strictly, and not taken for something else."""
    model = MODELS.build(dict(TINY_MODEL, backbone=dict(type='MeanEncoder')))
    data = model.data_preprocessor(random_batch(), training=True)
    assert model(**data, mode='loss')['loss_pixel'].isfinite()
    assert locate_encoder(model) == ('backbone', model.backbone)
    assert encoder_prefix(model) == 'backbone.'
    assert video_vit_of(model) is None
    with pytest.raises(UsageError, match='The encoder is a MeanEncoder'):
        find_encoder(model)
    with pytest.raises(ValueError, match='this one has a MeanEncoder'):
        ClipModel(model)
    with pytest.raises(ValueError, match='MeanEncoder is an encoder of vid'):
        MODELS.build(
            dict(type='LabelPropagation', backbone=dict(type='MeanEncoder'))
        )


def test_the_encoder_of_a_model_is_not_that_of_a_teacher(tiny_model):
    model = tiny_model()
    model.targets['other'] = MODELS.build(TINY_MODEL['backbone'])
    for found in (model, model.backbone):
        assert video_vit_of(found) is model.backbone
    assert video_vit_of(nn.Linear(2, 3)) is None


@pytest.mark.parametrize(
    ('targets', 'message'),
    [
        (dict(a=dict(type='PixelTarget', patch_size=4)), 'model has 8: leave'),
        (dict(a=dict(type='PixelTarget', name='b')), "model has 'a': leave"),
        (dict(a=dict(type='PixlTarget')), "no 'PixlTarget'.*custom_imports"),
        (
            dict(a=dict(type='PixelTarget', weight=math.inf)),
            'a finite number: inf',
        ),
        (dict(a=dict(type='PixelTarget', weight='1')), "a finite number: '1'"),
        (dict(a='PixelTarget'), 'dict from names to configs'),
        ({}, r'No target of \[\] has a weight'),
        ({1: dict(type='PixelTarget')}, '1 cannot be the name'),
        ({'a.b': dict(type='PixelTarget')}, "'a.b'.*letters, digits and _"),
        (dict(a_map=dict(type='PixelTarget')), "'a_map'.*no _reconstruction"),
        (dict(training=dict(type='PixelTarget')), 'means something else'),
        (dict(source=dict(type='PixelTarget')), 'means something else'),
        (dict(a=dict(type='HOGTarget', gaussian_window=1)), 'at least 2; got'),
        (dict(a=dict(type='HOGTarget', cell_size=0)), 'must be at least 1'),
    ],
)
def test_mistakes_of_users_are_usage_errors(tiny_model, targets, message):
    """So the tools tell them in one line."""
    with pytest.raises(UsageError, match=message):
        tiny_model(targets=targets, head=dict(pixel_weight=0, motion_weight=0))


def test_targets_are_no_list():
    with pytest.raises(UsageError, match='dict from names to configs'):
        resolve_targets(['pixel'])


class TooWideTarget(PixelTarget):
    num_values = 1


def test_another_width_than_was_said(tiny_model):
    MODELS.register_module(module=TooWideTarget)
    model = tiny_model(
        targets=dict(wide=dict(type='TooWideTarget')),
        head=dict(pixel_weight=0, motion_weight=0),
    )
    frames = torch.zeros((2, 3, 8, 32, 32), dtype=torch.uint8)
    data = model.data_preprocessor(as_batch(frames, tube_mask()))
    with pytest.raises(UsageError, match="'wide' says .* has 1 values"):
        model(**data, mode='loss')


def test_drawing_of_other_channels():
    grey = torch.tensor([0.0, 0.5, 2.0]).reshape(1, 3, 1, 1)
    assert draw_frames(grey)[:, 0, 0].tolist() == [
        [0] * 3,
        [128] * 3,
        [255] * 3,
    ]
    with pytest.raises(UsageError, match='2 channels'):
        draw_frames(torch.zeros(2, 3, 4, 4))
