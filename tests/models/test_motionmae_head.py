# Copyright (c) MotionMAE contributors. All rights reserved.
import pytest
import torch
from conftest import tube_mask
from mmaction.registry import MODELS
from sklearn.metrics import r2_score
from test_tubelet import naive_patchify

from mmmotionmae.models import PixelTarget
from mmmotionmae.models.utils.reconstruction_error import (
    explained_variance,
    squared_error,
)
from mmmotionmae.models.utils.tubelet import split_mask


def build_target(video, masked, norm, tubelet_size, patch_size):
    target = PixelTarget(
        name='pixel',
        norm=norm,
        tubelet_size=tubelet_size,
        patch_size=patch_size,
    )
    return target.build(video, masked)


def naive_target(video, masked, norm, tubelet_size, patch_size):
    """Loops; the formula of VideoMAE's engine for `norm='tubelet'`."""
    tubelets = naive_patchify(video, tubelet_size, patch_size)
    batch = []
    for b in range(len(video)):
        tokens = []
        for i in masked[b].tolist():
            channels = []
            for c in range(video.size(1)):
                values = tubelets[b, i, c]
                over = values if norm == 'tubelet' else video[b, c]
                if norm != 'none':
                    n = over.numel()
                    mean = over.sum() / n
                    var = ((over - mean) ** 2).sum() / (n - 1)
                    values = (values - mean) / (var.sqrt() + 1e-6)
                channels.append(values)
            tokens.append(torch.stack(channels))
        batch.append(torch.stack(tokens))
    return torch.stack(batch)


@pytest.mark.parametrize('norm', ['tubelet', 'clip', 'none'])
def test_target_equals_loops(norm):
    video = torch.rand(2, 3, 4, 8, 8)
    masked = split_mask(tube_mask(2, grid=(2, 2, 2), num_masked=3)).masked
    target = build_target(video, masked, norm, 2, 4)
    expected = naive_target(video, masked, norm, 2, 4)
    torch.testing.assert_close(target.values, expected, rtol=1e-4, atol=1e-4)
    raw = naive_target(video, masked, 'none', 2, 4)
    torch.testing.assert_close(
        target.values * target.std + target.mean,
        raw.expand_as(target.values),
        rtol=1e-4,
        atol=1e-5,
    )
    torch.testing.assert_close(
        target.rms, raw.flatten(2).square().mean(-1).sqrt()
    )


def test_a_constant_tubelet_is_no_nan():
    masked = split_mask(torch.ones(1, 1, dtype=torch.bool)).masked
    target = build_target(torch.zeros(1, 3, 2, 4, 4), masked, 'tubelet', 2, 4)
    assert torch.equal(target.values, torch.zeros(1, 1, 3, 32))


def r2(pred, target, tokens=None):
    return explained_variance(
        squared_error(pred, target),
        target.sum(-1),
        target.square().sum(-1),
        target.size(-1),
        tokens,
    ).item()


@pytest.mark.parametrize('shift', [0.0, 10.0])
def test_explained_variance_equals_scikit_learn(shift):
    target = torch.randn(2, 5, 8) + shift
    pred = target + 0.5 * torch.randn(2, 5, 8)
    assert r2(pred, target) == pytest.approx(
        r2_score(target.flatten(), pred.flatten()), abs=1e-4
    )
    keep = torch.tensor([[1, 0, 0, 1, 1], [0, 0, 1, 0, 0]]).bool()
    assert r2(pred, target, keep) == pytest.approx(
        r2_score(target[keep].flatten(), pred[keep].flatten()), abs=1e-4
    )


def test_explained_variance_in_closed_form():
    target = torch.randn(3, 4, 6)
    assert r2(target, target) == pytest.approx(1)
    constant = target.mean().expand_as(target)
    assert r2(constant, target) == pytest.approx(0, abs=1e-5)
    nobody = torch.zeros(3, 4, dtype=torch.bool)
    assert r2(constant, target, nobody) == 0
    assert r2(torch.rand(1, 2, 3), torch.full((1, 2, 3), 0.7)) == 0


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_squared_error_and_its_gradient(dtype):
    target = torch.randn(2, 5, 8)
    pred = torch.randn(2, 5, 8).to(dtype).requires_grad_()
    weight = torch.randn(2, 5)
    error = squared_error(pred, target)
    expected = (pred.float() - target).square().sum(-1)
    torch.testing.assert_close(error, expected)
    (grad,) = torch.autograd.grad((error * weight).sum(), pred)
    (reference,) = torch.autograd.grad((expected * weight).sum(), pred)
    assert grad.dtype == dtype
    torch.testing.assert_close(grad, reference)
    overwritten = target.clone()
    torch.testing.assert_close(squared_error(pred, overwritten, True), error)
    torch.testing.assert_close(overwritten, (pred - target).detach().float())


