# Copyright (c) MotionMAE contributors. All rights reserved.
import importlib
import math
import os
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmaction.engine.optimizers import LearningRateDecayOptimizerConstructor
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import nn

from mmmotionmae.models.heads import AttentiveProbeHead, LinearProbeHead

CHANNELS, CLASSES, DEPTH = 24, 5, 2
HEADS = dict(
    linear=dict(type='LinearProbeHead'),
    attentive=dict(type='AttentiveProbeHead', num_heads=3),
)
# A clone of V-JEPA's code; nothing is downloaded for a test.
CHECKOUT = os.environ.get('JEPA_CHECKOUT')


def recognizer(head, test_cfg=None, **kwargs):
    return MODELS.build(
        dict(
            type='Recognizer3D',
            backbone=dict(
                type='FusedVisionTransformer',
                frozen_stages=DEPTH,
                return_feat_map=True,
                use_mean_pooling=False,
                img_size=16,
                patch_size=8,
                embed_dims=CHANNELS,
                depth=DEPTH,
                num_heads=3,
                num_frames=4,
                drop_path_rate=0.2,
            ),
            cls_head=dict(
                num_classes=CLASSES,
                in_channels=CHANNELS,
                average_clips='prob',
                **HEADS[head],
                **kwargs,
            ),
            test_cfg=test_cfg,
        )
    )


def labelled(labels):
    return [ActionDataSample().set_gt_label(label) for label in labels]


def randomise(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)


# ------------------------------------------------------------- linear probe


def test_linear_probe_is_maes():
    head = LinearProbeHead(CLASSES, CHANNELS)
    feature_map = 3 * torch.randn(6, CHANNELS, 2, 3, 4) + 1
    tokens = feature_map.numpy().reshape(6, CHANNELS, 24)
    mean = np.stack([clip.mean(1) for clip in tokens]).astype(np.float64)
    scaled = (mean - mean.mean(0)) / np.sqrt(mean.var(0) + 1e-6)
    weight = head.fc_cls.weight.detach().numpy()
    bias = head.fc_cls.bias.detach().numpy()
    np.testing.assert_allclose(
        head(feature_map).detach().numpy(),
        scaled @ weight.T + bias,
        rtol=1e-4,
        atol=1e-5,
    )
    # The statistics of training serve in testing; PyTorch's start at 0 and 1
    # and move by a tenth.
    running = (mean - 0.1 * mean.mean(0)) / np.sqrt(
        0.9 + 0.1 * mean.var(0, ddof=1) + 1e-6
    )
    np.testing.assert_allclose(
        head.eval()(feature_map).detach().numpy(),
        running @ weight.T + bias,
        rtol=1e-4,
        atol=1e-5,
    )


def test_linear_probe_has_the_parameters_of_a_linear_layer():
    head = LinearProbeHead(CLASSES, CHANNELS)
    assert {n: tuple(p.shape) for n, p in head.named_parameters()} == {
        'fc_cls.weight': (CLASSES, CHANNELS),
        'fc_cls.bias': (CLASSES,),
    }


def test_initial_weights_of_the_linear_probe():
    head = LinearProbeHead(400, 768)
    head.init_weights()
    assert head.fc_cls.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert not head.fc_cls.bias.any()


# ---------------------------------------------------------- attentive probe


@pytest.mark.parametrize('qkv_bias', [True, False])
def test_attentive_probe_is_pytorchs_attention(qkv_bias):
    head = AttentiveProbeHead(
        CLASSES, CHANNELS, num_heads=3, mlp_ratio=2.0, qkv_bias=qkv_bias
    )
    randomise(head)
    pooling = head.pooling
    reference = nn.MultiheadAttention(CHANNELS, 3, batch_first=True)
    reference.in_proj_weight.data = torch.cat(
        (pooling.q.weight, pooling.kv.weight)
    ).data
    if qkv_bias:
        reference.in_proj_bias.data = torch.cat(
            (pooling.q.bias, pooling.kv.bias)
        ).data
    else:
        nn.init.zeros_(reference.in_proj_bias)
    nn.init.eye_(reference.out_proj.weight)
    nn.init.zeros_(reference.out_proj.bias)

    feature_map = torch.randn(4, CHANNELS, 2, 3, 4)
    tokens = feature_map.flatten(2).transpose(1, 2)
    tokens = F.layer_norm(
        tokens, [CHANNELS], pooling.norm1.weight, pooling.norm1.bias
    )
    query = pooling.query.repeat(4, 1, 1)
    x = query + reference(query, tokens, tokens)[0]
    normed = F.layer_norm(
        x, [CHANNELS], pooling.norm2.weight, pooling.norm2.bias
    )
    first, _, second = pooling.mlp
    hidden = F.gelu(normed @ first.weight.t() + first.bias)
    x = (x + hidden @ second.weight.t() + second.bias)[:, 0]
    expected = x @ head.fc_cls.weight.t() + head.fc_cls.bias
    torch.testing.assert_close(
        head(feature_map), expected, rtol=1e-4, atol=1e-4
    )


