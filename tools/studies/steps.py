# Copyright (c) MotionMAE contributors. All rights reserved.
"""What the cells of a study do, each by the tools that a user would call.

Shapes: B clips, C channels, T frames, H W size, D width.
"""

import json
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import test
import torch
import torch.nn.functional as F
import train
from mmaction.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint, set_random_seed
from torch import Tensor
from torch.utils.data import DataLoader

from mmmotionmae.checkpoints import read_checkpoint
from mmmotionmae.cli.splits import last_checkpoint
from mmmotionmae.datasets.annotation import read_video_list
from mmmotionmae.evaluation import score_reconstruction
from mmmotionmae.evaluation.functional.linear_probe import linear_probe
from mmmotionmae.utils.errors import UsageError
from mmmotionmae.utils.provenance import hash_tensors
from mmmotionmae.utils.seeding import SampleIndex

from .cells import Cell
from .plan import clusters

Batch = dict[str, Any]

CURVE_POINTS = 40
SCALARS = ('loss', 'lr', 'r2_', 'loss_')


def run_cell(cell: Cell, root: Path) -> dict[str, Any]:
    """Do what a cell says.

    Args:
        cell: The cell.
        root: Folder of the study.

    Returns:
        Its result, for JSON.
    """
    folder = cell.folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    return STEPS[cell.kind](cell, root)


