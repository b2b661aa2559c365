# Copyright (c) MotionMAE contributors. All rights reserved.
"""The official VideoMAE code (https://github.com/MCG-NJU/VideoMAE).

Its models are imported from a checkout. A step is that of its
`engine_for_pretraining.py`, with the optimiser of its `optim_factory.py`.
"""

import importlib
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from mmmotionmae.apis import UsageError

from ..networks import Batch, Setup
from ..steps import MEAN, STD, Contender, normalise
from .imports import importing_from, stand_in

FILES = ('modeling_finetune', 'modeling_pretrain')
NUM_FRAMES = 16  # its positions are made for no other number


def load_models(checkout: str) -> ModuleType:
    """Import `modeling_pretrain.py`; timm need not be there.

    Args:
        checkout: Folder of the official code.

    Raises:
        UsageError: If it is not there.
    """
    for name in FILES:
        file = Path(checkout) / f'{name}.py'
        if not file.is_file():
            raise UsageError(
                f'There is no file {str(file)!r}: --videomae-checkout takes '
                'a clone of https://github.com/MCG-NJU/VideoMAE.'
            )
    layers = dict(
        drop_path=_drop_path,
        to_2tuple=lambda x: x if isinstance(x, tuple) else (x, x),
        trunc_normal_=nn.init.trunc_normal_,
    )
    stand_ins = {
        **stand_in('timm.models.layers', **layers),
        **stand_in('timm.models.registry', register_model=lambda f: f),
    }
    with importing_from(checkout, FILES, stand_ins):
        return importlib.import_module('modeling_pretrain')


def _drop_path(*args: Any) -> Tensor:
    raise NotImplementedError('There is no stochastic depth here.')


def build_model(setup: Setup) -> nn.Module:
    """VideoMAE of these sizes.

    Raises:
        UsageError: If the code is not there, or cannot do it.
    """
    size = setup.size
    if setup.num_frames != NUM_FRAMES or size.tubelet_size != 2:
        raise UsageError(
            f'The official code takes {NUM_FRAMES} frames only, not '
            f'{setup.num_frames}.'
        )
    models = load_models(setup.checkout or '.')
    return models.PretrainVisionTransformer(
        img_size=setup.img_size,
        patch_size=size.patch_size,
        encoder_embed_dim=size.embed_dims,
        encoder_depth=size.depth,
        encoder_num_heads=size.num_heads,
        encoder_num_classes=0,
        decoder_num_classes=size.values,
        decoder_embed_dim=size.decoder_dims,
        decoder_depth=size.decoder_depth,
        decoder_num_heads=size.decoder_heads,
        mlp_ratio=4,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        tubelet_size=size.tubelet_size,
    )


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Its groups: no decay of vectors and biases, nor of what it names."""
    spared: set[str] = getattr(model, 'no_weight_decay', set)()
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        decays = parameter.ndim > 1 and not name.endswith('.bias')
        groups[decays and name not in spared].append(parameter)
    return [
        dict(params=parameters, weight_decay=0.05 * decays)
        for decays, parameters in groups.items()
    ]


class OfficialContender(Contender):
    """The official code: float16 with a gradient scaler on a GPU."""

    def __init__(self, name: str, model: nn.Module, setup: Setup) -> None:
        optimizer = torch.optim.AdamW(
            parameter_groups(model),
            lr=1.5e-4 * setup.batch_size / 256,
            weight_decay=0.0,
            eps=1e-8,
        )
        super().__init__(name, model, setup, optimizer)
        self.scaler = torch.amp.GradScaler(
            setup.device, enabled=setup.device == 'cuda'
        )
        self.criterion = nn.MSELoss()

    def forward(self, batch: Batch) -> Tensor:
        """See the base class. Its loader normalises; here the step does."""
        videos = normalise(batch.frames)
        with torch.no_grad():
            labels = self.labels(videos, batch.mask)
        with self.autocast(torch.float16):
            outputs = self.network(videos, batch.mask)
            loss = self.criterion(input=outputs, target=labels)
        loss.item()  # it stops if this is not finite
        return loss

    def labels(self, videos: Tensor, mask: Tensor) -> Tensor:
        """What is to be predicted.

        Args:
            videos: (B, 3, T, H, W), normalised.
            mask: (B, L), bool, True = masked.

        Returns:
            (B, M, K), values in the order (p0, p1, p2, C).
        """
        mean = torch.as_tensor(MEAN).to(videos.device)
        std = torch.as_tensor(STD).to(videos.device)
        mean, std = mean[None, :, None, None, None], std[:, None, None, None]
        patch = self.setup.size.patch_size
        tubelets = rearrange(
            videos * std + mean,
            'b c (t p0) (h p1) (w p2) -> b (t h w) (p0 p1 p2) c',
            p0=2,
            p1=patch,
            p2=patch,
        )
        centred = tubelets - tubelets.mean(dim=-2, keepdim=True)
        var = tubelets.var(dim=-2, unbiased=True, keepdim=True)
        tokens = rearrange(
            centred / (var.sqrt() + 1e-6), 'b n p c -> b n (p c)'
        )
        return tokens[mask].reshape(len(tokens), -1, tokens.size(-1))

    def backward(self, loss: Tensor) -> None:
        """See the base class."""
        self.scaler.scale(loss).backward()

    def update(self) -> None:
        """See the base class. It logs the norm of the gradient."""
        assert self.optimizer is not None
        self.scaler.unscale_(self.optimizer)
        norms = [
            torch.norm(parameter.grad.detach(), 2.0)
            for parameter in self.model.parameters()
            if parameter.grad is not None
        ]
        torch.norm(torch.stack(norms), 2.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