@pytest.mark.parametrize('criterion', ['L1', 'smooth_L1', 'L2'])
def test_every_criterion_sees_the_target(criterion):
    head = build_head(
        motion_weight=0.0,
        loss=dict(type='MaskedReconstructionLoss', criterion=criterion),
    )
    video = torch.rand(1, 3, 4, 8, 8)
    mask = torch.ones(1, 8, dtype=torch.bool)
    tokens = dict(pixel=torch.randn(1, 8, 6))
    losses = head.loss(tokens, dict(pixel=video), split_mask(mask))
    target = naive_target(video, split_mask(mask).masked, 'tubelet', 2, 4)
    function = dict(
        L1=torch.nn.functional.l1_loss,
        smooth_L1=torch.nn.functional.smooth_l1_loss,
        L2=torch.nn.functional.mse_loss,
    )[criterion]
    expected = function(head(tokens)['pixel'], target.flatten(2))
    torch.testing.assert_close(
        losses['loss_pixel'], expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize('level', [1, 100, 255])
@pytest.mark.parametrize('patch_size', [4, 6])
def test_a_constant_tubelet_of_integers_is_exactly_zero(level, patch_size):
    video = torch.full((1, 3, 2, patch_size, patch_size), level).byte()
    masked = torch.zeros(1, 1, dtype=torch.int64)
    target = build_target(video, masked, 'tubelet', 2, patch_size)
    assert not target.values.any() and not target.square.any()
    assert target.mean.unique().item() == pytest.approx(level / 255)


@pytest.mark.parametrize('norm', ['tubelet', 'clip', 'none'])
def test_sums_of_a_target(norm):
    """As they are summed up; a static and a nearly static tubelet, too."""
    video = torch.randint(256, (2, 3, 4, 8, 8), dtype=torch.uint8)
    video[0, :, :2, :4, :4] = 7
    video[1, :, :2, :4, :4] = 7
    video[1, :, 0, 0, 0] = 8
    masked = split_mask(torch.ones(2, 8, dtype=torch.bool)).masked
    target = build_target(video, masked, norm, 2, 4)
    expected = naive_target(video / 255, masked, norm, 2, 4)
    torch.testing.assert_close(target.values, expected, rtol=1e-4, atol=1e-4)
    flat = expected.flatten(2).float()
    torch.testing.assert_close(target.sum, flat.sum(-1), rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(
        target.square, flat.square().sum(-1), rtol=1e-3, atol=1e-4
    )


def build_head(**kwargs):
    return MODELS.build(
        dict(
            type='MotionMAEHead',
            in_channels=6,
            patch_size=4,
            tubelet_size=2,
            **kwargs,
        )
    )


def test_loss_equals_loops():
    head = build_head(pixel_weight=0.5, motion_weight=2.0, motion_norm='clip')
    videos = dict(
        pixel=torch.rand(2, 3, 4, 8, 8), motion=torch.randn(2, 3, 4, 8, 8)
    )
    mask = tube_mask(2, grid=(2, 2, 2), num_masked=3)
    masked = split_mask(mask).masked
    tokens = dict(pixel=torch.randn(2, 6, 6), motion=torch.randn(2, 6, 6))
    losses = head.loss(tokens, videos, split_mask(mask))
    assert set(losses) == {
        'loss_pixel',
        'loss_motion',
        'r2_pixel',
        'r2_motion',
        'r2_motion_moving',
    }
    preds = head(tokens)
    for name, norm, weight in (
        ('pixel', 'tubelet', 0.5),
        ('motion', 'clip', 2.0),
    ):
        target = naive_target(videos[name], masked, norm, 2, 4)
        total = 0.0
        for b in range(2):
            for i in range(6):
                error = preds[name][b, i] - target[b, i].flatten()
                total += error.square().sum().item()
        expected = weight * total / target.numel()
        assert losses[f'loss_{name}'].item() == pytest.approx(
            expected, rel=1e-4
        )
        assert losses[f'r2_{name}'].item() == pytest.approx(
            r2_score(target.flatten(), preds[name].detach().flatten()),
            abs=1e-4,
        )


def test_moving_tubelets_are_those_above_the_threshold():
    head = build_head(pixel_weight=0.0, motion_norm='none')
    motion = torch.zeros(1, 3, 4, 8, 8)
    motion[:, :, :2, :4, :4] = 0.1 * torch.randn(3, 2, 4, 4)  # token 0
    motion[:, :, :2, 4:, :4] = 0.001 * torch.randn(3, 2, 4, 4)  # token 2
    mask = torch.ones(1, 8, dtype=torch.bool)
    tokens = dict(motion=torch.randn(1, 8, 6))
    losses = head.loss(tokens, dict(motion=motion), split_mask(mask))
    pred = head(tokens)['motion'][0, 0].detach()
    expected = r2_score(motion[0, :, :2, :4, :4].flatten(), pred)
    assert losses['r2_motion_moving'].item() == pytest.approx(
        expected, rel=1e-4
    )
    assert losses['r2_motion'] < losses['r2_motion_moving']


def test_prediction_of_the_target_reconstructs_the_video():
    """Feed the true target through `predict`: out comes the video."""
    head = build_head()
    head.predictors = torch.nn.ModuleDict(
        dict(pixel=torch.nn.Identity(), motion=torch.nn.Identity())
    )
    mask = tube_mask(2, grid=(2, 2, 2), num_masked=3)
    split = split_mask(mask)
    masked = split.masked
    videos = dict(
        pixel=torch.rand(2, 3, 4, 8, 8), motion=torch.randn(2, 3, 4, 8, 8)
    )
    truth = {
        name: build_target(video, masked, 'tubelet', 2, 4).values.flatten(2)
        for name, video in videos.items()
    }
    for name, video in head.predict(truth, videos, split).items():
        torch.testing.assert_close(video, videos[name])
    zeros = {name: torch.zeros_like(x) for name, x in truth.items()}
    changed = head.predict(zeros, videos, split)['pixel'] != videos['pixel']
    shown = torch.nn.functional.interpolate(
        mask.view(2, 1, 2, 2, 2).float(), size=(4, 8, 8)
    ).bool()
    assert torch.equal(changed.all(1, keepdim=True), shown)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(pixel_norm='patch'), 'patch'),
        (dict(motion_weight=-1.0), 'negative'),
        (dict(pixel_weight=0.0, motion_weight=0.0), 'both 0'),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build_head(**kwargs)


class OwnLoss(torch.nn.Module):
    """Keeps what it was given."""

    def forward(self, pred, target, squared_error):
        self.given = pred, target, squared_error
        return squared_error.sum()


@pytest.mark.parametrize('needs_values', [None, True, False])
def test_a_loss_of_ones_own_never_sees_an_overwritten_target(needs_values):
    head = build_head(motion_weight=0.0, pixel_weight=3.0)
    head.loss_module = OwnLoss()
    if needs_values is not None:
        head.loss_module.needs_values = needs_values
    video = torch.rand(1, 3, 4, 8, 8)
    split = split_mask(torch.ones(1, 8, dtype=torch.bool))
    tokens = dict(pixel=torch.randn(1, 8, 6))
    losses = head.loss(tokens, dict(pixel=video), split)
    pred, target, error = head.loss_module.given
    truth = naive_target(video, split.masked, 'tubelet', 2, 4).flatten(2)
    if needs_values is False:
        assert target is None
    else:
        torch.testing.assert_close(target, truth, rtol=1e-4, atol=1e-4)
    expected = (pred - truth).square().sum(-1)
    torch.testing.assert_close(error, expected, rtol=1e-4, atol=1e-3)
    assert losses['loss_pixel'].item() == pytest.approx(3 * error.sum().item())


def test_a_criterion_without_its_target_says_so():
    loss = MODELS.build(dict(type='MaskedReconstructionLoss', criterion='L1'))
    with pytest.raises(ValueError, match="'L1' needs the target"):
        loss(torch.zeros(1, 2, 3), None, torch.zeros(1, 2))


def test_arguments_that_there_are_not():
    with pytest.raises(TypeError, match="'pixel_wieght'"):
        build_head(pixel_wieght=1.0)


def test_a_target_of_weight_zero_costs_nothing():
    head = build_head(motion_weight=0.0)
    assert list(head.targets) == ['pixel']
    assert [n for n, _ in head.named_parameters()] == [
        'predictors.pixel.weight',
        'predictors.pixel.bias',
    ]
