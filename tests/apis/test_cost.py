# Copyright (c) MotionMAE contributors. All rights reserved.
"""Parameters, tokens and FLOPs of configs, told without data."""

import pytest
import torch
from benchmarks import networks
from benchmarks.networks import SIZES
from conftest import ROOT
from helpers.described_networks import (
    CONFIGS,
    PUBLISHED,
    SETUP,
    as_config,
    count_flops,
    recogniser,
    training_of,
)
from mmaction.registry import MODELS
from mmengine.config import Config
from torch import nn

from mmmotionmae.apis import UsageError, cost
from mmmotionmae.apis.cost.network import read_network

# -------------------------------------------------------------- parameters


@pytest.mark.parametrize('size', SIZES)
def test_published_figures(size):
    name = f'vit-{size}-p16_finetune.py'
    base = ROOT / 'configs' / '_base_' / 'models' / name
    model = Config.fromfile(base).model
    # A head of any size; the data preprocessor is the data set's matter.
    model.cls_head.num_classes = 400
    model.pop('data_preprocessor', None)
    found = cost.describe(as_config(model.to_dict()))
    encoder = found['parameters']['encoder']
    if size in PUBLISHED:
        multiply_adds, millions = PUBLISHED[size]
        assert found['flops']['encoder'] / 2e9 == pytest.approx(
            multiply_adds, rel=0.005
        )
        assert encoder == pytest.approx(millions * 1e6, rel=0.01)
    dim, depth = model.backbone.embed_dims, model.backbone.depth
    # Biases of query, value, projection and MLP, two norms; the last norm.
    block = 12 * dim**2 + (3 + 5 + 4) * dim
    assert encoder == depth * block + (1536 + 1 + 2) * dim
    heads = found['parameters']['heads']
    assert heads == 400 * dim + 400
    assert found['parameters']['total'] == encoder + heads


@pytest.mark.parametrize(
    'path', [p for p in CONFIGS if p.parent.name == 'demo']
)
def test_parameters_are_those_that_are_built(path):
    cfg = Config.fromfile(path)
    found = cost.describe(cfg)['parameters']
    model = MODELS.build(cfg.model)
    counts = {
        part: sum(p.numel() for p in getattr(model, name).parameters())
        for part, name in (
            ('encoder', 'backbone'),
            ('decoder', 'neck'),
            ('heads', 'head' if hasattr(model, 'head') else 'cls_head'),
        )
        if getattr(model, name, None) is not None
    }
    assert {part: found[part] for part in counts} == counts
    total = sum(p.numel() for p in model.parameters())
    assert found['total'] == total == sum(counts.values())
    assert found['trained'] == (total if 'train_cfg' in cfg else 0)


def test_no_memory_for_weights():
    model = read_network(as_config(recogniser())).model
    assert {p.device.type for p in model.parameters()} == {'meta'}


# ------------------------------------------------------------------- FLOPs


def test_flops_of_pretraining():
    """ViT-B as in the paper; worked out by hand, product by product."""
    flops = cost.describe(
        Config.fromfile(
            ROOT / 'configs' / 'motionmae' / 'motionmae_vit-base-p16_'
            '32xb64-16x2x1-amp-800e_sthv2-rgb.py'
        )
    )['flops']
    parts = dict(encoder=28500295680, decoder=36539203584, head=3321888768)
    assert {part: flops[part] for part in parts} == parts
    assert flops['forward'] == sum(parts.values())
    assert flops['training'] == 3 * flops['forward']


def test_flops_by_hand():
    """Independent decoders of two targets, half of the tokens decoded."""
    config = networks.our_config('independent', SETUP)
    config['data_preprocessor']['decoder_mask_ratio'] = 0.5
    found = cost.describe(as_config(config))
    visible, decoded, values, dim, width = 128, 192, 384, 96, 64
    assert found['tokens'] == dict(
        grid=(8, 8, 8),
        total=512,
        visible=visible,
        masked=384,
        decoded=decoded,
    )
    assert found['flops']['encoder'] == (
        2 * visible * values * dim
        + 4 * (24 * visible * dim**2 + 4 * visible**2 * dim)
    )
    tokens = visible + decoded
    block = 24 * tokens * width**2 + 4 * tokens**2 * width
    # In the last block only what is decoded asks; all are keys and values.
    last = 20 * decoded * width**2 + 4 * tokens * width**2
    last += 4 * decoded * tokens * width
    embedding = 2 * visible * dim * width
    assert found['flops']['decoder'] == 2 * (embedding + 2 * block + last)
    assert found['flops']['head'] == 2 * 2 * decoded * width * values


