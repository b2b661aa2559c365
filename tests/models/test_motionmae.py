# Copyright (c) MotionMAE contributors. All rights reserved.
import numpy as np
import pytest
import torch
from conftest import TINY_BACKBONE, as_batch, tube_mask
from mmaction.registry import MODELS
from mmengine.optim import OptimWrapper
from mmengine.runner.checkpoint import save_checkpoint
from test_motionmae_head import naive_target

from mmmotionmae.datasets import moving_shapes
from mmmotionmae.models import ReconstructionTarget

SIZES = dict(tubelet_size=2, patch_size=8)


def generated_clips(count):
    """Clips of moving shapes: uint8 (B, C, T, H, W)."""
    clips = []
    for i in range(count):
        scene = moving_shapes.sample_scene(
            np.random.default_rng(i), moving_shapes.DIRECTIONS[i]
        )
        frames, _ = moving_shapes.render(scene, num_frames=8, size=32)
        clips.append(torch.from_numpy(frames).permute(3, 0, 1, 2))
    return torch.stack(clips)


@pytest.fixture
def batch():
    return as_batch(generated_clips(2), tube_mask(2))


def naive_videos(frames):
    """Pixels in [0, 1] and signed differences, the first one repeated."""
    pixel = frames.float() / 255
    motion = torch.zeros_like(pixel)
    for t in range(1, frames.size(2)):
        motion[:, :, t] = pixel[:, :, t] - pixel[:, :, t - 1]
    motion[:, :, 0] = motion[:, :, 1]
    return dict(pixel=pixel, motion=motion)


def predictions(model, data):
    """What the head predicts, put together by hand."""
    clip, split = data['inputs']['clip'], data['inputs']['split']
    tokens = model.neck(model.backbone(clip, split), split)
    return {
        name: model.head.predictors[name](tokens[name])
        for name in ('pixel', 'motion')
    }


def test_tensor_mode_is_the_latent(tiny_model, batch):
    model = tiny_model().eval()
    data = model.data_preprocessor(batch)
    clip, split = data['inputs']['clip'], data['inputs']['split']
    with torch.no_grad():
        latent = model(**data)
        assert latent.shape == (2, 16, 32)
        assert torch.equal(latent, model.backbone(clip, split))
        # Without a mask every token is encoded.
        data['inputs']['split'] = None
        everything = model(**data, mode='tensor')
        assert torch.equal(everything, model.backbone(clip))
        assert everything.shape == (2, 64, 32)


def test_loss_mode_equals_loops(tiny_model, batch):
    model = tiny_model(
        head=dict(type='MotionMAEHead', motion_weight=0.5, motion_norm='clip')
    )
    videos = naive_videos(torch.cat(batch['inputs']))
    data = model.data_preprocessor(batch, training=True)
    losses = model(**data, mode='loss')
    masked = data['inputs']['split'].masked
    preds = predictions(model, data)
    for name, norm, weight in (
        ('pixel', 'tubelet', 1.0),
        ('motion', 'clip', 0.5),
    ):
        target = naive_target(videos[name], masked, norm, **SIZES).flatten(2)
        expected = weight * (preds[name] - target).square().mean().item()
        assert losses[f'loss_{name}'].item() == pytest.approx(
            expected, rel=1e-4
        )


