# Copyright (c) MotionMAE contributors. All rights reserved.
"""The network of a config, built without memory for its weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from torch import nn
from torch.overrides import TorchFunctionMode

from mmmotionmae.apis import UsageError


class _ValuesOnCPU(TorchFunctionMode):
    """Tensors made of values stay tensors with values: somebody reads them.

    Stock blocks their drop path rates, distributions their parameters.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if func in (torch.linspace, torch.tensor, torch.as_tensor):
            options['device'] = 'cpu'
        return func(*args, **options)


def build_on_meta(cfg: Config) -> Any:
    """Build the model of a config on PyTorch's meta device.

    Returns:
        The model in training mode, with shapes, but no values. Where it is
        of a package that is not installed, its backbone alone, in an
        ``nn.Module``.

    Raises:
        UsageError: If there is none, or it cannot be built.
    """
    if not cfg.get('model'):
        raise UsageError(
            f'{cfg.filename} has no model: name a config that could be '
            'trained or tested, not a part of one.'
        )
    kind = cfg.model.type
    known = not isinstance(kind, str) or MODELS.get(kind) is not None
    try:
        with torch.device('meta'), _ValuesOnCPU():
            if known or not cfg.model.get('backbone'):
                return MODELS.build(cfg.model).train()
            model = nn.Module()
            model.backbone = MODELS.build(cfg.model.backbone)
            return model.train()
    except Exception as error:
        raise UsageError(
            f'The model of {cfg.filename} cannot be built: '
            f'{type(error).__name__}: {error}'
        ) from error
