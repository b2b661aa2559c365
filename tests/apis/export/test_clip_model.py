# Copyright (c) MotionMAE contributors. All rights reserved.
"""What is exported computes what MMAction2's own models do."""

import copy

import pytest
import torch
from conftest import as_batch
from helpers.exported_models import MEAN, STD, encoder, recognizer
from mmaction.registry import MODELS
from torch import nn

from mmmotionmae.apis.export import ClipModel


@torch.no_grad()
@pytest.mark.parametrize(
    'type', ['VisionTransformer', 'FusedVisionTransformer', 'MotionMAEViT']
)
def test_tokens_of_a_pretrained_encoder(type):
    stock = encoder(
        'VisionTransformer', use_mean_pooling=False, return_feat_map=True
    )
    changes = {} if type == 'MotionMAEViT' else dict(use_mean_pooling=False)
    vit = encoder(type, **changes)
    vit.load_state_dict(stock.state_dict())
    clips = torch.randn(2, 3, 8, 32, 32)
    # (B, D, t, h, w), after the norm.
    tokens = stock(clips).flatten(2).transpose(1, 2)
    torch.testing.assert_close(ClipModel(vit, 'tokens')(clips), tokens)
    torch.testing.assert_close(ClipModel(vit)(clips), tokens.mean(1))


@torch.no_grad()
@pytest.mark.parametrize(
    'type', ['VisionTransformer', 'FusedVisionTransformer']
)
def test_features_of_a_finetuned_encoder(type):
    stock = encoder('VisionTransformer')
    vit = encoder(type)
    vit.load_state_dict(stock.state_dict())
    clips = torch.randn(2, 3, 8, 32, 32)
    torch.testing.assert_close(ClipModel(vit, 'pooled')(clips), stock(clips))
    stock.return_feat_map = True  # before the norm, which comes after the mean
    tokens = stock(clips).flatten(2).transpose(1, 2)
    torch.testing.assert_close(
        ClipModel(vit, 'tokens')(clips), stock.fc_norm(tokens)
    )


@torch.no_grad()
@pytest.mark.parametrize(
    'output,average', [('scores', 'prob'), ('logits', 'score')]
)
def test_views_of_a_video(output, average):
    """Their mean is what MMAction2 reports."""
    model = recognizer(head=dict(average_clips=average))
    frames = torch.randint(256, (2, 3, 3, 8, 32, 32), dtype=torch.uint8)
    batch = as_batch(frames)
    batch['inputs'] = list(frames)  # three views of each of two videos
    samples = model(**model.data_preprocessor(batch), mode='predict')
    expected = torch.stack([s.pred_score for s in samples])
    clip_model = ClipModel(model, output, uint8=True)
    outputs = clip_model(frames.flatten(0, 1)).unflatten(0, (2, 3))
    torch.testing.assert_close(outputs.mean(1), expected)
    if output == 'scores':
        assert torch.equal(ClipModel(model, uint8=True)(frames[0]), outputs[0])


@torch.no_grad()
@pytest.mark.parametrize('to_rgb', [False, True])
def test_normalisation(to_rgb):
    """Frames are RGB, whatever the training's decoder made of them."""
    model = recognizer('FusedVisionTransformer')
    model.data_preprocessor.to_rgb = to_rgb
    rgb = torch.randint(256, (2, 3, 8, 32, 32), dtype=torch.uint8)
    batch = as_batch(rgb.flip(1) if to_rgb else rgb)
    clips = model.data_preprocessor(batch)['inputs'][:, 0]
    assert clips.dtype == torch.float32
    torch.testing.assert_close(
        ClipModel(model, 'logits', uint8=True)(rgb),
        ClipModel(model, 'logits')(clips),
    )


def test_mean_and_std(tiny_model):
    vit = encoder('MotionMAEViT')
    own, given = ClipModel(vit), ClipModel(vit, mean=MEAN, std=STD)
    assert own.describe()['mean'] == [123.675, 116.28, 103.53]  # ImageNet's
    assert own.describe()['std'] == [58.395, 57.12, 57.375]
    assert (given.describe()['mean'], given.describe()['std']) == (MEAN, STD)
    pretrained = tiny_model(
        data_preprocessor=dict(
            type='MotionMAEDataPreprocessor', mean=MEAN, std=STD
        )
    )
    assert ClipModel(pretrained).describe()['mean'] == MEAN
    raw = recognizer()
    raw.data_preprocessor = MODELS.build(dict(type='ActionDataPreprocessor'))
    model = ClipModel(raw, 'pooled', uint8=True)
    assert (model.describe()['mean'], model.describe()['std']) == ([0], [1])


def test_weights_are_shared_and_the_model_is_left_as_it_is():
    model = recognizer()
    model.train()
    keys = list(model.state_dict())
    clip_model = ClipModel(model, 'tokens')
    assert clip_model.encoder is model.backbone
    assert not any(module.training for module in clip_model.modules())
    assert list(model.state_dict()) == keys
    half = clip_model.with_dtype(torch.float16)
    assert clip_model.with_dtype(torch.float32) is clip_model
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert {p.dtype for p in half.parameters()} == {torch.float16}
    clips = clip_model.random_clips(2)
    assert half(clips).dtype == torch.float32


def test_noise_to_check_with():
    model = ClipModel(recognizer(), uint8=True)
    clips = model.random_clips(3, seed=1)
    assert clips.shape == (3, 3, 8, 32, 32) and clips.dtype == torch.uint8
    assert clips.min() < 5 and clips.max() > 250
    assert torch.equal(clips, model.random_clips(3, seed=1))
    assert not torch.equal(clips, model.random_clips(3, seed=2))
    normalised = ClipModel(recognizer()).random_clips(3)
    assert abs(normalised.std() - 1) < 0.05


@pytest.mark.parametrize(
    'build,output,message',
    [
        (lambda: nn.Linear(2, 2), None, 'VisionTransformer.*a Linear'),
        (recognizer, 'features', 'output must be one of scores, logits,'),
        (lambda: encoder('MotionMAEViT'), 'scores', 'is no classifier'),
    ],
)
def test_what_cannot_be_exported(build, output, message):
    with pytest.raises(ValueError, match=message):
        ClipModel(build(), output)


def test_pretrained_model_is_no_classifier(tiny_model):
    model = tiny_model()
    assert ClipModel(model).encoder is model.backbone
    with pytest.raises(ValueError, match='MotionMAE is no classifier'):
        ClipModel(copy.copy(model), 'logits')