@pytest.mark.parametrize('motion_norm', ['tubelet', 'none'])
def test_predict_mode_pastes_predictions_into_the_true_video(
    tiny_model, batch, motion_norm
):
    model = tiny_model(
        head=dict(type='MotionMAEHead', motion_norm=motion_norm)
    ).eval()
    videos = naive_videos(torch.cat(batch['inputs']))
    data = model.data_preprocessor(batch)
    mask = torch.cat([sample.mask for sample in data['data_samples']])
    with torch.no_grad():
        samples = model(**data, mode='predict')
        preds = predictions(model, data)
    assert len(samples) == 2 and samples[0] is data['data_samples'][0]
    masked = data['inputs']['split'].masked
    for name, norm in (('pixel', 'tubelet'), ('motion', motion_norm)):
        for b in range(2):
            result = samples[b].get(f'{name}_reconstruction')
            assert result.shape == (1, 3, 8, 32, 32)
            assert result.dtype == torch.float32
            expected = videos[name][b].clone()
            for i, token in enumerate(masked[b].tolist()):
                t, y, x = token // 16, token // 4 % 4, token % 4
                place = (
                    slice(None),
                    slice(2 * t, 2 * t + 2),
                    slice(8 * y, 8 * y + 8),
                    slice(8 * x, 8 * x + 8),
                )
                values = preds[name][b, i].view(3, 2, 8, 8)
                if norm == 'tubelet':
                    truth = expected[place].flatten(1)
                    mean = truth.mean(1).view(3, 1, 1, 1)
                    std = truth.std(1).view(3, 1, 1, 1)
                    values = values * (std + 1e-6) + mean
                expected[place] = values
            torch.testing.assert_close(
                result[0], expected, rtol=1e-4, atol=1e-5
            )
            assert not torch.equal(result[0], videos[name][b])
            visible = ~mask[b].view(4, 4, 4)
            for axis, times in enumerate((2, 8, 8)):
                visible = visible.repeat_interleave(times, axis)
            torch.testing.assert_close(
                result[0][:, visible], videos[name][b][:, visible]
            )


def test_predict_gives_each_sample_its_clips(tiny_model):
    model = tiny_model().eval()
    frames, mask = generated_clips(6), tube_mask(6)
    batch = as_batch(frames[:2])
    for b, sample in enumerate(batch['data_samples']):
        batch['inputs'][b] = frames[3 * b : 3 * b + 3]
        sample.set_field(mask[3 * b : 3 * b + 3], 'mask')
    with torch.no_grad():
        samples = model.test_step(batch)
        data = model.data_preprocessor(as_batch(frames, mask))
        single = model.predict(**data['inputs'])
    assert (len(samples), len(single)) == (2, 6)
    for i, one in enumerate(single):
        for name in ('pixel_reconstruction', 'motion_reconstruction'):
            torch.testing.assert_close(
                samples[i // 3].get(name)[i % 3], one.get(name)[0]
            )


@pytest.mark.parametrize('sharing', ['shared', 'independent'])
def test_overfits_one_batch(tiny_model, batch, sharing):
    model = tiny_model(neck=dict(embed_dims=64, num_heads=4, sharing=sharing))
    model.init_weights()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=3e-3, betas=(0.9, 0.95)
    )
    wrapper = OptimWrapper(optimizer)
    start = model.train_step(batch, wrapper)
    for _ in range(300):
        log = model.train_step(batch, wrapper)
    # Scores are logged, but are no part of the loss.
    assert log['loss'].item() == pytest.approx(
        (log['loss_pixel'] + log['loss_motion']).item(), rel=1e-5
    )
    for name in ('pixel', 'motion'):
        assert start[f'loss_{name}'] > 0.5
        assert log[f'loss_{name}'] < 0.05
        assert log[f'r2_{name}'] > 0.95
    assert log['r2_motion_moving'] > 0.95
    with torch.no_grad():
        samples = model.val_step(batch)
    for clip, sample in zip(batch['inputs'], samples, strict=True):
        error = sample.pixel_reconstruction - clip / 255
        assert error.abs().mean() < 0.01


