# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/analysis/describe.py`: what a config costs, told without data."""

import json
import sys

import pytest
import torch
from conftest import ROOT
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(ROOT / 'tools' / 'analysis'))

import describe as tool  # noqa: E402
import describe_memory  # noqa: E402
import describe_training  # noqa: E402
import model_configs  # noqa: E402
from describe_model import read_network  # noqa: E402
from model_memory import peak_of_tensors  # noqa: E402
from model_setup import Setup, draw_batch  # noqa: E402
from model_sizes import SIZES, Size  # noqa: E402

from mmmotionmae.apis import UsageError, launch  # noqa: E402
from mmmotionmae.models.utils.transformer import build_blocks  # noqa: E402
from mmmotionmae.models.utils.tubelet import split_mask  # noqa: E402

CONFIGS = sorted(
    path
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)
# Multiply-adds in G, parameters in M: MMAction2, configs/recognition, README
# of videomaev2 (S) and videomae (B, L). Nothing that we could read has ViT-H.
PUBLISHED = {'small': (57, 22), 'base': (180, 87), 'large': (597, 305)}
SETUP = Setup(
    Size(96, 4, 3, 64, 2, decoder_depth=3, patch_size=8),
    batch_size=2,
    img_size=64,
    mask_ratio=0.75,
)


def as_config(model, setup=SETUP, name='some_2xb6-acc3_data.py', **settings):
    """A config with this model and a training."""
    masking = dict(
        type='TubeMasking',
        mask_ratio=setup.mask_ratio,
        patch_size=setup.size.patch_size,
    )
    return Config(
        dict(
            dict(
                model=model,
                train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=5),
                train_dataloader=dict(
                    batch_size=3,
                    drop_last=True,
                    dataset=dict(num_repeats=2, pipeline=[masking]),
                ),
                optim_wrapper=dict(
                    optimizer=dict(type='AdamW', lr=1e-3),
                    accumulative_counts=3,
                ),
                auto_scale_lr=dict(base_batch_size=72),
            ),
            **settings,
        ),
        cfg_text='#',
        filename=name,
    )


def recogniser(backbone='VisionTransformer', head='TimeSformerHead', **extra):
    config = model_configs.recogniser_config(backbone, SETUP)
    config['backbone'].update(extra)
    if head != 'TimeSformerHead':
        config['backbone'].update(use_mean_pooling=False, return_feat_map=True)
        config['cls_head']['type'] = head
    if head == 'AttentiveProbeHead':
        config['cls_head']['num_heads'] = 3
    return config


def count_flops(function, *args):
    """What PyTorch counts; of attention it knows only the plain kernel."""
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        function(*args)
    return counter.get_total_flops()


def training_of(config, setup=SETUP, amp=False):
    """A model, and a function that does forward and backward as MMEngine."""
    model = MODELS.build(config).train()
    batch = draw_batch(setup, seed=0)

    def step():
        data = model.data_preprocessor(batch.data, True)
        with torch.autocast('cpu', torch.bfloat16, enabled=amp):
            losses = model(**data, mode='loss')
            loss = sum(v for key, v in losses.items() if 'loss' in key)
        loss.backward()

    return model, step


def peak_of_training(*args):
    """What a step allocates at its peak, exactly."""
    model, step = training_of(*args)
    step()
    model.zero_grad(set_to_none=True)
    return peak_of_tensors(step)


# -------------------------------------------------------------- parameters


@pytest.mark.parametrize('size', SIZES)
def test_published_figures(size):
    base = ROOT / 'configs' / '_base_' / 'models' / f'vit-{size}-p16.py'
    model = Config.fromfile(base).model
    # A head of any size; the data preprocessor is the data set's matter.
    model.cls_head.num_classes = 400
    model.pop('data_preprocessor', None)
    found = tool.describe(as_config(model.to_dict()))
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
    found = tool.describe(cfg)['parameters']
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
    model = tool.read_network(as_config(recogniser())).model
    assert {p.device.type for p in model.parameters()} == {'meta'}


# ------------------------------------------------------------------- FLOPs


