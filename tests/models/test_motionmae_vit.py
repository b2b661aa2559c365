# Copyright (c) MotionMAE contributors. All rights reserved.
import copy

import pytest
import torch
from conftest import TINY_BACKBONE, tube_mask
from mmaction.registry import MODELS

from mmmotionmae.models import MotionMAEViT
from mmmotionmae.models.utils.tubelet import split_mask


def build_pair(**changes):
    """Ours and the stock one, with the same random weights."""
    cfg = copy.deepcopy(TINY_BACKBONE) | changes
    ours = MODELS.build(cfg)
    stock = MODELS.build(
        cfg
        | dict(
            type='VisionTransformer',
            use_mean_pooling=False,
            return_feat_map=True,
        )
    )
    for parameter in ours.parameters():  # biases and norms too
        torch.nn.init.normal_(parameter, std=0.1)
    return ours.eval(), stock.eval()


@pytest.mark.parametrize(
    'changes',
    [
        {},
        dict(use_learnable_pos_emb=True),
        dict(qkv_bias=False, qk_scale=0.3),
        dict(init_values=0.1, mlp_ratio=2),
        dict(num_frames=6, tubelet_size=3, img_size=48, patch_size=16),
        dict(num_frames=3, tubelet_size=1, img_size=20, patch_size=4),
    ],
)
def test_equals_the_stock_transformer(changes):
    ours, stock = build_pair(**changes)
    assert list(ours.state_dict()) == list(stock.state_dict())
    stock.load_state_dict(ours.state_dict())
    ours.load_state_dict(stock.state_dict())
    cfg = TINY_BACKBONE | changes
    size = cfg['img_size']
    clip = torch.randn(2, 3, cfg['num_frames'], size, size)
    with torch.no_grad():
        tokens = ours(clip)
        expected = stock(clip).flatten(2).transpose(1, 2)
    torch.testing.assert_close(tokens, expected, rtol=1e-5, atol=1e-5)
    # The comparison means something: tokens differ from each other.
    assert expected.std(1).median() > 1e-2


def test_masked_tokens_have_no_influence_and_visible_ones_are_gathered():
    """With a mask: the stock blocks on the stock embedding, gathered."""
    ours, stock = build_pair()
    stock.load_state_dict(ours.state_dict())
    clip, mask = torch.randn(2, 3, 8, 32, 32), tube_mask(2)
    split = split_mask(mask)
    with torch.no_grad():
        x = stock.patch_embed(clip)[0] + stock.pos_embed
        x = torch.stack([x[b][~mask[b]] for b in range(2)])
        for block in stock.blocks:
            x = block(x)
        expected = stock.norm(x)
        tokens = ours(clip, split)
        torch.testing.assert_close(tokens, expected, rtol=1e-5, atol=1e-5)
        # Whatever stands at masked places does not matter.
        noise = torch.nn.functional.interpolate(
            mask.view(2, 1, 4, 4, 4).float(), size=(8, 32, 32)
        )
        torch.testing.assert_close(ours(clip + 9 * noise, split), tokens)


def test_activation_checkpointing_changes_no_gradient():
    ours, _ = build_pair()
    saving = MODELS.build(TINY_BACKBONE | dict(with_cp=True))
    saving.load_state_dict(ours.state_dict())
    clip, split = torch.randn(2, 3, 8, 32, 32), split_mask(tube_mask(2))
    ours(clip, split).square().sum().backward()
    saving(clip, split).square().sum().backward()
    for (name, p), q in zip(
        ours.named_parameters(), saving.parameters(), strict=True
    ):
        torch.testing.assert_close(p.grad, q.grad, msg=name)


def test_mean_pooling_weights_of_fine_tuning_load():
    """`use_mean_pooling=True` has `fc_norm` where the encoder has `norm`."""
    ours, _ = build_pair()
    stock = MODELS.build(TINY_BACKBONE | dict(type='VisionTransformer'))
    result = stock.load_state_dict(ours.state_dict(), strict=False)
    assert set(result.missing_keys) == {'fc_norm.weight', 'fc_norm.bias'}
    assert set(result.unexpected_keys) == {'norm.weight', 'norm.bias'}


def test_published_sizes():
    """VideoMAE's ViT-B encoder has 86 M parameters, ViT-S 22 M."""

    def millions(**kwargs):
        parameters = MotionMAEViT(**kwargs).parameters()
        return sum(p.numel() for p in parameters) / 1e6

    assert millions() == pytest.approx(86.2, abs=0.1)
    small = millions(embed_dims=384, num_heads=6)
    assert small == pytest.approx(21.9, abs=0.1)


def test_errors_name_the_way_out():
    vit = MODELS.build(TINY_BACKBONE)
    with pytest.raises(ValueError, match='set its num_frames and img_size'):
        vit(torch.zeros(1, 3, 16, 32, 32))
    with pytest.raises(ValueError, match='width is 33'):
        vit(torch.zeros(1, 3, 8, 32, 33))
    with pytest.raises(ValueError, match='patch_size and tubelet_size'):
        vit(
            torch.zeros(1, 3, 8, 32, 32), split_mask(torch.zeros(1, 16).bool())
        )
    with pytest.raises(TypeError, match=r'split_mask\(mask\)'):
        vit(torch.zeros(1, 3, 8, 32, 32), torch.zeros(1, 64).bool())
    with pytest.raises(ValueError, match='height is 30'):
        MODELS.build(TINY_BACKBONE | dict(img_size=30))
    with pytest.raises(ValueError, match='one int'):
        MODELS.build(TINY_BACKBONE | dict(img_size=(32, 32)))
