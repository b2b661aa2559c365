# Copyright (c) MotionMAE contributors. All rights reserved.
import pytest
import torch
from conftest import TINY_BACKBONE
from mmaction.registry import MODELS

from mmmotionmae.checkpoints import (
    build_model,
    read_checkpoint,
    resize_checkpoint,
)
from mmmotionmae.utils.errors import CheckpointError

HINTS = dict(num_heads=2, decoder_num_heads=2, trained_img_size=32)


@pytest.fixture
def pretraining(tiny_model, tmp_path):
    model = tiny_model(backbone=dict(use_learnable_pos_emb=True))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'a.pth')
    return read_checkpoint(tmp_path / 'a.pth', **HINTS)


def test_size_as_mmaction2_does_it(pretraining):
    """The stock backbone interpolates in space when frames are larger."""
    stock = MODELS.build(
        TINY_BACKBONE
        | dict(
            type='VisionTransformer',
            use_learnable_pos_emb=True,
            use_mean_pooling=False,
            return_feat_map=True,
        )
    ).eval()
    stock.load_state_dict(
        {
            name.removeprefix('backbone.'): tensor
            for name, tensor in pretraining.tensors.items()
            if name.startswith('backbone.')
        }
    )
    resized = build_model(
        resize_checkpoint(pretraining, img_size=48), 'encoder'
    )
    clip = torch.randn(2, 3, 8, 48, 48)
    with torch.no_grad():
        expected = stock(clip).flatten(2).transpose(1, 2)
        tokens = resized(clip)
    torch.testing.assert_close(tokens, expected, rtol=1e-5, atol=1e-5)


def test_frames(pretraining):
    """Positions that grow evenly with time do so at twice the rate."""
    tensors = dict(pretraining.tensors)
    slots = torch.arange(4.0).repeat_interleave(16)
    for name, width in (
        ('backbone.pos_embed', 32),
        ('neck.decoders.shared.pos_embed', 16),
    ):
        tensors[name] = slots.view(1, 64, 1).expand(1, 64, width).clone()
    pretraining.tensors.update(tensors)
    resized = resize_checkpoint(pretraining, num_frames=16)
    assert resized.encoder.grid == (8, 4, 4)
    # The new slots lie at quarters of the old, held at both ends.
    expected = ((torch.arange(8.0) + 0.5) / 2 - 0.5).clamp(0, 3)
    for name in ('backbone.pos_embed', 'neck.decoders.shared.pos_embed'):
        table = resized.tensors[name].unflatten(1, (8, 16))
        want = expected.view(1, 8, 1, 1).expand_as(table)
        torch.testing.assert_close(table, want)
    model = build_model(resized)
    clip = torch.randn(1, 3, 16, 32, 32)
    assert model.backbone(clip).shape == (1, 128, 32)


@pytest.mark.parametrize('length', [1, 3, 4, 8])
def test_tubelets(length, pretraining):
    """A clip that does not move has the same tokens, but for positions."""
    frames = 2 * 3 * 4
    resized = resize_checkpoint(
        pretraining, num_frames=frames, tubelet_size=length
    )
    assert resized.kind == 'encoder' and resized.decoder is None
    assert all(name.startswith('backbone.') for name in resized.tensors)
    assert resized.encoder.grid[0] == frames // length
    old = build_model(pretraining, 'encoder').patch_embed
    new = build_model(resized).patch_embed
    clip = torch.randn(2, 3, 1, 32, 32)
    with torch.no_grad():
        before = old(clip.expand(-1, -1, 2, -1, -1))[0]
        after = new(clip.expand(-1, -1, length, -1, -1))[0]
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-4)


def test_kernel_of_twice_the_length(pretraining):
    """Each frame of a kernel becomes two at half the weight, blended."""
    name = 'backbone.patch_embed.projection.weight'
    old = pretraining.tensors[name]
    resized = resize_checkpoint(pretraining, tubelet_size=4)
    new = resized.tensors[name]
    first, last = old[:, :, 0], old[:, :, 1]
    for frame, share in enumerate((0.0, 0.25, 0.75, 1.0)):
        want = ((1 - share) * first + share * last) / 2
        torch.testing.assert_close(new[:, :, frame], want)


def test_nothing_to_do(pretraining):
    assert resize_checkpoint(pretraining) is pretraining
    same = resize_checkpoint(pretraining, num_frames=8, img_size=32)
    assert same is pretraining


def test_half_precision_stays(pretraining):
    halves = {n: t.bfloat16() for n, t in pretraining.tensors.items()}
    pretraining.tensors.update(halves)
    resized = resize_checkpoint(pretraining, num_frames=16, img_size=48)
    assert {t.dtype for t in resized.tensors.values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    'size',
    [
        dict(num_frames=7),
        dict(img_size=36),
        dict(tubelet_size=3),
        dict(num_frames=-8),
        dict(tubelet_size=-2),
    ],
)
def test_clips_that_do_not_divide(size, pretraining):
    with pytest.raises(CheckpointError, match='divide evenly'):
        resize_checkpoint(pretraining, **size)