@pytest.mark.parametrize(
    'head', ['TimeSformerHead', 'LinearProbeHead', 'AttentiveProbeHead']
)
def test_flops_of_recognition(head):
    config = recogniser(head=head)
    pipeline = [
        dict(type='SampleFrames', clip_len=16, num_clips=5),
        dict(type='ThreeCrop', crop_size=64),
    ]
    cfg = as_config(
        config, test_dataloader=dict(dataset=dict(pipeline=pipeline))
    )
    flops = cost.describe(cfg)['flops']
    model = MODELS.build(config)
    clips = torch.rand(2, 1, 3, 16, 64, 64)
    features, _ = model.extract_feat(clips)
    assert 2 * flops['encoder'] == count_flops(model.extract_feat, clips)
    assert 2 * flops['head'] == count_flops(model.cls_head, features)
    assert flops['views'] == 15
    assert flops['test'] == 15 * flops['forward']


@pytest.mark.parametrize('frozen', [0, 2, 4])
def test_flops_of_training_with_frozen_blocks(frozen):
    config = recogniser(
        'FusedVisionTransformer', 'AttentiveProbeHead', frozen_stages=frozen
    )
    found = cost.describe(as_config(config))
    counted = count_flops(training_of(config)[1])
    assert 2 * found['flops']['training'] == counted
    whole = cost.describe(as_config(recogniser(head='AttentiveProbeHead')))
    frozen_parameters = (
        found['parameters']['total'] - found['parameters']['trained']
    )
    # Embedding, blocks and, with the last of these, the last norm.
    dim = 96
    blocks = frozen * 12 * (dim**2 + dim) + (384 + 1) * dim
    assert frozen_parameters == blocks + (2 * dim if frozen == 4 else 0)
    assert whole['parameters']['trained'] == whole['parameters']['total']


def test_flops_of_checkpointing():
    """Blocks twice; PyTorch stops a little before the end of each."""
    config = networks.our_config('shared', SETUP, with_cp=True)
    flops = cost.describe(as_config(config))['flops']
    counted = count_flops(training_of(config)[1])
    assert 2 * flops['training'] == pytest.approx(counted, rel=0.05)
    assert flops['training'] > 3.8 * (flops['forward'] - flops['head'])


@pytest.mark.parametrize(
    'test,grid', [('dino', 30 * 52), ('siammae', 30 * 55)]
)
def test_frame_of_segmentation(test, grid):
    cfg = Config.fromfile(
        ROOT / 'configs' / 'vos' / 'vit-small-p16_label-'
        f'propagation-{test}_davis2017.py'
    )
    frame = cost.describe(cfg)['frame']
    assert frame['tokens'] == grid
    linear = 2 * grid * (1536 * 384 + 12 * 12 * 384**2)
    assert frame['flops'] == linear + 12 * 4 * grid**2 * 384
    # A window of 8 slots has 8 frames' tokens, and gives 8 frames.
    cfg.model.features = dict(temporal='window', block=5)
    window = cost.describe(cfg)['frame']
    assert window['tokens'] == 8 * grid
    linear = 2 * grid * (1536 * 384 + 6 * 12 * 384**2)
    assert window['flops'] == linear + 6 * 4 * grid * window['tokens'] * 384


# ------------------------------------------------------------- any configs


def test_mistakes_in_configs():
    model = networks.our_config('shared', SETUP)
    cfg = as_config(model)
    cfg.train_dataloader.dataset.pipeline = []
    with pytest.raises(UsageError, match='no masking transform'):
        cost.describe(cfg)
    with pytest.raises(UsageError, match='4 videos are fewer than one batch'):
        cost.describe(as_config(model), 2, 4)
    model['neck']['depth'] = 0
    with pytest.raises(UsageError, match='cannot be built: .*depth 0'):
        cost.describe(as_config(model))


def test_notes():
    cfg = as_config(recogniser(), name='some_2xb7_data.py')
    notes = ' '.join(cost.describe(cfg)['notes'])
    assert 'The name says 7 clips on each GPU, the config has 6.' in notes
    assert 'model.backbone.type=FusedVisionTransformer' in notes
    assert 'How many videos there are is not known' in notes
    cfg = as_config(dict(type='NotHere', backbone=recogniser()['backbone']))
    found = cost.describe(cfg)
    assert found['notes'][0].startswith('NotHere is not installed')
    encoder = cost.describe(as_config(recogniser()))['parameters']['encoder']
    assert found['parameters']['total'] == encoder
    assert isinstance(read_network(cfg).model, nn.Module)


def test_sizes_of_targets():
    """Values, bytes that they are taken from, and bytes made for them."""
    folder = ROOT / 'configs/motionmae'

    def sizes(variant):
        (path,) = folder.glob(f'motionmae_vit-base-p16{variant}_32xb64-*400e*')
        return [
            (target.values, target.source_bytes, target.made_bytes)
            for target in read_network(Config.fromfile(path)).targets
        ]

    # A tubelet has 2 frames of 16x16 pixels; motion is int16, flow, which has
    # two channels, and HOG, 27 values in each of 8 cells, are float32.
    pixel, flow = (1536, 1536, 0), (1024, 4096, 4096)
    assert sizes('-motion-only') == [(1536, 3072, 3072)]
    assert sizes('-independent') == [pixel, (1536, 3072, 3072)]
    assert sizes('-flow') == [pixel, flow]
    assert sizes('-hog') == [(216, 864, 864)]
    assert sizes('-tubelet-difference') == [pixel]