def _pretrain(cell: Cell, root: Path) -> dict[str, Any]:
    run = _train(cell, root, cell.cfg)
    scalars = list(_scalars(run))
    every = max(1, len(scalars) // CURVE_POINTS)
    curve = scalars[every - 1 :: every]
    return dict(
        curve=[
            dict(step=row['step'])
            | {
                key: round(value, 5)
                for key, value in row.items()
                if key.startswith(SCALARS)
            }
            for row in curve
        ],
        weights=_hash_of(last_checkpoint(run)),
    )


def _finetune(cell: Cell, root: Path) -> dict[str, Any]:
    cfg = _with_encoder(cell, root)
    run = _train(cell, root, cfg, '--no-validate')
    checkpoint = last_checkpoint(run)
    dump = run / 'scores.pkl'
    test.test(
        test.parse_args(
            [
                *(str(run / 'cell.py'), str(checkpoint)),
                *('--work-dir', str(run / 'test')),
                *('--dump', str(dump), '--overwrite'),
            ]
        )
    )
    with open(dump, 'rb') as file:
        samples = pickle.load(file)  # written just now
    chosen = [int(sample['pred_score'].argmax()) for sample in samples]
    return _answers(cell, chosen) | dict(weights=_hash_of(checkpoint))


def _linear(cell: Cell, root: Path) -> dict[str, Any]:
    """Linear probe of the mean of all tokens, see :func:`linear_probe`."""
    set_random_seed(cell.seed)
    with DefaultScope.overwrite_default_scope('mmaction'):
        model = MODELS.build(_with_encoder(cell, root).model)
    model.init_weights()
    model.to(get_device()).eval()

    def encode(batch: Batch) -> Tensor:
        inputs = model.data_preprocessor(batch, False)['inputs']
        return model.backbone(inputs.flatten(0, 1)).cpu()

    return _probe(cell, encode)


def _differences(cell: Cell, root: Path) -> dict[str, Any]:
    """The same classifier on frame differences, without any network.

    Signed and absolute differences of adjacent frames of the grey clip,
    averaged to 4 x 8 x 8.
    """
    del root

    def encode(batch: Batch) -> Tensor:
        grey = torch.cat(batch['inputs']).float().mean(1)  # (B, T, H, W)
        difference = grey.diff(dim=1)
        both = torch.stack([difference, difference.abs()], 1)
        return F.adaptive_avg_pool3d(both, (4, 8, 8)).flatten(1)

    return _probe(cell, encode)


def _probe(cell: Cell, encode: Callable[[Batch], Tensor]) -> dict[str, Any]:
    features, labels = {}, {}
    for part in ('train', 'test'):
        dataset = dict(cell.cfg.test_dataloader.dataset)
        ann_file = cell.cfg[f'{part}_dataloader'].dataset.ann_file
        with DefaultScope.overwrite_default_scope('mmaction'):
            videos = DATASETS.build(dict(dataset, ann_file=ann_file))
        loader = DataLoader(videos, 64, collate_fn=pseudo_collate)
        with torch.inference_mode():
            features[part] = torch.cat(
                [encode(batch) for batch in loader]
            ).numpy()
        labels[part] = np.array(
            [label for _, label in read_video_list(ann_file)]
        )
    number = cell.cfg.model.cls_head.num_classes
    if not cell.settings['leave_one_cluster_out']:
        scores = linear_probe(
            features['train'], labels['train'], features['test'], number
        ).scores
        return _answers(cell, scores.argmax(1).tolist())
    every = np.concatenate([features['train'], features['test']])
    truth = np.concatenate([labels['train'], labels['test']])
    groups = np.array(
        clusters(_videos(cell, 'train', 'test'), cell.settings['cluster'])
    )
    chosen = np.zeros(len(truth), int)
    for group in np.unique(groups):
        inside = groups == group
        scores = linear_probe(
            every[~inside], truth[~inside], every[inside], number
        ).scores
        chosen[inside] = scores.argmax(1)
    return _answers(cell, chosen.tolist(), ('train', 'test'))


def _answers(
    cell: Cell, chosen: Sequence[int], parts: Sequence[str] = ('test',)
) -> dict[str, Any]:
    """Which videos are recognised, and what depends on each other."""
    videos = _videos(cell, *parts)
    if lost := len(videos) - len(chosen):
        raise UsageError(
            f'{lost} of {len(videos)} test videos cannot be read; the '
            'warnings of its log name them. Leave them out of the list.'
        )
    hits = [
        int(c == label) for c, (_, label) in zip(chosen, videos, strict=True)
    ]
    return dict(
        top1=sum(hits) / len(hits),
        hits=''.join(map(str, hits)),
        labels=' '.join(str(label) for _, label in videos),
        clusters=' '.join(clusters(videos, cell.settings['cluster'])),
    )


def _videos(cell: Cell, *parts: str) -> list[tuple[str, int]]:
    return [
        (line.rpartition(' ')[0], int(line.rpartition(' ')[2]))
        for part in parts
        for line in cell.lists[part].splitlines()
    ]


def _vos(cell: Cell, root: Path) -> dict[str, Any]:
    run = cell.folder(root) / 'run'
    checkpoint = 'none'
    if cell.parent is not None:
        checkpoint = str(_checkpoint_of(cell.parent, root))
    test.test(
        test.parse_args(
            [
                str(_write_config(cell.cfg, run)),
                checkpoint,
                *('--work-dir', str(run)),
                *('--cfg-options', f'randomness.seed={cell.seed}'),
            ]
        )
    )
    (path,) = run.glob('**/results.json')
    document = json.loads(path.read_text())
    return dict(
        metrics=document['metrics'],
        objects={
            f'{sequence["sequence"]}_{item["id"]}': [
                item['J']['mean'],
                item['F']['mean'],
            ]
            for sequence in document['sequences']
            for item in sequence['objects']
        },
    )


def _reconstruct(cell: Cell, root: Path) -> dict[str, Any]:
    """Explained variance R² of clips that were not trained on.

    Clips and masks are drawn once for each video, the same for all models.
    Under each kind of mask what interpolation in time explains is beside it,
    see :func:`interpolate_target`.
    """
    assert cell.parent is not None
    with DefaultScope.overwrite_default_scope('mmaction'):
        model = MODELS.build(cell.cfg.model)
    load_checkpoint(model, str(_checkpoint_of(cell.parent, root)), 'cpu')
    model.to(get_device())
    return {
        mask: {
            key: round(value, 5)
            for key, value in score_reconstruction(
                model, _masked_batches(cell, mask), oracle=True
            ).items()
        }
        for mask in cell.settings['masks']
    }


def _masked_batches(cell: Cell, mask: str) -> Iterator[Batch]:
    cfg = cell.cfg.train_dataloader.dataset.copy()
    cfg.pipeline = [
        dict(step, type=mask) if step.type.endswith('Masking') else step
        for step in cfg.pipeline
    ]
    with DefaultScope.overwrite_default_scope('mmaction'):
        dataset = DATASETS.build(cfg)
    number = min(cell.settings['num_videos'], len(dataset))
    for start in range(0, number, 64):
        indices = range(start, min(number, start + 64))
        yield pseudo_collate(
            [dataset[SampleIndex(index, seed=index)] for index in indices]
        )


def _train(cell: Cell, root: Path, cfg: Config, *flags: str) -> Path:
    """Train in the folder ``run`` of the cell, or go on there."""
    run = cell.folder(root) / 'run'
    config = _write_config(cfg, run)
    argv = [str(config), '--work-dir', str(run), '--seed', str(cell.seed)]
    argv.append('--resume' if any(run.glob('epoch_*.pth')) else '--overwrite')
    train.train(train.parse_args([*argv, *flags]))
    last = last_checkpoint(run)
    for path in run.glob('epoch_*.pth'):
        if path.name != last.name:
            path.unlink()
    return run


def _write_config(cfg: Config, run: Path) -> Path:
    run.mkdir(parents=True, exist_ok=True)
    path = run / 'cell.py'
    cfg.dump(str(path))
    return path


def _with_encoder(cell: Cell, root: Path) -> Config:
    """Its config, with the encoder of the parent as first weights."""
    cfg = Config(cell.cfg.to_dict())
    if cell.parent is not None:
        cfg.model.backbone.init_cfg = dict(
            type='Pretrained',
            checkpoint=str(_checkpoint_of(cell.parent, root)),
            prefix='backbone.',
        )
    return cfg


def _checkpoint_of(cell: Cell, root: Path) -> Path:
    return Path(os.path.abspath(last_checkpoint(cell.folder(root) / 'run')))


def _hash_of(checkpoint: Path) -> str:
    return hash_tensors(read_checkpoint(str(checkpoint)).tensors)[:16]


def _scalars(run: Path) -> Iterator[dict[str, float]]:
    """What a training has logged, also before it was interrupted."""
    rows: dict[int, dict[str, float]] = {}
    for path in sorted(run.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            if 'loss' in row:
                rows[row['step']] = row
    for step in sorted(rows):
        yield rows[step]


STEPS: dict[str, Callable[[Cell, Path], dict[str, Any]]] = dict(
    pretrain=_pretrain,
    reconstruct=_reconstruct,
    linear=_linear,
    finetune=_finetune,
    vos=_vos,
    differences=_differences,
)