@pytest.mark.parametrize('key', model_configs.OURS)
def test_flops_of_pretraining(key):
    """Exactly what PyTorch counts; both count matrix products only."""
    config = model_configs.our_config(key, SETUP)
    found = tool.describe(as_config(config))
    model = MODELS.build(config)
    batch = draw_batch(SETUP, seed=0)
    inputs = model.data_preprocessor(batch.data, True)['inputs']
    split = split_mask(inputs['mask'])
    latent = model.backbone(inputs['clip'], split)
    tokens = model.neck(latent, split)
    counted = dict(
        encoder=count_flops(model.backbone, inputs['clip'], split),
        decoder=count_flops(model.neck, latent, split),
        head=count_flops(model.head, tokens),
    )
    assert {name: 2 * found['flops'][name] for name in counted} == counted
    assert found['tokens'] == dict(
        grid=(8, 8, 8),
        total=512,
        visible=split.visible.size(1),
        masked=384,
        decoded=split.masked.size(1),
    )
    forward = sum(counted.values()) // 2
    assert found['flops']['forward'] == forward
    assert found['flops']['training'] == 3 * forward


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
    flops = tool.describe(cfg)['flops']
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
    found = tool.describe(as_config(config))
    counted = count_flops(training_of(config)[1])
    assert 2 * found['flops']['training'] == counted
    whole = tool.describe(as_config(recogniser(head='AttentiveProbeHead')))
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
    config = model_configs.our_config('shared', SETUP, with_cp=True)
    flops = tool.describe(as_config(config))['flops']
    counted = count_flops(training_of(config)[1])
    assert 2 * flops['training'] == pytest.approx(counted, rel=0.05)
    assert flops['training'] > 3.8 * (flops['forward'] - flops['head'])


@pytest.mark.parametrize(
    'test,grid', [('dino', 30 * 52), ('siammae', 30 * 55)]
)
def test_frame_of_segmentation(test, grid):
    cfg = Config.fromfile(
        ROOT / 'configs' / 'vos' / 'motionmae_vit-small-p16_label-'
        f'propagation-{test}_davis2017.py'
    )
    frame = tool.describe(cfg)['frame']
    assert frame['tokens'] == grid
    linear = 2 * grid * (1536 * 384 + 12 * 12 * 384**2)
    assert frame['flops'] == linear + 12 * 4 * grid**2 * 384
    # A window of 8 slots has 8 frames' tokens, and gives 8 frames.
    cfg.model.features = dict(temporal='window', block=5)
    window = tool.describe(cfg)['frame']
    assert window['tokens'] == 8 * grid
    linear = 2 * grid * (1536 * 384 + 6 * 12 * 384**2)
    assert window['flops'] == linear + 6 * 4 * grid * window['tokens'] * 384


# ------------------------------------------------------------------ memory


def activations(config, setup=SETUP, half=False):
    network = read_network(as_config(config, setup))
    memory = describe_memory.memory_of(
        network, setup.batch_size, half, states=2, distributed=False
    )
    total = network.parameters['total']
    copies = 2 * network.trained if half else 0
    assert memory.weights == 4 * total + copies
    assert memory.gradients == 4 * network.trained
    assert memory.optimizer == 8 * network.trained
    return memory.activations + copies


MODEL_CONFIGS = dict(
    {key: model_configs.our_config(key, SETUP) for key in model_configs.OURS},
    checkpointed=model_configs.our_config('shared', SETUP, with_cp=True),
    stock=recogniser(),
    fused=recogniser('FusedVisionTransformer'),
    half_frozen=recogniser('FusedVisionTransformer', frozen_stages=2),
    probe=recogniser(
        'FusedVisionTransformer', 'AttentiveProbeHead', frozen_stages=4
    ),
)


@pytest.mark.parametrize('key', MODEL_CONFIGS)
def test_activations_are_those_that_are_allocated(key):
    """In float32, within 6 %: as the tool says."""
    config = MODEL_CONFIGS[key]
    peak = peak_of_training(config)
    assert activations(config) == pytest.approx(peak, rel=0.06)


@pytest.mark.parametrize('key', ['shared', 'checkpointed'])
def test_activations_in_mixed_precision(key):
    """A CPU casts predictions for the loss, a GPU does not: 10 %."""
    config = MODEL_CONFIGS[key]
    peak = peak_of_training(config, SETUP, True)
    assert activations(config, half=True) == pytest.approx(peak, rel=0.1)


@pytest.mark.parametrize(
    'key,megabytes',
    [
        ('pixel', 445),
        ('shared', 494),
        ('independent', 731),
        # Not decoder-masking: its peak is that of the gradients.
        ('cross-attention', 444),
    ],
)
def test_activations_of_vit_base(key, megabytes):
    """Measured: docs/benchmarks, ViT-B on a CPU, in float32."""
    setup = Setup(SIZES['base'])
    config = model_configs.our_config(key, setup)
    found = activations(config, setup)
    assert found == pytest.approx(megabytes * 1e6, rel=0.03)