def official_classifier(monkeypatch, **kwargs):
    monkeypatch.syspath_prepend(CHECKOUT)
    name = 'src.models.attentive_pooler'
    classifier = importlib.import_module(name).AttentiveClassifier(**kwargs)
    for module in [m for m in sys.modules if m.split('.')[0] == 'src']:
        monkeypatch.delitem(sys.modules, module)
    return classifier


def official_names(head):
    """Our state dict, under the names that V-JEPA gives."""
    names = {
        'fc_cls.': 'linear.',
        'pooling.query': 'pooler.query_tokens',
        'pooling.norm': 'pooler.cross_attention_block.norm',
        'pooling.q.': 'pooler.cross_attention_block.xattn.q.',
        'pooling.kv.': 'pooler.cross_attention_block.xattn.kv.',
        'pooling.mlp.0.': 'pooler.cross_attention_block.mlp.fc1.',
        'pooling.mlp.2.': 'pooler.cross_attention_block.mlp.fc2.',
    }
    state = {}
    for name, value in head.state_dict().items():
        ours = next(part for part in names if name.startswith(part))
        state[names[ours] + name.removeprefix(ours)] = value
    return state


@pytest.mark.filterwarnings('ignore')
@pytest.mark.skipif(not CHECKOUT, reason='JEPA_CHECKOUT is not set')
@pytest.mark.parametrize('qkv_bias', [True, False])
def test_attentive_probe_is_v_jepas(qkv_bias, monkeypatch):
    sizes = dict(num_heads=3, mlp_ratio=2.0, qkv_bias=qkv_bias)
    official = official_classifier(
        monkeypatch, embed_dim=CHANNELS, num_classes=CLASSES, **sizes
    )
    head = AttentiveProbeHead(CLASSES, CHANNELS, **sizes)
    randomise(head)
    missing, unexpected = official.load_state_dict(
        official_names(head), strict=False
    )
    # A layer that the official code has, and never calls.
    unused = 'pooler.cross_attention_block.xattn.proj'
    assert missing == [f'{unused}.weight', f'{unused}.bias']
    assert unexpected == []
    feature_map = torch.randn(4, CHANNELS, 2, 3, 4)
    outputs = [
        head(feature_map),
        official(feature_map.flatten(2).transpose(1, 2)),
    ]
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)
    for output in outputs:
        output.square().sum().backward()
    gradients = {n: p.grad for n, p in official.named_parameters()}
    for parameter in head.parameters():
        parameter.data = parameter.grad
    for name, gradient in official_names(head).items():
        torch.testing.assert_close(
            gradients[name], gradient, rtol=1e-3, atol=1e-4
        )


@pytest.mark.filterwarnings('ignore')
@pytest.mark.skipif(not CHECKOUT, reason='JEPA_CHECKOUT is not set')
def test_initial_weights_are_v_jepas(monkeypatch):
    official = official_classifier(
        monkeypatch, embed_dim=384, num_heads=6, num_classes=400
    ).state_dict()
    head = AttentiveProbeHead(400, 384, num_heads=6)
    head.init_weights()
    for name, ours in official_names(head).items():
        theirs = official[name]
        assert ours.shape == theirs.shape
        # Standard errors of the mean, and of either deviation, with room.
        tolerance = 4 / math.sqrt(ours.numel())
        scale = theirs.std().item()
        shift = (ours.mean() - theirs.mean()).item()
        assert abs(shift) <= 2 * tolerance * scale
        assert ours.std().item() == pytest.approx(scale, rel=2 * tolerance)


def test_initial_weights_of_the_attentive_probe():
    head = AttentiveProbeHead(400, 384, num_heads=6)
    torch.manual_seed(0)
    head.init_weights()
    pooling = head.pooling
    expected = {
        pooling.query: 0.02,
        pooling.q.weight: 0.02,
        pooling.kv.weight: 0.02,
        pooling.mlp[0].weight: 0.02,
        pooling.mlp[2].weight: 0.02 / math.sqrt(2),
        # PyTorch's own: uniform up to 1 / sqrt(384).
        head.fc_cls.weight: 1 / math.sqrt(384 * 3),
    }
    for weight, std in expected.items():
        tolerance = 4 / math.sqrt(weight.numel())
        assert weight.std().item() == pytest.approx(std, rel=tolerance)
    for layer in (pooling.q, pooling.kv, pooling.mlp[0], pooling.mlp[2]):
        assert not layer.bias.any()


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match='5 heads do not divide 24 channels'):
        AttentiveProbeHead(CLASSES, CHANNELS, num_heads=5)