def test_losses_and_targets_are_float32_under_autocast(
    tiny_model, batch, monkeypatch
):
    targets = []
    build = ReconstructionTarget.build

    def spy(*args):
        target = build(*args)
        # A copy, for errors are put in the place of the values.
        targets.append(target._replace(values=target.values.clone()))
        return target

    monkeypatch.setattr(ReconstructionTarget, 'build', spy)
    model = tiny_model()
    data = model.data_preprocessor(batch, training=True)
    exact = model(**data, mode='loss')
    linear = []
    model.head.predictors['pixel'].register_forward_hook(
        lambda module, args, output: linear.append(output.dtype)
    )
    with torch.autocast('cpu', torch.bfloat16):
        losses = model(**data, mode='loss')
    assert linear == [torch.bfloat16]
    for name, loss in losses.items():
        assert loss.dtype == torch.float32, name
        assert loss.item() == pytest.approx(exact[name].item(), rel=0.02)
    assert len(targets) == 4
    for plain, mixed in zip(targets[:2], targets[2:], strict=True):
        assert mixed.values.dtype == torch.float32
        assert torch.equal(mixed.values, plain.values)
    sum(losses.values()).backward()
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize('mode', ['loss', 'predict'])
def test_a_missing_mask_is_explained(tiny_model, mode):
    model = tiny_model()
    data = model.data_preprocessor(as_batch(generated_clips(2)))
    with pytest.raises(ValueError, match='put a masking transform'):
        model(**data, mode=mode)


def test_unknown_mode(tiny_model, batch):
    model = tiny_model()
    with pytest.raises(ValueError, match="not 'train'"):
        model(**model.data_preprocessor(batch), mode='train')


@pytest.mark.parametrize('sharing', ['shared', 'independent'])
@pytest.mark.parametrize(
    ('off', 'target'),
    [('motion_weight', 'pixel'), ('pixel_weight', 'motion')],
)
def test_a_target_of_weight_zero_is_switched_off_everywhere(
    tiny_model, batch, sharing, off, target
):
    model = tiny_model(
        neck=dict(sharing=sharing), head={'type': 'MotionMAEHead', off: 0.0}
    )
    assert list(model.targets) == list(model.head.targets) == [target]
    assert list(model.neck.targets) == [target]
    assert list(model.data_preprocessor.targets) == [target]
    data = model.data_preprocessor(batch, training=True)
    assert list(data['inputs']['videos']) == [target]
    losses = model(**data, mode='loss')
    assert [n for n in losses if n.startswith('loss')] == [f'loss_{target}']
    losses[f'loss_{target}'].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name  # as DDP wants it
    (sample, _) = model(**data, mode='predict')
    assert set(sample.keys()) == {'mask', f'{target}_reconstruction'}


@pytest.mark.parametrize('use_mean_pooling', [False, True])
def test_a_checkpoint_loads_into_the_stock_recognizer(
    tiny_model, tmp_path, use_mean_pooling
):
    model = tiny_model()
    for parameter in model.parameters():  # biases and norms too
        torch.nn.init.normal_(parameter)
    file = str(tmp_path / 'pretrained.pth')
    save_checkpoint(dict(state_dict=model.state_dict(), meta={}), file)
    recognizer = MODELS.build(
        dict(
            type='Recognizer3D',
            backbone=TINY_BACKBONE
            | dict(
                type='VisionTransformer',
                use_mean_pooling=use_mean_pooling,
                init_cfg=dict(
                    type='Pretrained', checkpoint=file, prefix='backbone.'
                ),
            ),
            cls_head=dict(
                type='TimeSformerHead', num_classes=5, in_channels=32
            ),
        )
    )
    before = {n: x.clone() for n, x in recognizer.state_dict().items()}
    recognizer.init_weights()
    given = {
        name: value
        for name, value in model.state_dict().items()
        if name.startswith('backbone.')
    }
    taken = recognizer.state_dict()
    missing, unexpected = taken.keys() - given, given.keys() - taken.keys()
    head = {'cls_head.fc_cls.weight', 'cls_head.fc_cls.bias'}
    norm, fc_norm = (
        {f'backbone.{name}.{kind}' for kind in ('weight', 'bias')}
        for name in ('norm', 'fc_norm')
    )
    assert missing == (head | fc_norm if use_mean_pooling else head)
    assert unexpected == (norm if use_mean_pooling else set())
    for name in given.keys() & taken.keys():
        assert torch.equal(taken[name], given[name]), name
        if name != 'backbone.pos_embed':
            assert not torch.equal(taken[name], before[name]), name
