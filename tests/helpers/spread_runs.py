# Copyright (c) MotionMAE contributors. All rights reserved.
"""Small trainings of one process, of DDP and of FSDP2, to be compared."""

import json
import os
import uuid
from pathlib import Path

import torch
from mmengine.dist import all_gather_object, get_world_size, is_main_process
from mmengine.hooks import Hook

from .ranks import run_ranks
from .resumed_runs import FINETUNE, PRETRAIN, TRAIN

BATCH = 12  # of all processes together
TINY = dict(embed_dims=32, depth=2, num_heads=2)
CONFIGS = dict(pretrain=PRETRAIN, finetune=FINETUNE)
# Layer decay, averaged weights, clipping, accumulation, best checkpoints.
FULL = f"""
_base_ = ['{FINETUNE}']
model = dict(backbone=dict(drop_path_rate=0.0))
optim_wrapper = dict(
    constructor='LearningRateDecayOptimizerConstructor',
    accumulative_counts=2,
    clip_grad=dict(max_norm=0.5),
    paramwise_cfg=dict(
        _delete_=True, decay_rate=0.5, decay_type='layer_wise', num_layers=2
    ),
)
custom_hooks = [
    dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.3)
]
train_cfg = dict(val_interval=1)
default_hooks = dict(checkpoint=dict(save_best='acc/top1'))
"""


class Losses(Hook):
    """Keeps the mean loss of all processes in each iteration."""

    def __init__(self):
        self.values = []

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        values = all_gather_object(outputs['loss'].item())
        self.values.append(sum(values) / len(values))


def sizes_of(task):
    """Options that make the model of a config small."""
    sizes = [f'model.backbone.{key}={value}' for key, value in TINY.items()]
    if task == 'pretrain':
        return [*sizes, 'model.neck.embed_dims=16', 'model.neck.depth=1']
    return [*sizes, f'model.cls_head.in_channels={TINY["embed_dims"]}']


def train(task, work_dir, *options, flags=(), epochs=2, hooks=()):
    """One training, in this process or in each of a group; its losses."""
    ranks = get_world_size()
    losses = Losses()
    config = CONFIGS.get(task, Path('full.py'))
    argv = [str(config), '--work-dir', str(work_dir), *flags]
    argv += ['--launcher', 'pytorch'] if 'RANK' in os.environ else []
    argv += [] if '--validate' in flags else ['--no-validate']
    argv = [text for text in argv if text != '--validate']
    argv += ['--cfg-options', *sizes_of(task)]
    argv += [
        f'experiment_name={uuid.uuid4().hex}',
        f'train_cfg.max_epochs={epochs}',
        f'train_dataloader.batch_size={BATCH // ranks}',
        'train_dataloader.drop_last=True',
        'default_hooks.checkpoint.interval=1',
        'default_hooks.checkpoint.max_keep_ckpts=-1',
        'default_hooks.checkpoint.save_optimizer=True',
        'log_level=ERROR',
        *options,
    ]
    TRAIN.train(TRAIN.parse_args(argv), [losses, *hooks])
    if is_main_process():
        Path(work_dir, 'losses.json').write_text(json.dumps(losses.values))
    return losses.values


def train_in(ranks, task, work_dir, *options, flags=(), expected=0, **kwargs):
    """A training in so many processes; 0: in one without a group."""
    Path('full.py').write_text(FULL)

    def run():
        if not ranks:
            torch.distributed.destroy_process_group()
            os.environ.pop('RANK')
        train(task, work_dir, *options, flags=flags, **kwargs)

    run_ranks(max(ranks, 1), run, expected=expected)
    if not expected:
        return json.loads(Path(work_dir, 'losses.json').read_text())
    return []


def tensors_of(path, prefix=''):
    """All tensors of a checkpoint, by their place in it."""
    flat = {}

    def walk(place, value):
        if isinstance(value, dict):
            for key, item in value.items():
                walk(f'{place}.{key}' if place else str(key), item)
        elif isinstance(value, torch.Tensor):
            flat[place] = value

    content = torch.load(path, weights_only=True)
    content.pop('message_hub', None)
    walk('', content)
    return {k: v for k, v in flat.items() if k.startswith(prefix)}


def largest_difference(path, other, prefix=''):
    """The largest difference between the tensors of two checkpoints."""
    one, two = tensors_of(path, prefix), tensors_of(other, prefix)
    assert one.keys() == two.keys() and len(one) > 10
    return max(float((one[k].double() - two[k]).abs().max()) for k in one)
