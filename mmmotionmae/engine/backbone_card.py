# Copyright (c) MotionMAE contributors. All rights reserved.
"""Where an exported encoder comes from: a card to keep beside it."""

import hashlib
import os.path as osp
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.runner import Runner

from ..models import MotionMAE
from ..utils.provenance import circumstances, hash_file, unwrap


def make_backbone_card(
    runner: Runner, origin: list[dict[str, Any]], data: list[dict[str, Any]]
) -> dict[str, Any]:
    """What is known of a training, whatever its progress.

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
    """What a data set consists of, so that it can be told from others.

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
        for part in _single_datasets(dataset)
    ]


def _single_datasets(dataset: Any) -> Iterator[Any]:
    inner = getattr(dataset, 'datasets', None)
    if inner is None and hasattr(dataset, 'dataset'):
        inner = [dataset.dataset]
    if inner is None:
        yield dataset
    for part in inner or ():
        yield from _single_datasets(part)


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
