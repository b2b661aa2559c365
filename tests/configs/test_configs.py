# Copyright (c) MotionMAE contributors. All rights reserved.
"""Every config is what its name says, and no more."""

import ast
import math
import re
from types import SimpleNamespace

import pytest
import torch
from helpers.config_files import (
    BY_STEM,
    CLASSIFICATIONS,
    CONFIGS,
    DETECTIONS,
    FINETUNINGS,
    PRETRAININGS,
    TINY,
    TRAININGS,
    Name,
    each,
    flatten,
    read,
    size_of,
)
from mmaction.registry import MODELS
from mmengine.optim import OptimWrapper
from torch import nn

from mmmotionmae.apis.batches import clips_per_rank_and_step
from mmmotionmae.apis.cost import schedule
from mmmotionmae.engine.loops import resumable_train_loops


def sampling_of(pipeline):
    """How a pipeline samples frames, in the words of names."""
    # Of several ways to sample, the longest clips, which come last.
    steps = [
        t.transforms[-1][0] if t.type == 'RandomChoice' else t
        for t in pipeline
    ]
    found = [
        f'u{t.clip_len}'
        if t.type == 'UniformSample'
        else f'{t.clip_len}x{t.frame_interval}x{t.get("num_clips", 1)}'
        for t in steps
        if t.type in ('SampleFrames', 'UniformSample', 'SampleAVAFrames')
    ]
    assert len(found) == 1
    return found[0]


@each(CONFIGS)
def test_config_says_what_it_is(path):
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert text is not None
    for word in ('esult', 'ardware', 'Command'):
        assert word in text, f'{path.name} does not state its {word}'


def test_every_config_changes_something():
    seen = {}
    for path in CONFIGS:
        settings = repr(sorted(flatten(read(path).to_dict()).items()))
        assert settings not in seen, f'{path.stem} is {seen[settings]}'
        seen[settings] = path.stem


def test_which_configs_train():
    assert {p for p in CONFIGS if 'train_cfg' in read(p)} == set(TRAININGS)


@each(TRAININGS)
def test_training_can_be_interrupted(path):
    cfg = read(path)
    assert cfg.train_cfg.type == 'ResumableEpochLoop'
    hooks = {hook['type'] for hook in cfg.default_hooks.values()}
    assert hooks >= {'PreemptionHook', 'ResumeHook', 'TimedCheckpointHook'}
    assert cfg.env_cfg.dist_cfg.timeout == 600


ACCUMULATING = [p for p in TRAININGS if Name.of(p.stem).accumulated > 1]


@each(ACCUMULATING)
def test_accumulation_ends_with_the_epoch(path):
    """With as many batches as the data set has; each step is of one mean."""
    cfg, name = read(path), Name.of(path.stem)
    counts = cfg.optim_wrapper.accumulative_counts
    batch = schedule.batch_of(cfg, name.gpus)
    videos = schedule.videos_of(schedule.data_of(cfg))
    batches = videos // name.gpus // batch.videos
    length = schedule.length_of(cfg, batch, videos)
    assert length.steps_per_epoch == math.ceil(batches / counts)
    batches = 3 * counts + batches % counts  # an epoch like it
    weight = nn.Parameter(torch.zeros(()))
    runner = SimpleNamespace(
        optim_wrapper=OptimWrapper(
            torch.optim.SGD([weight], lr=1.0), accumulative_counts=counts
        )
    )
    steps = 0
    for _ in range(2):
        resumable_train_loops._count_batches(runner, 0, batches)
        for _ in range(batches):
            runner.optim_wrapper.update_params(-weight)
        steps += math.ceil(batches / counts)
        assert runner.optim_wrapper.should_update()
        assert weight.item() == pytest.approx(steps)


