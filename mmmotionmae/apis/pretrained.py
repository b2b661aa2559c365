# Copyright (c) MotionMAE contributors. All rights reserved.
"""Models of checkpoints: from a file alone, or with its config."""

import copy
import logging
import os
import os.path as osp
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from mmaction.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from torch import nn

from ..checkpoints import (
    Hints,
    build_model,
    read_checkpoint,
    refuse_missing_checkpoint,
    resize_checkpoint,
)
from ..utils.errors import CheckpointError, UsageError
from .features.encoder import Encoder, find_encoder
from .runner import load_config


def load_pretrained(
    path: str | Path,
    part: str | None = None,
    num_frames: int | None = None,
    img_size: int | None = None,
    tubelet_size: int | None = None,
    num_heads: int | None = None,
    decoder_num_heads: int | None = None,
    drop_cls_token: bool = False,
    trained_num_frames: int | None = None,
    trained_img_size: int | None = None,
    device: str = 'cpu',
) -> nn.Module:
    """Load a model from a checkpoint of any known format.

    No config is needed, and nothing in the file is run: the network is built
    from the shapes of the tensors. Formats: MMAction2 and this package,
    official VideoMAE and VideoMAE V2, MAE-ST, Hugging Face.

    Args:
        path: A file (.pth, .safetensors, ...), or a folder: of Hugging Face,
            or the work dir of a training, whose last checkpoint is taken.
        part: ``'encoder'``: the encoder alone. Defaults to all that there is.
        num_frames: Frames of a clip. If the file holds another number, its
            positions are interpolated in time.
        img_size: Height and width of a frame, in pixels; likewise in space.
        tubelet_size: Frames of a tubelet; see :func:`resize_checkpoint`.
        num_heads: Attention heads, where the file does not tell and the width
            is not that of a model in use.
        decoder_num_heads: Those of the decoder, likewise.
        drop_cls_token: Leave the class token of a MAE-ST file behind, which
            changes its features.
        trained_num_frames: Frames of the clips that it was trained with,
            where the file does not tell. Defaults to 16.
        trained_img_size: Their height and width, likewise. Defaults to 224.
        device: Where to put the model.

    Returns:
        In evaluation mode. For a pre-trained model a :class:`MotionMAE`
        (VideoMAE is one that predicts pixels alone), for a classifier
        MMAction2's ``Recognizer3D``. For an encoder, or with
        ``part='encoder'``, :class:`MotionMAEViT`, which gives tokens
        (B, L, D); or, where it averages them for a classifier,
        :class:`FusedVisionTransformer`, which gives (B, D).

    Raises:
        CheckpointError: If the file is damaged, could run code, is of no
            known format, or a tensor is missing or left over.
        FileNotFoundError: If it is not there.

    Examples:
        >>> import os, tempfile, torch
        >>> from mmaction.registry import MODELS
        >>> from mmmotionmae.apis import load_pretrained
        >>> encoder = dict(
        ...     type='MotionMAEViT', num_frames=2, embed_dims=192, depth=1,
        ...     num_heads=3)
        >>> model = MODELS.build(dict(type='MotionMAE', backbone=encoder))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = os.path.join(folder, 'epoch_1.pth')
        ...     torch.save(dict(state_dict=model.state_dict()), file)
        ...     vit = load_pretrained(file, part='encoder', img_size=32)
        >>> vit(torch.rand(1, 3, 2, 32, 32)).shape
        torch.Size([1, 4, 192])
    """
    checkpoint = read_checkpoint(
        path,
        num_heads=num_heads,
        decoder_num_heads=decoder_num_heads,
        trained_num_frames=trained_num_frames,
        trained_img_size=trained_img_size,
        encoder_only=part == 'encoder',
        drop_cls_token=drop_cls_token,
    )
    checkpoint = resize_checkpoint(
        checkpoint,
        num_frames=num_frames,
        img_size=img_size,
        tubelet_size=tubelet_size,
    )
    return build_model(checkpoint, part).to(device)


CONFIG_EXTENSIONS = ('.py', '.json', '.yaml', '.yml')

ModelSource = str | os.PathLike[str] | dict | nn.Module | None