@pytest.mark.parametrize(
    'name,megabytes',
    [('VisionTransformer', 2554), ('FusedVisionTransformer', 765)],
)
def test_activations_of_fine_tuning_vit_small(name, megabytes):
    """Likewise."""
    setup = Setup(SIZES['small'])
    config = model_configs.recogniser_config(name, setup)
    found = activations(config, setup)
    assert found == pytest.approx(megabytes * 1e6, rel=0.03)


@pytest.mark.parametrize('queries', [40, 64])
@pytest.mark.parametrize('amp', [False, True])
def test_what_a_block_keeps(queries, amp):
    (block,) = build_blocks(1, 48, 2, mlp_ratio=3.0)
    x = torch.rand(2, 64, 48, requires_grad=True) + 0
    # Weights, parts of them and their casts are known by their shapes.
    weights = {tuple(p.shape) for p in block.parameters()} | {(96, 48)}
    weights |= {shape[::-1] for shape in weights}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if tuple(tensor.shape) not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), storage)
        return tensor

    with (
        torch.autocast('cpu', torch.bfloat16, enabled=amp),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t),
    ):
        block(x, None if queries == 64 else queries)
    found = sum(size for size, _ in kept.values())
    width = 2 if amp else 4
    estimated = 2 * describe_memory.block_bytes(queries, 64, 48, width, 3.0)
    # Statistics of norms and softmax, and copies of small parts, are left out.
    assert estimated == pytest.approx(found, rel=0.05)


# ---------------------------------------------------------------- training


def test_batch_and_learning_rate():
    cfg = as_config(recogniser())
    batch = tool.describe(cfg)['batch']
    assert batch['gpus'] == 2  # of the name
    assert batch['clips'] == 2 * 3 * 2 * 3
    assert batch['scaled_lr'] == pytest.approx(1e-3 * 36 / 72)
    eight = tool.describe(cfg, gpus=8)['batch']
    assert eight['clips'] == 8 * 3 * 2 * 3
    assert eight['scaled_lr'] == pytest.approx(1e-3 * 144 / 72)
    # What tools/train.py says itself.
    launch.set_auto_scale_lr(cfg)
    said = launch.describe_batch(cfg, 8)
    assert said.startswith('Effective batch size: 144 clips a step')
    assert said.endswith('Learning rate: 0.002, scaled to the batch size.')