@each(TRAININGS)
def test_config_does_what_its_name_says(path):
    cfg, name = read(path), Name.of(path.stem)
    assert cfg.default_scope == 'mmaction'
    assert cfg.custom_imports == dict(
        imports=['mmmotionmae'], allow_failed_imports=False
    )
    loader, pipeline = cfg.train_dataloader, cfg.train_dataloader.dataset
    repeats, pipeline = pipeline.get('num_repeats', 1), pipeline.pipeline
    # The batch.
    accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
    assert loader.batch_size * repeats == name.clips
    assert accumulated == name.accumulated
    assert name.gpus * clips_per_rank_and_step(cfg) == name.batch_size
    assert cfg.auto_scale_lr == dict(base_batch_size=name.batch_size)
    # Its clips are laid side by side; pseudo_collate could not.
    collation = loader.get('collate_fn') or dict(type='pseudo_collate')
    assert collation['type'] == (
        'pseudo_collate' if repeats == 1 else 'repeat_pseudo_collate'
    )
    # Epochs are those of clips in pre-training.
    pretraining = path in PRETRAININGS
    epochs = cfg.train_cfg.max_epochs * (repeats if pretraining else 1)
    assert epochs == name.epochs
    assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_epochs
    # Frames.
    frames = cfg.model.backbone.num_frames
    assert sampling_of(pipeline) == name.sampling
    assert frames == int(name.sampling.lstrip('u').split('x')[0])
    for split in ('val', 'test'):
        if cfg.get(f'{split}_dataloader'):
            sampling = sampling_of(cfg[f'{split}_dataloader'].dataset.pipeline)
            assert (
                sampling.rpartition('x')[0] == name.sampling.rpartition('x')[0]
            ), f'{split} has {sampling}'
    # Masks.
    masks = [t for t in pipeline if t.type.endswith('Masking')]
    assert len(masks) == pretraining
    for mask in masks:
        assert mask.patch_size == cfg.model.backbone.patch_size
        assert mask.tubelet_size == cfg.model.backbone.tubelet_size
    # Precision.
    wrapper = cfg.optim_wrapper
    assert (wrapper.get('type') == 'AmpOptimWrapper') == name.amp
    if name.amp:
        assert wrapper.dtype == 'bfloat16'
        assert wrapper.loss_scale == dict(enabled=False)
    # The data.
    data, _, share = name.data.partition('-')
    files = [loader.dataset.get('ann_file') or 'train.txt']
    folders = [loader.dataset.data_prefix.get('video', '')]
    if not pretraining:
        files.append(cfg.test_dataloader.dataset.ann_file)
        folders.append(
            cfg.test_dataloader.dataset.data_prefix.get('video', '')
        )
    if path.parent.name not in (*TINY, 'detection'):
        for text in (*files, *folders):
            assert text.startswith(f'data/{data}/') or data == 'videos'
        suffix = '_split1' if data in ('ucf101', 'hmdb51') else ''
        suffix += f'_{share}' if share else ''
        assert files[0].endswith(f'train{suffix}.txt')


@each([p for p in TRAININGS if 'moving-shapes' in p.stem])
def test_demo_configs_find_what_the_demo_wrote(path):
    """`make demo` puts its videos beside its results, in work_dirs/demo."""
    dataset = read(path).train_dataloader.dataset
    assert dataset.data_prefix.video == 'work_dirs/demo_data'


# -------------------------------------------------------------------- sizes

# Encoder: width, depth, heads, parameters. The README files of MMAction2's
# videomae and videomaev2 give 22, 87 and 305 million for S, B and L with a
# classifier; for ViT-H there is the closed form only. VideoMAE V2 gives 1013
# for ViT-g, that is with 710 classes. Decoder (VideoMAE's modeling_pretrain.py
# and scripts, VideoMAE V2's for ViT-g): width, depth, heads.
SIZES = {
    'small': ((384, 12, 6), 22.0e6, (192, 4, 3)),
    'base': ((768, 12, 12), 86.2e6, (384, 4, 6)),
    'large': ((1024, 24, 16), 303.9e6, (512, 12, 8)),
    'huge': ((1280, 32, 16), 630.8e6, (640, 12, 8)),
    'giant': ((1408, 40, 16), 1013e6 - 710 * 1409, (512, 4, 8)),
}
PATCH = dict(giant=14)
HIDDEN = dict(giant=6144)  # of the MLPs; else four times the width
REAL = [p for p in TRAININGS if p.parent.name not in TINY]


@each(REAL)
def test_size_is_that_of_the_name(path):
    cfg = read(path)
    encoder, _, decoder = SIZES[size_of(path)]

    def numbers(part):
        return part.embed_dims, part.depth, part.num_heads

    assert numbers(cfg.model.backbone) == encoder
    patch = PATCH.get(size_of(path), 16)
    assert cfg.model.backbone.patch_size == patch
    assert f'-p{patch}' in path.stem
    if path in PRETRAININGS:
        assert numbers(cfg.model.neck) == decoder
    if path in CLASSIFICATIONS:
        assert cfg.model.cls_head.in_channels == encoder[0]
    if path.parent.name == 'probing':
        assert cfg.model.backbone.frozen_stages == encoder[1]
    layers = cfg.optim_wrapper.get('paramwise_cfg', {}).get('num_layers')
    assert layers in (None, encoder[1])


