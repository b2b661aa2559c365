# Copyright (c) MotionMAE contributors. All rights reserved.
"""Who takes part in the model benchmark, by mode."""

import gc
from collections.abc import Sequence

import torch
from mmaction.registry import MODELS
from mmengine.registry import init_default_scope
from torch import Tensor

from mmmotionmae.apis import UsageError

from .clones.videomae import OfficialContender, build_model
from .memory import Memory, peak_of_tensors, peak_on_gpu, peak_resident
from .networks import (
    BACKBONES,
    OURS,
    Batch,
    Setup,
    backbone_config,
    draw_batch,
    our_config,
    our_flops,
    recogniser_config,
    recogniser_flops,
)
from .steps import Contender, StageTimer, fused_adamw, normalise

COMPILED = '+compiled'  # at the end of a key
WARM_UP = 2  # steps before memory is measured
CONTENDERS: dict[str, tuple[str, ...]] = dict(
    pretrain=('official', 'transformers', *OURS),
    finetune=('stock', 'fused'),
    features=('stock', 'fused', 'motionmae'),
)
# Whom the others are compared with.
REFERENCES: dict[str, tuple[str, ...]] = dict(
    pretrain=('official', 'transformers'),
    finetune=('stock',),
    features=('stock',),
)


class _TransformersContender(Contender):
    """`VideoMAEForPreTraining`; it normalises targets itself."""

    def forward(self, batch: Batch) -> Tensor:
        pixels = normalise(batch.frames).transpose(1, 2)
        with self.autocast():
            return self.network(pixels, batch.mask).loss


class _EngineContender(Contender):
    """A model of MMEngine's, stepped as its training loop does."""

    def forward(self, batch: Batch) -> Tensor:
        with self.autocast():
            data = self.model.data_preprocessor(batch.data, True)
            losses = self.network(**data, mode='loss')
        return self.model.parse_losses(losses)[0]


class _FeatureContender(Contender):
    """A backbone without gradients."""

    def forward(self, batch: Batch) -> Tensor:
        with self.autocast():
            return self.network(normalise(batch.frames))


def why_not(key: str, setup: Setup) -> str:
    """Why a contender cannot take part; nothing if it can."""
    if key == 'official' and setup.checkout is None:
        return 'needs --videomae-checkout'
    name = BACKBONES.get(key)
    if name and MODELS.get(name) is None:
        return f'needs {name}, which is not registered'
    return ''


def build(mode: str, key: str, setup: Setup) -> Contender:
    """Build a contender, ready to take steps.

    Args:
        mode: ``'pretrain'``, ``'finetune'`` or ``'features'``.
        key: One of its :data:`CONTENDERS`, or that with ``+compiled``.
        setup: What all have in common.

    Raises:
        UsageError: If something that it needs is not there.
    """
    plain = key.removesuffix(COMPILED)
    reason = why_not(plain, setup)
    if reason:
        raise UsageError(f'The contender {plain!r} {reason}.')
    if mode != 'pretrain':
        contender = _recogniser(mode, plain, setup)
    elif plain == 'official':
        contender = OfficialContender(
            'official VideoMAE',
            build_model(setup).to(setup.device),
            setup,
        )
    elif plain == 'transformers':
        contender = _transformers(setup)
    else:
        model = MODELS.build(our_config(plain, setup)).to(setup.device)
        contender = _EngineContender(
            f'ours, {plain.replace("-", " ")}',
            model,
            setup,
            fused_adamw(model.parameters()),
            lambda: our_flops(plain, setup).forward,
        )
    contender.model.train(mode != 'features')
    if key.endswith(COMPILED):
        contender.compile()
    return contender


def with_compiled(keys: Sequence[str]) -> list[str]:
    """Add the compiled variants of transformers and ours."""
    others = ('official', 'stock')
    return [
        variant
        for key in keys
        for variant in ((key,) if key in others else (key, f'{key}{COMPILED}'))
    ]


def _transformers(setup: Setup) -> Contender:
    """VideoMAE of `transformers`, with what it has by default."""
    from transformers import VideoMAEConfig, VideoMAEForPreTraining

    size = setup.size
    config = VideoMAEConfig(
        image_size=setup.img_size,
        patch_size=size.patch_size,
        num_frames=setup.num_frames,
        tubelet_size=size.tubelet_size,
        hidden_size=size.embed_dims,
        num_hidden_layers=size.depth,
        num_attention_heads=size.num_heads,
        intermediate_size=4 * size.embed_dims,
        decoder_hidden_size=size.decoder_dims,
        decoder_num_hidden_layers=size.decoder_depth,
        decoder_num_attention_heads=size.decoder_heads,
        decoder_intermediate_size=4 * size.decoder_dims,
        use_mean_pooling=False,  # a final norm instead, as in the paper
        attn_implementation=setup.hf_attention,
    )
    model = VideoMAEForPreTraining(config).to(setup.device)
    return _TransformersContender(
        f'transformers, {setup.hf_attention}',
        model,
        setup,
        torch.optim.AdamW(model.parameters()),
    )


def _recogniser(mode: str, key: str, setup: Setup) -> Contender:
    """A backbone of :data:`BACKBONES`, to fine-tune or for features."""
    name = BACKBONES[key]
    if mode == 'features':
        model = MODELS.build(backbone_config(name, setup)).to(setup.device)
        return _FeatureContender(
            name,
            model,
            setup,
            None,
            lambda: recogniser_flops(name, setup).encoder.total,
        )
    model = MODELS.build(recogniser_config(name, setup)).to(setup.device)
    optimizer = fused_adamw(model.parameters())
    return _EngineContender(
        name,
        model,
        setup,
        optimizer,
        lambda: recogniser_flops(name, setup).forward,
    )


def measure_memory(mode: str, key: str, setup: Setup) -> Memory:
    """Measure a contender in this process.

    Gradients of earlier steps are dropped first.

    Args:
        mode: What it is built for.
        key: The contender.
        setup: What all have in common.
    """
    init_default_scope('mmaction')
    if setup.num_threads:
        torch.set_num_threads(setup.num_threads)
    contender = build(mode, key, setup)
    batch = draw_batch(setup, seed=0)
    timer = StageTimer(setup.device)

    def step() -> None:
        contender.step(batch, timer)

    def clean() -> None:
        contender.model.zero_grad(set_to_none=True)
        gc.collect()

    for _ in range(WARM_UP):  # makes the optimiser's state
        step()
    clean()
    if setup.device == 'cuda':
        return Memory(peak_on_gpu(step))
    resident = peak_resident(step)
    clean()
    return Memory(peak_of_tensors(step), resident)
