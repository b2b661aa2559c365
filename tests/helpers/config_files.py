# Copyright (c) MotionMAE contributors. All rights reserved.
"""The training configs: found, read once, taken by their names, shrunk."""

import copy
import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from mmengine.config import Config, ConfigDict

CONFIGS = sorted(
    path
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)
# Without training; see test_vos_configs.py.
_SEGMENTATION = re.compile('label-propagation|copy-first-mask|grid-oracle')
TRAININGS = [p for p in CONFIGS if not _SEGMENTATION.search(p.stem)]
PRETRAININGS = [p for p in TRAININGS if re.match('motionmae|videomae', p.stem)]
# Networks of a size of their own, for a CPU.
TINY = ('demo', 'study')
# They need MMDetection and annotations of boxes.
DETECTIONS = [p for p in TRAININGS if p.parent.name == 'detection']
CLASSIFICATIONS = [
    p for p in TRAININGS if p not in PRETRAININGS and p not in DETECTIONS
]
# From weights of pre-training.
FINETUNINGS = [p for p in CLASSIFICATIONS if '_scratch_' not in p.stem]
BY_STEM = {path.stem: path for path in CONFIGS}

SIZE, PATCH, WIDTH, DEPTH, HEADS = 32, 16, 32, 2, 2
_VARIABLES = (
    'DATA_ROOT',
    'DEMO_DATA',
    'LISTS',
    'NUM_CLASSES',
    'SPLIT',
    'STUDY_CACHE',
    'STUDY_DATA',
    'VIDEOS',
)


@functools.cache
def _read(path: Path) -> Config:
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in _VARIABLES:
            monkeypatch.delenv(name, raising=False)
        return Config.fromfile(path)


def read(path: Path) -> Config:
    """A config of its own, as without any environment variable."""
    return copy.deepcopy(_read(path))


def flatten(value: Any, prefix: str = '') -> dict[str, Any]:
    """``{'a': [{'b': 1}]}`` to ``{'a.0.b': 1}``."""
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return {prefix[1:]: value}
    flat = {}
    for key, part in items:
        flat |= flatten(part, f'{prefix}.{key}')
    return flat or {prefix[1:]: value}


@dataclass(frozen=True)
class Name:
    """What ``{algorithm}_{module}_{training}_{data}`` says.

    Attributes:
        algorithm: All before the batch size: algorithm, module, kind.
        gpus: Processes.
        clips: Of one process, in one forward pass.
        accumulated: Batches of one step.
        sampling: Such as ``'16x4x1'`` or ``'u16'``.
        amp: Whether in mixed precision.
        epochs: Over clips in pre-training, else over videos.
        data: Without ``-rgb``.
    """

    algorithm: str
    gpus: int
    clips: int
    accumulated: int
    sampling: str
    amp: bool
    epochs: int
    data: str

    @classmethod
    def of(cls, stem: str) -> 'Name':
        found = re.fullmatch(
            r'(.+_(?:[a-z]+-)*)(\d+)xb(\d+)(?:-acc(\d+))?-(u\d+|\d+x\d+x\d+)'
            r'(-amp)?-(\d+)e(?:-adamw)?_(.+?)(?:-rgb)?',
            stem,
        )
        assert found, f'{stem} is not algorithm_module_training_data'
        algorithm, gpus, clips, accumulated, sampling, amp, epochs, data = (
            found.groups()
        )
        return cls(
            algorithm.rstrip('_-'),
            int(gpus),
            int(clips),
            int(accumulated or 1),
            sampling,
            bool(amp),
            int(epochs),
            data,
        )

    @property
    def batch_size(self) -> int:
        """Clips of one step of the optimiser."""
        return self.gpus * self.clips * self.accumulated


def shrink(cfg: Config, data: Path, depth: int = DEPTH) -> Config:
    """A tiny network on tiny clips of generated videos; the rest stays.

    Frames, masks, losses, augmentation, head, collation, repeats, optimiser
    and precision are those of the config.
    """
    backbone = cfg.model.backbone
    old = copy.deepcopy(backbone)
    backbone.pop('init_cfg', None)
    if 'neck' in cfg.model:
        cfg.model.neck.update(embed_dims=16, depth=1, num_heads=HEADS)
    parts = [cfg.model, cfg.optim_wrapper.get('paramwise_cfg')]
    for kind in ('train', 'val', 'test'):
        loader = cfg.get(f'{kind}_dataloader')
        if not loader:
            continue
        parts.append(loader)
        for key in ('persistent_workers', 'pin_memory', 'prefetch_factor'):
            loader.pop(key, None)
        loader.update(batch_size=2, num_workers=0)
        dataset = loader.dataset
        dataset.data_prefix = dict(video=str(data))
        if dataset.get('ann_file'):
            name = 'train' if kind == 'train' else 'val'
            dataset.ann_file = str(data / f'{name}.txt')
    for part in parts:
        _shrink(part, old, depth)
    return cfg


def _shrink(node: Any, old: ConfigDict, depth: int) -> None:
    """Change sizes everywhere below, given the old ``backbone``."""
    if isinstance(node, list | tuple):
        for item in node:
            _shrink(item, old, depth)
    if not isinstance(node, dict):
        return
    fixed = dict(img_size=SIZE, patch_size=PATCH)
    replaced = {
        'embed_dims': {old.embed_dims: WIDTH},
        'in_channels': {old.embed_dims: WIDTH},
        'num_heads': {old.num_heads: HEADS},
        'depth': {old.depth: depth},
        'num_layers': {old.depth: depth},
        'frozen_stages': {old.depth: depth},
    }

    def scaled(value: int) -> int:
        return value if value < 0 else round(value * SIZE / old.img_size)

    for key, value in node.items():
        if key in fixed:
            node[key] = fixed[key]
        elif key in replaced:
            node[key] = replaced[key].get(value, value)
        elif key in ('input_size', 'size', 'crop_size', 'scale'):
            many = isinstance(value, list | tuple)
            node[key] = tuple(map(scaled, value)) if many else scaled(value)
        else:
            _shrink(value, old, depth)


def each(paths, name='path'):
    """A test for each of the configs."""
    return pytest.mark.parametrize(name, paths, ids=lambda path: path.stem)


def size_of(path):
    """'small', 'base', 'large', 'huge' or 'giant'."""
    return re.search(r'vit-([a-z]+)-p\d', path.stem)[1]