def count_parameters(backbone, **changes):
    encoder = MODELS.build({**backbone, **changes})
    return sum(parameter.numel() for parameter in encoder.parameters())


@pytest.mark.parametrize('size', SIZES)
def test_number_of_parameters(size):
    path = next(p for p in PRETRAININGS if p in REAL and size_of(p) == size)
    backbone = read(path).model.backbone
    one, two = (count_parameters(backbone, depth=depth) for depth in (1, 2))
    (width, depth, _), published, _ = SIZES[size]
    count = one + (depth - 1) * (two - one)
    if size == 'small':
        assert count == count_parameters(backbone)
    # Tubelets; weights of query, key, value, projection and MLP, biases of 2
    # (query, value) + 1 + 1 and of the MLP, two norms; the last norm.
    hidden = HIDDEN.get(size, 4 * width)
    block = 4 * width**2 + 2 * width * hidden + 4 * width + hidden
    block += 2 * 2 * width
    tubelet = 3 * 2 * PATCH.get(size, 16) ** 2
    assert count == (tubelet + 1) * width + depth * block + 2 * width
    if size == 'giant':
        assert count == 1_011_610_752
        assert round(count + 710 * (width + 1), -6) == 1_013_000_000
    assert count == pytest.approx(published, rel=0.01)


# -------------------------------------------------------------- differences

CHECKPOINT = 'model.backbone.init_cfg.checkpoint'
ABLATIONS = {
    'absolute': {'model.data_preprocessor.frame_difference.mode': 'absolute'},
    'flow': {
        'model.targets.pixel.type': 'PixelTarget',
        'model.targets.flow.type': 'FlowTarget',
        'model.targets.flow.norm': 'clip',
        'model.head.motion_weight': 0.0,
        **{
            f'{pipeline}.{key}': value
            for pipeline in (
                'train_pipeline',
                'train_dataloader.dataset.pipeline',
            )
            for key, value in {
                '7.type': 'OpticalFlow',
                '7.method': 'dis',
                '7.preset': 'fast',
                '7.algorithm_keys.0': None,
                '8.type': 'PackActionInputs',
                '8.algorithm_keys.0': 'mask',
                '8.algorithm_keys.1': 'flow',
            }.items()
        },
    },
    'hog': {
        'model.targets.hog.type': 'HOGTarget',
        'model.targets.hog.num_bins': 9,
        'model.targets.hog.cell_size': 8,
        'model.targets.hog.frames': 'all',
        'model.head.pixel_weight': 0.0,
        'model.head.motion_weight': 0.0,
    },
    'independent': {'model.neck.sharing': 'independent'},
    'motion-only': {'model.head.pixel_weight': 0.0},
    'tubelet-difference': {
        'model.targets.difference.type': 'TubeletDifferenceTarget',
        'model.head.pixel_weight': 0.0,
        'model.head.motion_weight': 0.0,
    },
    'random': {
        'train_pipeline.6.type': 'RandomMasking',
        'train_dataloader.dataset.pipeline.6.type': 'RandomMasking',
    },
}


def differences(path, other):
    """Settings of the first that the second has not, or otherwise."""
    ours, theirs = (
        flatten(read(path).to_dict()),
        flatten(read(other).to_dict()),
    )
    return {
        key: ours.get(key)
        for key in ours.keys() | theirs.keys()
        if ours.get(key) != theirs.get(key)
    }


def size_settings(model, other):
    """What differs between networks of two sizes, both known to be right."""
    keys = {'model.backbone.embed_dims', 'model.backbone.num_heads'}
    deeper = model.backbone.depth != other.backbone.depth
    if 'neck' in model:
        keys |= {'model.neck.embed_dims', 'model.neck.num_heads'}
        keys |= (
            {'model.backbone.depth', 'model.neck.depth'} if deeper else set()
        )
        return keys
    keys.add('model.cls_head.in_channels')
    if deeper:
        keys.add('model.backbone.depth')
        keys.add('optim_wrapper.paramwise_cfg.num_layers')
        if other.backbone.type == 'VisionTransformer':
            keys.add('model.backbone.type')  # would not fit into a GPU
    return keys