@pytest.mark.parametrize('drop_last', [False, True])
@pytest.mark.parametrize('gpus', [1, 3])
@pytest.mark.parametrize('videos', [31, 36])
def test_steps_are_those_of_the_loader(drop_last, gpus, videos, monkeypatch):
    cfg = as_config(recogniser())
    cfg.train_dataloader.drop_last = drop_last
    found = tool.describe(cfg, gpus, videos)
    monkeypatch.setattr(
        'mmengine.dataset.sampler.get_dist_info', lambda: (0, gpus)
    )
    loader = DataLoader(
        range(videos),
        batch_size=3,
        sampler=DefaultSampler(range(videos)),
        drop_last=drop_last,
    )
    length = found['length']
    assert length['steps_per_epoch'] == pytest.approx(len(loader) / 3)
    assert length['clips'] == 5 * len(loader) * gpus * 3 * 2
    assert length['steps'] == -(-5 * len(loader) // 3)
    assert (length['epochs'], length['clip_epochs']) == (5, 10)


def test_hours():
    cfg = as_config(recogniser())
    found = tool.describe(cfg, 2, 36_000, clips_per_second=50.0)
    assert found['length']['clips'] == 360_000
    assert found['time']['hours'] == pytest.approx(1.0)  # 3600 s x 2 x 50
    assert found['time']['flops'] == 360_000 * found['flops']['training']
    lines = tool.text(found)
    assert '1.0 h at 50 clips per second and GPU' in lines
    # No speed is invented.
    unknown = tool.text(tool.describe(cfg, 2, 36_000))
    assert '1.0 GPU-hours if a GPU trains on 100 clips' in unknown


def test_iterations_need_no_videos():
    cfg = as_config(
        recogniser(), train_cfg=dict(type='IterBasedTrainLoop', max_iters=100)
    )
    length = tool.describe(cfg, 4)['length']
    assert (length['steps'], length['clips']) == (34, 100 * 4 * 3 * 2)


@pytest.mark.parametrize(
    'data,videos',
    [
        ('sthv2', 168_913),
        ('ucf101', 9_537),
        ('hmdb51', 3_570),
        ('kinetics400', 240_436),
        ('kinetics400-1percent', 2_404),
        ('sthv2-10percent', 16_891),
        ('videos', None),
        ('ava-kinetics', None),
    ],
)
def test_videos_of_data_sets(data, videos):
    assert describe_training.videos_of(data) == videos
    readme = ROOT / 'tools' / 'data' / data / 'README.md'
    if videos:
        name = data.split('-')[0]
        readme = ROOT / 'tools' / 'data' / name / 'README.md'
        count = describe_training.VIDEOS[name]
        assert f'{count:,}' in readme.read_text()


def test_memory_of_devices():
    """Buckets of gradients on several devices; the optimiser's states."""
    cfg = as_config(recogniser())
    one, two = (tool.describe(cfg, gpus)['memory'] for gpus in (1, 2))
    assert two['gradients'] == 2 * one['gradients'] == one['optimizer']
    for optimizer, states in (
        (dict(type='SGD', lr=1.0, momentum=0.9), 1),
        (dict(type='SGD', lr=1.0), 0),
        (dict(type='LARS', lr=1.0), 1),
    ):
        cfg.optim_wrapper.optimizer = optimizer
        found = tool.describe(cfg, 1)['memory']
        assert found['optimizer'] == states * one['gradients']


# --------------------------------------------------------------- the tool


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_described(path):
    cfg = Config.fromfile(path)
    found = tool.describe(cfg)
    assert found['what']['trains'] == ('train_cfg' in cfg)
    lines = tool.text(found)
    assert ('nothing is trained' in lines) != found['what']['trains']
    assert not [n for n in found['notes'] if n.startswith('The name says')]
    if found['what']['trains']:
        clips = found['batch']['gpus'] * launch.clips_per_rank_and_step(cfg)
        assert found['batch']['clips'] == clips
        assert found['flops']['training'] > found['flops']['forward'] > 0


def test_command_line(capsys, tmp_path):
    path = ROOT / 'configs' / 'demo'
    config = str(
        path / 'motionmae_vit-tiny-p8_1xb32-8x1x1-40e_moving-shapes.py'
    )
    out = tmp_path / 'figures.json'
    args = [config, '--gpus', '4', '--videos', '640', '--json', str(out)]
    options = ['--cfg-options', 'train_cfg.max_epochs=3']
    assert tool.main([*args, *options]) == 0
    printed = capsys.readouterr().out
    assert '128 clips a step = 4 GPUs x 32 videos x 1 clips' in printed
    assert '5 an epoch, 15 in all, 1,920 clips' in printed
    found = json.loads(out.read_text())
    assert found['length']['clips'] == 1920
    assert found['tokens']['visible'] == 32
    assert tool.main(args) == 2
    assert 'figures.json' in capsys.readouterr().err


def test_mistakes(capsys):
    base = ROOT / 'configs' / '_base_' / 'default_runtime.py'
    for config, message in (
        ('no/such.py', "no config file 'no/such.py'"),
        (str(base), 'has no model'),
    ):
        assert tool.main([config]) == 2
        assert message in capsys.readouterr().err


def test_mistakes_in_configs():
    model = model_configs.our_config('shared', SETUP)
    cfg = as_config(model)
    cfg.train_dataloader.dataset.pipeline = []
    with pytest.raises(UsageError, match='no masking transform'):
        tool.describe(cfg)
    with pytest.raises(UsageError, match='4 videos are fewer than one batch'):
        tool.describe(as_config(model), 2, 4)
    model['neck']['depth'] = 0
    with pytest.raises(UsageError, match='cannot be built: .*depth 0'):
        tool.describe(as_config(model))


def test_notes():
    cfg = as_config(recogniser(), name='some_2xb7_data.py')
    notes = ' '.join(tool.describe(cfg)['notes'])
    assert 'The name says 7 clips on each GPU, the config has 6.' in notes
    assert 'model.backbone.type=FusedVisionTransformer' in notes
    assert 'How many videos there are is not known' in notes
    cfg = as_config(dict(type='NotHere', backbone=recogniser()['backbone']))
    found = tool.describe(cfg)
    assert found['notes'][0].startswith('NotHere is not installed')
    encoder = tool.describe(as_config(recogniser()))['parameters']['encoder']
    assert found['parameters']['total'] == encoder
    assert isinstance(read_network(cfg).model, nn.Module)
