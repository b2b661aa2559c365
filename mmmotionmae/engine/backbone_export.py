# Copyright (c) MotionMAE contributors. All rights reserved.
"""Encoders in files of their own, with a card of where each comes from."""

import hashlib
import json
import os.path as osp
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import Runner
from torch import Tensor

from ..checkpoints.files import write_safetensors
from ..datasets.wrappers import single_datasets
from ..models import MotionMAE
from ..utils.files import complete_file, set_aside, write_json
from ..utils.provenance import circumstances, hash_file, unwrap
from ..utils.sharding import whole

FORMATS = ('pth', 'safetensors')
PREFIX = 'backbone.'

# What wrappers put into names: DDP of each part, FSDP, activation
# checkpointing, torch.compile.
_WRAPPERS = re.compile(
    r'^module\.|(?<=^backbone\.)module\.'
    r'|_fsdp_wrapped_module\.|_checkpoint_wrapped_module\.|_orig_mod\.'
)


def encoder_tensors(
    state_dict: Mapping[str, Any], keep: bool = True
) -> dict[str, Tensor]:
    """The tensors of the encoder, as MMAction2 names them.

    Args:
        state_dict: Of a model with a ``backbone``, also of a wrapped one. If
            its tensors are spread over processes, all of them call this.
        keep: Whether this process needs them, or only has parts of them.

    Returns:
        Copies on the CPU, sorted by name, all names with the prefix
        ``backbone.``. Empty if there are none, or if no process can have
        them whole.
    """
    tensors = {}
    for key, value in state_dict.items():
        name = _WRAPPERS.sub('', key)
        if name.startswith(PREFIX) and isinstance(value, Tensor):
            value = whole(value)
            if not value.numel():
                return {}  # a placeholder, of ZeRO 3
            if not keep:
                continue
            # Copied: a view would be saved with all that it is a view of.
            copy = torch.empty_like(
                value, device='cpu', memory_format=torch.contiguous_format
            )
            tensors[name] = copy.copy_(value.detach())
    return dict(sorted(tensors.items()))


def write_backbone(
    path: Path, tensors: dict[str, Tensor], card: dict[str, Any]
) -> list[tuple[Path, Path]]:
    """Write an encoder and, beside it, its card (``.json``).

    Both appear once they are complete. A file that is there is replaced if
    its card has the same ``run``; else it is renamed.

    Args:
        path: Ends in one of ``FORMATS``.
        tensors: See :func:`encoder_tensors`.
        card: Plain data with the entry ``run``; also written into the file.

    Returns:
        Files of other runs: where each was, and where it is now.
    """
    beside = path.with_suffix('.json')
    renamed = []
    if _run_of(beside) != card['run']:
        renamed = [
            (file, set_aside(file)) for file in (path, beside) if file.exists()
        ]
    if path.suffix == '.safetensors':
        write_safetensors(tensors, path, dict(meta=card))
    else:
        # Opened here: a full disk is an OSError only then.
        with complete_file(path) as temporary, temporary.open('wb') as file:
            torch.save(dict(state_dict=tensors, meta=card), file)
    write_json(beside, card)
    return renamed


def _run_of(card: Path) -> str | None:
    """The run that a card is of; None if there is no card of ours."""
    try:
        content = json.loads(card.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    return content.get('run') if isinstance(content, dict) else None


def make_backbone_card(
    runner: Runner, origin: list[dict[str, Any]], data: list[dict[str, Any]]
) -> dict[str, Any]:
    """Provenance of the encoder of a training, whatever its progress.

    Args:
        runner: Of the training.
        origin: What its weights started from, see :func:`find_origin`.
        data: See :func:`describe_data`.

    Returns:
        A dict with ``training`` (``'pre-training'``, ``'fine-tuning'`` or
        ``'training from scratch'``), ``origin``, ``config`` (its name),
        ``model`` (its part of the config), ``data``, ``normalization`` (mean
        and std of the pixels, as the model is given them; None: there is
        none), ``sampling`` (the transforms that choose frames), ``seed``,
        ``versions`` and ``date``.
    """
    model, cfg = unwrap(runner.model), runner.cfg
    if isinstance(model, MotionMAE):
        training = 'pre-training'
    else:
        training = 'fine-tuning' if origin else 'training from scratch'
    loader = cfg.get('train_dataloader')
    return dict(
        training=training,
        origin=origin,
        config=Path(cfg.filename).stem if cfg.filename else None,
        model=cfg.get('model'),
        data=data,
        normalization=_describe_normalization(model),
        sampling=[
            transform
            for transform in _dicts_with_type(loader)
            if 'Sample' in transform['type']
            and not transform['type'].endswith(('Sampler', 'SeedSample'))
        ],
        **circumstances(runner.seed),
    )


def find_origin(runner: Runner) -> list[dict[str, Any]]:
    """The files that the weights start from.

    Returns:
        For ``load_from`` and each ``init_cfg`` of type ``Pretrained`` the
        ``path`` and its ``sha256`` (None if it is no file on this machine).
    """
    cfg = runner.cfg
    paths = [
        init['checkpoint']
        for init in _dicts_with_type(cfg.get('model'))
        if init['type'] == 'Pretrained' and init.get('checkpoint')
    ]
    if cfg.get('load_from') and not cfg.get('resume'):
        paths.append(cfg.load_from)
    return [dict(path=path, sha256=hash_file(path)) for path in paths]


def describe_data(dataset: Any) -> list[dict[str, Any]]:
    """Describe a data set so that it can be told from others.

    Args:
        dataset: MMEngine's, also wrapped or concatenated.

    Returns:
        For each data set inside: ``type``, ``num_videos``, ``list`` (path of
        the annotation file, or None), its ``sha256``, and ``folder``. Without
        a list, the hash is of the names found in the folder, a line each.
    """
    return [
        dict(
            type=type(part).__name__,
            num_videos=len(part),
            list=getattr(part, 'ann_file', None) or None,
            sha256=_hash_list(part),
            folder=_folder_of(part),
        )
        for part in single_datasets(dataset)
    ]


def _folder_of(dataset: Any) -> str | None:
    prefix = getattr(dataset, 'data_prefix', None) or {}
    return prefix.get('img', prefix.get('video'))


def _hash_list(dataset: Any) -> str | None:
    """SHA-256 of the list, or of the names of the files."""
    ann_file = getattr(dataset, 'ann_file', None)
    if ann_file:
        return hash_file(ann_file)
    if not hasattr(dataset, 'name_of'):
        return None
    digest, folder = hashlib.sha256(), _folder_of(dataset) or '.'
    for index in range(len(dataset)):
        name = osp.relpath(dataset.name_of(index), folder)
        digest.update(f'{name}\n'.encode(errors='surrogateescape'))
    return digest.hexdigest()


def _describe_normalization(model: Any) -> dict[str, list[float]] | None:
    preprocessor: Any = getattr(model, 'data_preprocessor', None)
    if getattr(preprocessor, 'mean', None) is None:
        return None
    return dict(
        mean=preprocessor.mean.flatten().tolist(),
        std=preprocessor.std.flatten().tolist(),
    )


def _dicts_with_type(value: Any) -> Iterator[dict[str, Any]]:
    """All dicts, at any depth of a config, that have a ``type`` by name."""
    if isinstance(value, dict):
        if isinstance(value.get('type'), str):
            yield value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _dicts_with_type(item)