def settings_that_differ(path, other):
    """What the difference of two names stands for."""
    new, old = Name.of(path.stem), Name.of(other.stem)
    pretraining = path in PRETRAININGS
    keys = set()
    if new.batch_size != old.batch_size:
        keys |= {'auto_scale_lr.base_batch_size', 'optim_wrapper.optimizer.lr'}
        keys.add('batch_size' if pretraining else 'num_videos')
    if new.clips != old.clips:
        keys.add('train_dataloader.batch_size')
    if new.accumulated != old.accumulated:
        keys.add('optim_wrapper.accumulative_counts')
    if new.epochs != old.epochs:
        keys |= {'max_epochs', 'train_cfg.max_epochs', 'param_scheduler.1.end'}
        keys |= {'epochs'} if pretraining else set()
    if new.data != old.data:
        keys.add('train_dataloader.dataset.ann_file')
        keys |= (
            {'data_root', 'train_dataloader.dataset.data_prefix.video'}
            if new.data == 'videos'
            else {'train_cfg.val_interval'}  # a share of the labels
        )
    if new.algorithm != old.algorithm and not pretraining:
        keys.add(CHECKPOINT)
    if size_of(path) != size_of(other):
        keys |= size_settings(read(path).model, read(other).model)
    return keys


def inherited():
    """Pairs of configs of which one is the only base of the other."""
    for path in REAL:
        tree = ast.parse(path.read_text())
        bases = next(
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and node.targets[0].id == '_base_'
        )
        if len(bases) == 1 and path not in DETECTIONS:
            yield path, (path.parent / bases[0]).resolve()


VARIANTS = [
    pair
    for pair in inherited()
    if pair[0].parent.name in ('motionmae', 'recognition')
]


@pytest.mark.parametrize(
    ('path', 'base'), VARIANTS, ids=[path.stem for path, _ in VARIANTS]
)
def test_variants_differ_in_what_they_are_named_for(path, base):
    ablation = path.stem.partition('_vit-base-p16-')[2].partition('_')[0]
    found = differences(path, base)
    if ablation:
        assert found == ABLATIONS[ablation]
    else:
        assert set(found) == settings_that_differ(path, base)
        assert found


def test_all_ablations_are_there():
    stems = ' '.join(path.stem for path, _ in VARIANTS)
    assert all(f'-p16-{ablation}_' in stems for ablation in ABLATIONS)


@each([p for p in PRETRAININGS if p.stem.startswith('videomae')])
def test_videomae_is_motionmae_without_motion(path):
    stem = path.stem.replace('videomae', 'motionmae', 1)
    assert differences(path, BY_STEM[stem]) == {
        'model.head.motion_weight': 0.0
    }


@each([p for p in FINETUNINGS if '_videomae-' in p.stem])
def test_finetuning_of_videomae_is_that_of_motionmae(path):
    other = BY_STEM[path.stem.replace('_videomae-', '_motionmae-')]
    assert set(differences(path, other)) == {CHECKPOINT}


@pytest.mark.parametrize('size', SIZES)
def test_transfer_differs_in_the_first_weights(size):
    """On SSv2, from Kinetics-400 or from SSv2: one recipe."""
    paths = [
        path
        for path in FINETUNINGS
        if re.match(rf'vit-{size}-p\d+_motionmae-(k400|sthv2)-pre_', path.stem)
        and path.parent.name == 'recognition'
        and Name.of(path.stem).data == 'sthv2'
    ]
    assert len(paths) == 2
    assert set(differences(*paths)) == {CHECKPOINT}


@pytest.mark.parametrize('algorithm', ['motionmae', 'videomae'])
@pytest.mark.parametrize('data', ['sthv2', 'kinetics400'])
def test_longer_pretraining_is_only_longer(algorithm, data):
    paths = [
        path
        for path in PRETRAININGS
        if path.stem.startswith(f'{algorithm}_vit-base-p16_32xb64-')
        and Name.of(path.stem).data == data
    ]
    assert len(paths) == 3
    for path in paths[1:]:
        assert set(differences(path, paths[0])) == {
            *('epochs', 'max_epochs', 'train_cfg.max_epochs'),
            'param_scheduler.1.end',
        }
