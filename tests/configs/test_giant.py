# Copyright (c) MotionMAE contributors. All rights reserved.
"""ViT-g/14: stepped without values, and its patches in all their places."""

import pytest
import torch
from helpers.config_files import BY_STEM, read
from mmaction.registry import MODELS, TRANSFORMS
from mmaction.structures import ActionDataSample
from mmengine.optim import build_optim_wrapper

from mmmotionmae.apis.cost.network import build_on_meta
from mmmotionmae.visualization import reconstruct

STEM = '_vit-giant-p14_64xb128-16x4x1-amp-1200e_kinetics400-rgb'
VALUES = 3 * 2 * 14 * 14  # of a tubelet
TOKENS, MASKED = 8 * 16 * 16, 8 * int(0.9 * 16 * 16)
# One clip; its decoder sees half of the masked tokens.
VISIBLE, DECODED = TOKENS - MASKED, MASKED // 2


def sample_of(cfg):
    """A clip and its mask, as the pipeline of the config makes them."""
    pipeline = cfg.train_dataloader.dataset.pipeline
    (masking,) = (t for t in pipeline if t.type.endswith('Masking'))
    clip = torch.randint(256, (1, 3, 16, 224, 224), dtype=torch.uint8)
    mask = TRANSFORMS.build(masking)(dict(imgs=clip))['mask']
    sample = ActionDataSample()
    sample.mask = mask
    return dict(inputs=clip, data_samples=sample)


@pytest.mark.parametrize('algorithm', ['motionmae', 'videomae'])
def test_a_step_on_the_meta_device(algorithm):
    """Forward, backward and the optimiser of the whole network."""
    cfg = read(BY_STEM[algorithm + STEM])
    model = build_on_meta(cfg).to('meta')
    assert sum(p.numel() for p in model.backbone.parameters()) == 1_011_610_752
    sample = sample_of(cfg)
    assert int(sample['data_samples'].mask.sum()) == MASKED == 1840
    shapes = {}
    for name in ('backbone', 'neck'):
        getattr(model, name).register_forward_hook(
            lambda module, args, result, name=name: shapes.update(
                {name: result}
            )
        )
    cfg.optim_wrapper.update(type='OptimWrapper', clip_grad=None)
    for key in ('dtype', 'loss_scale'):
        cfg.optim_wrapper.pop(key)
    cfg.optim_wrapper.optimizer.update(fused=False, foreach=True)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    data = model.data_preprocessor(
        dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']]),
        training=True,
    )
    split = data['inputs']['split']
    assert split.visible.shape == (1, VISIBLE)
    assert split.masked.shape == (1, DECODED)
    losses = model(**data, mode='loss')
    names = ['pixel'] if algorithm == 'videomae' else ['pixel', 'motion']
    assert [n for n in losses if n.startswith('loss_')] == [
        f'loss_{name}' for name in names
    ]
    wrapper.update_params(sum(losses[f'loss_{name}'] for name in names))
    assert shapes['backbone'].shape == (1, VISIBLE, 1408)
    for name in names:
        assert shapes['neck'][name].shape == (1, DECODED, 512)
        assert model.head.targets[name].num_values == VALUES
    for parameter in model.parameters():
        state = wrapper.optimizer.state[parameter]
        assert state['exp_avg'].shape == parameter.shape


def test_patches_of_14_pixels():
    """What is shown: hidden squares of 14 pixels, the others as they were."""
    cfg = read(BY_STEM['motionmae' + STEM])
    cfg.model.backbone.update(embed_dims=32, depth=1, num_heads=2)
    cfg.model.neck.update(embed_dims=16, depth=1, num_heads=2)
    sample = sample_of(cfg)
    model = MODELS.build(cfg.model)
    model.init_weights()
    videos = reconstruct(model, [sample])
    squares = sample['data_samples'].mask[0].view(8, 16, 16).numpy()
    hidden = torch.from_numpy(
        squares.repeat(2, 0).repeat(14, 1).repeat(14, 2)
    ).expand(3, -1, -1, -1)
    clip = sample['inputs'][0] / 255
    motion = clip - clip.roll(1, 1)
    motion[:, 0] = motion[:, 1]
    masked = videos['masked'][0]
    assert (masked[hidden] == 0.5).all()
    for name, truth in dict(pixel=clip, motion=motion).items():
        found = videos[f'{name}_reconstruction'][0]
        assert found.shape == clip.shape
        torch.testing.assert_close(found[~hidden], truth[~hidden])
        assert (found[hidden] != truth[hidden]).float().mean() > 0.99
