# Copyright (c) MotionMAE contributors. All rights reserved.
"""A model for export: clips in, one tensor out.

Shapes: B clips, C channels, T frames, H W size, L tokens, D width, K classes.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from mmaction.models.backbones.vit_mae import VisionTransformer
from torch import Tensor, nn

from ...models.backbones import video_vit_of
from ...models.utils.vit_features import (
    pool_tokens,
    read_blocks,
    trained_grid,
    tubelet_of,
)
from ...utils.choices import OF_CLASSIFIER, OUTPUTS
from ...utils.imagenet import IMAGENET_MEAN, IMAGENET_STD


class ClipModel(nn.Module):
    """A network with one input, clips of one view, and one output.

    It shares the weights of ``model``, which it puts into evaluation mode.

    ``'scores'`` and ``'logits'`` are of one clip each. The test views of a
    video go in as so many clips; the mean of their scores is what MMAction2
    reports with ``average_clips='prob'``, that of their logits with
    ``'score'``.

    ``'pooled'`` and ``'tokens'`` come after the last norm of the encoder:
    ``norm`` before the mean in a pre-trained one, ``fc_norm`` after it in a
    fine-tuned one, whose ``'pooled'`` is what its classifier sees.

    All tokens are visible. Encoding with a mask is a matter of pre-training
    and not exported.

    Args:
        model: A recognizer of MMAction2, a :class:`MotionMAE` (of which the
            encoder is taken) or an encoder: ``VisionTransformer`` or one
            derived from it.
        output: One of :data:`OUTPUTS`. Defaults to ``'scores'`` of a
            classifier, ``'pooled'`` of anything else.
        uint8: Whether clips come as uint8 in [0, 255] and are normalised
            here. Else they are float32, normalised by the caller.
        mean: Of each channel, in [0, 255] units. Defaults to that of the
            data preprocessor of ``model``; ImageNet's if it has none.
        std: Likewise.

    Raises:
        ValueError: If the encoder is no ``VisionTransformer``, or the model
            has no such output.

    Examples:
        >>> from mmmotionmae.models import MotionMAEViT
        >>> vit = MotionMAEViT(
        ...     img_size=32, patch_size=8, embed_dims=16, depth=1,
        ...     num_heads=2, num_frames=8)
        >>> model = ClipModel(vit, 'tokens', uint8=True)
        >>> model(torch.zeros(2, 3, 8, 32, 32, dtype=torch.uint8)).shape
        torch.Size([2, 64, 16])
    """

    network: Any  # recognizer or encoder
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        output: str | None = None,
        uint8: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        encoder = video_vit_of(model)
        if encoder is None:
            other = getattr(model, 'backbone', model)
            raise ValueError(
                'Only models with a VisionTransformer can be exported; this '
                f'one has a {type(other).__name__}.'
            )
        # MMAction2's own word for "can classify".
        classifies = getattr(model, 'with_cls_head', False)
        if output is None:
            output = 'scores' if classifies else 'pooled'
        if output not in OUTPUTS:
            raise ValueError(
                f'output must be one of {", ".join(OUTPUTS)}, not {output!r}.'
            )
        if output in OF_CLASSIFIER and not classifies:
            raise ValueError(
                f'{type(model).__name__} is no classifier and has no '
                f'{output}: take pooled or tokens, or a fine-tuned model.'
            )
        own_mean, own_std = _normalisation(model)
        self.network = model if output in OF_CLASSIFIER else encoder
        self.output = output
        self.uint8 = uint8
        for name, values in (
            ('mean', own_mean if mean is None else mean),
            ('std', own_std if std is None else std),
        ):
            tensor = torch.tensor(values, dtype=torch.float32)
            self.register_buffer(
                name, tensor.view(-1, 1, 1, 1), persistent=False
            )
        self.to(encoder.pos_embed.device).eval()

    @property
    def encoder(self) -> VisionTransformer:
        """VisionTransformer: The encoder."""
        return getattr(self.network, 'backbone', self.network)

    @property
    def dtype(self) -> torch.dtype:
        """torch.dtype: What the network computes in."""
        return self.encoder.patch_embed.projection.weight.dtype

    @property
    def num_classes(self) -> int | None:
        """K, of a classifier."""
        if self.output not in OF_CLASSIFIER:
            return None
        return self.network.cls_head.num_classes

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(int, int, int, int): C, T, H, W."""
        frames, size = tubelet_of(self.encoder)
        t, h, w = trained_grid(self.encoder)
        channels = self.encoder.patch_embed.projection.in_channels
        return channels, t * frames, h * size, w * size

    def with_dtype(self, dtype: torch.dtype) -> 'ClipModel':
        """Itself, or a copy, computing in another type.

        Input, normalisation, softmax and output stay as they are: uint8 or
        float32.
        """
        if self.dtype == dtype:
            return self
        other = copy.deepcopy(self)
        other.network.to(dtype)
        return other

    def random_clips(self, batch_size: int, seed: int = 0) -> Tensor:
        """Noise of the right shape and type, the same on every call."""
        generator = torch.Generator().manual_seed(seed)
        shape = (batch_size, *self.clip_shape)
        if self.uint8:
            clips = torch.randint(
                256, shape, dtype=torch.uint8, generator=generator
            )
        else:
            clips = torch.randn(shape, generator=generator)
        return clips.to(self.mean.device)

    def forward(self, clips: Tensor) -> Tensor:
        """Encode, or classify.

        Args:
            clips: (B, C, T, H, W), RGB; uint8 in [0, 255] or normalised
                float32.

        Returns:
            What :data:`OUTPUTS` says, float32.
        """
        x = (clips.float() - self.mean) / self.std if self.uint8 else clips
        x = x.to(self.dtype)
        if self.output in OF_CLASSIFIER:
            # Recognizers take (B, views, C, T, H, W).
            logits, _ = self.network.extract_feat(x[:, None], stage='head')
            logits = logits.float()
            return logits.softmax(-1) if self.output == 'scores' else logits
        last = len(self.encoder.blocks) - 1
        blocks, grid = read_blocks(self.encoder, x, (last,))
        pooling = 'mean' if self.output == 'pooled' else 'none'
        features = pool_tokens(self.encoder, blocks[last], grid, pooling)
        if self.output == 'tokens':
            features = features.flatten(1, 3)
        return features.float()

    def describe(self) -> dict[str, Any]:
        """Describe the model to someone who has the exported file alone.

        Mean and std are in [0, 255] units.
        """
        channels, frames, height, width = self.clip_shape
        return dict(
            input_layout='NCTHW',
            input_type='uint8' if self.uint8 else 'float32',
            color_order='RGB',
            channels=channels,
            num_frames=frames,
            height=height,
            width=width,
            mean=_short(self.mean),
            std=_short(self.std),
            normalized_by='model' if self.uint8 else 'caller',
            output=self.output,
            weights_type=str(self.dtype).removeprefix('torch.'),
        )


def _short(values: Tensor) -> list[float]:
    """Without digits that float32 does not have."""
    return [float(f'{value:.7g}') for value in values.flatten().tolist()]


def _normalisation(
    model: nn.Module,
) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and std of a model's data preprocessor, or ImageNet's."""
    preprocessor = getattr(model, 'data_preprocessor', None)
    if preprocessor is None:
        return IMAGENET_MEAN, IMAGENET_STD
    if not hasattr(preprocessor, 'mean'):  # it does not normalise
        return (0.0,), (1.0,)
    return (
        preprocessor.mean.flatten().tolist(),
        preprocessor.std.flatten().tolist(),
    )