# -------------------------------------------------- both, in the recognizer


@pytest.mark.parametrize('head', HEADS)
def test_only_the_head_learns(head):
    model = recognizer(head)
    model.init_weights()
    model.train()
    encoder = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    before = {k: v.clone() for k, v in model.cls_head.state_dict().items()}
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.5, momentum=0.9, weight_decay=0.1
    )
    inputs = torch.randn(4, 1, 3, 4, 16, 16)
    samples = labelled([0, 1, 2, 3])
    for _ in range(2):
        wrapper = OptimWrapper(optimizer)
        loss, _ = model.parse_losses(model.loss(inputs, samples))
        wrapper.update_params(loss)
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, encoder[name]), name
    for parameter in model.backbone.parameters():
        assert parameter.grad is None
    # Head: parameters, and the statistics of the batch normalisation.
    for name, value in model.cls_head.state_dict().items():
        assert not torch.equal(value, before[name]), name
    assert set(optimizer.state) == {*model.cls_head.parameters()}


@pytest.mark.parametrize('head', HEADS)
def test_trains_under_ddp(head, tmp_path):
    """Without looking for unused parameters."""
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1
    )
    try:
        model = recognizer(head)
        model.init_weights()
        wrapped = MMDistributedDataParallel(model).train()
        wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
        data = dict(
            inputs=[torch.randn(1, 3, 4, 16, 16) for _ in range(4)],
            data_samples=labelled([0, 1, 2, 3]),
        )
        model.data_preprocessor.format_shape = 'NCTHW'
        losses = [wrapped.train_step(data, wrapper) for _ in range(3)]
        values = [float(loss['loss'].detach()) for loss in losses]
        assert values[2] < values[1] < values[0]
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize('head', HEADS)
def test_views_are_averaged(head):
    """In one batch, or a few views at a time."""
    model = recognizer(head).eval()
    randomise(model)
    views = torch.randn(1, 6, 3, 4, 16, 16)
    with torch.no_grad():
        scores = [
            model.cls_head(model.backbone(views[:, number]))
            for number in range(6)
        ]
        expected = torch.stack(scores).softmax(-1).mean((0, 1))
        found = model.predict(views, labelled([0]))[0]
        model.test_cfg = dict(max_testing_views=4)
        few = model.predict(views, labelled([0]))[0]
    torch.testing.assert_close(found.pred_score, expected)
    torch.testing.assert_close(few.pred_score, expected)
    assert found.pred_label.item() == expected.argmax().item()


@pytest.mark.parametrize('head', HEADS)
def test_losses(head):
    inputs = torch.randn(3, 1, 3, 4, 16, 16)
    labels = torch.tensor([4, 0, 2])
    model = recognizer(head, label_smooth_eps=0.1)
    scores = model.cls_head(model.backbone(inputs[:, 0]))
    losses = model.loss(inputs, labelled(labels))
    torch.testing.assert_close(
        losses['loss_cls'],
        F.cross_entropy(scores, labels, label_smoothing=0.1),
    )
    top1 = (scores.argmax(1) == labels).double().mean()
    assert losses['top1_acc'].item() == pytest.approx(top1.item())
    # Mixup and CutMix make labels soft.
    soft = torch.rand(3, CLASSES).softmax(1)
    found = recognizer(head, label_smooth_eps=0.0)
    found.load_state_dict(model.state_dict())
    torch.testing.assert_close(
        found.loss(inputs, labelled(soft))['loss_cls'],
        F.cross_entropy(scores, soft),
    )


@pytest.mark.parametrize('head', HEADS)
def test_mixed_precision(head):
    model = recognizer(head)
    randomise(model)
    inputs = torch.randn(4, 1, 3, 4, 16, 16)
    expected = model.loss(inputs, labelled([0, 1, 2, 3]))['loss_cls']
    with torch.autocast('cpu', torch.bfloat16):
        found = model.loss(inputs, labelled([0, 1, 2, 3]))['loss_cls']
    found.backward()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.1)


def test_layer_decay_refuses_batch_normalisation():
    """Why the probes have a constructor of their own."""
    construct = LearningRateDecayOptimizerConstructor(
        dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1.0)),
        dict(num_layers=DEPTH, decay_rate=0.5),
    )
    with pytest.raises(AssertionError, match='BN is not supported'):
        construct(recognizer('linear'))
    assert construct(recognizer('attentive')).param_groups