def load_model(
    model: ModelSource,
    weights: str | os.PathLike[str] | None = None,
    options: dict[str, Any] | None = None,
    scope: str = 'mmaction',
) -> tuple[nn.Module, ConfigDict]:
    """Build or load a model.

    Args:
        model: A config file, a config (with ``model``) or the settings of a
            model; a checkpoint file or folder of any format that
            :func:`load_pretrained` reads; or a model. None: ``weights`` is
            the checkpoint.
        weights: The checkpoint of a config's model, written by MMEngine.
            None: the model is random, which is said in the log.
        options: For :func:`load_pretrained`, such as ``num_frames``,
            ``img_size``, ``num_heads``.
        scope: Where names in a config are looked up.

    Returns:
        The model, in evaluation mode, and its config, empty if there is none.

    Raises:
        UsageError: If there is no such file, or the arguments do not go
            together.
        CheckpointError: If the checkpoint cannot be read or does not fit.
    """
    if model is None:
        if weights is None:
            raise UsageError('Neither a model nor weights are given.')
        model, weights = weights, None
    if isinstance(model, (str, os.PathLike)):
        path = os.fspath(model)
        if path.lower().endswith(CONFIG_EXTENSIONS):
            model = load_config(path)
        elif '://' not in path and not osp.exists(path):
            raise UsageError(
                f'There is no config or checkpoint {path!r}; a config ends '
                f'in {", ".join(CONFIG_EXTENSIONS)}.'
            )
        else:
            _refuse(weights, 'weights', f'the checkpoint {path!r}')
            return load_pretrained(path, **options or {}), ConfigDict()
    _refuse(options, 'load_options', 'a model that is built from a config')
    if isinstance(model, nn.Module):
        _refuse(weights, 'weights', 'a model that is built already')
        return model.eval(), ConfigDict()
    if not isinstance(model, (dict, Config)):
        raise UsageError(
            f'model is a {type(model).__name__}; it must be the path of a '
            'config or checkpoint, a config, or a model.'
        )
    cfg = copy.deepcopy(model)
    if 'model' not in cfg:
        cfg = dict(model=dict(cfg))
    if not isinstance(cfg, Config):
        cfg = ConfigDict(cfg)
    return _build(cfg, weights, scope), cfg


def _refuse(value: Any, name: str, what: str) -> None:
    if value:
        raise UsageError(f'{name} make no sense with {what}.')


def _build(
    cfg: Config | ConfigDict,
    weights: str | os.PathLike[str] | None,
    scope: str,
) -> nn.Module:
    if 'type' not in cfg.model:
        raise UsageError('The config names no model: it has no model.type.')
    with DefaultScope.overwrite_default_scope(scope):
        module = MODELS.build(cfg.model)
    if weights is None:
        print_log(
            'No weights are given: the model is random, and so is what it '
            'predicts.',
            logger='current',
            level=logging.WARNING,
        )
        return module.eval()
    path = os.fspath(weights)
    refuse_missing_checkpoint(path)
    try:
        load_checkpoint(module, path, map_location='cpu', strict=True)
    except RuntimeError as error:
        if isinstance(error, CheckpointError):
            raise
        lines = [line.strip() for line in str(error).splitlines()]
        shown = next((line for line in lines[1:] if line), lines[0])
        raise CheckpointError(
            f'{path} does not fit the model of the config: {shown[:300]}'
        ) from error
    return module.eval()


def encoder_of(
    module: nn.Module,
    model: ModelSource,
    options: dict[str, Any] | None = None,
) -> Encoder:
    """The encoder of a model, and how its clips are normalised.

    Args:
        module: The model that :func:`load_model` returns.
        model: What it was made of. An encoder alone does not know how clips
            are normalised; if it comes from a checkpoint, that does.
        options: As in :func:`load_model`.

    Raises:
        UsageError: If it is no ``VisionTransformer`` of MMAction2.
    """
    encoder = find_encoder(module)
    if encoder.vit is not module or not isinstance(model, (str, os.PathLike)):
        return encoder
    path = os.fspath(model)
    if path.lower().endswith(CONFIG_EXTENSIONS):
        return encoder
    options = options or {}
    hints = {field.name for field in fields(Hints)} - {'encoder_only'}
    checkpoint = read_checkpoint(
        path,
        encoder_only=True,
        **{name: options[name] for name in hints if name in options},
    )
    return replace(
        encoder, mean=tuple(checkpoint.mean), std=tuple(checkpoint.std)
    )
