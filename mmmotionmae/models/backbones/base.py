# Copyright (c) MotionMAE contributors. All rights reserved.
"""The contract of an encoder that can be pre-trained.

Shapes: B clips, C channels, T frames, H W size; L = t*h*w tokens, V of them
visible, D width.
"""

from typing import Any, Protocol, runtime_checkable

from mmaction.models.backbones.vit_mae import VisionTransformer
from torch import Tensor, nn

from ...utils.errors import UsageTypeError
from ..utils.tubelet import Grid, TokenSplit


@runtime_checkable
class VideoEncoder(Protocol):
    """Contract of the backbone of a :class:`MotionMAE`, a ``torch.nn.Module``.

    The frames of its clips have one size; each clip is cut into a grid of
    tubelets, which are its tokens, ordered (t, h, w), row-major.

    Attributes:
        patch_size: Height and width of a tubelet, in pixels.
        tubelet_size: Frames of a tubelet.
        token_grid: (t, h, w).
        num_tokens: L = t*h*w.
        embed_dims: Width D of the latent.
        in_channels: Channels C of a frame.
    """

    patch_size: int
    tubelet_size: int
    token_grid: Grid
    num_tokens: int
    embed_dims: int
    in_channels: int

    def forward(self, clip: Tensor, split: TokenSplit | None = None) -> Tensor:
        """Encode the visible tokens.

        Args:
            clip: (B, C, T, H, W), normalised, float.
            split: Which tokens are visible; None: all.

        Returns:
            The latent: (B, V, D), in token order. Nothing of a token that is
            not visible may be in it.
        """


def check_encoder(encoder: Any) -> Any:
    """Make sure that an encoder keeps the contract.

    Args:
        encoder: A backbone.

    Returns:
        The same.

    Raises:
        TypeError: If not. It names what is missing.
    """
    names = (*VideoEncoder.__annotations__, 'forward')
    missing = [name for name in names if not hasattr(encoder, name)]
    if missing:
        raise UsageTypeError(
            f'{type(encoder).__name__} cannot be the backbone of a '
            f'MotionMAE: it has no {", no ".join(missing)}. See '
            'mmmotionmae.models.VideoEncoder for what it must have; '
            'MotionMAEViT has it.'
        )
    return encoder


def locate_encoder(model: nn.Module) -> tuple[str, nn.Module] | None:
    """Find the video encoder of a model, or that it is one itself.

    Args:
        model: A model without wrappers.

    Returns:
        Its name among the modules, ``''`` if it is the model, and the
        encoder: the first ``VisionTransformer`` of MMAction2 or
        :class:`VideoEncoder`. None without one.
    """
    for name, module in model.named_modules():
        kinds: Any = (VisionTransformer, VideoEncoder)
        if isinstance(module, kinds):
            return name, module
    return None


def video_vit_of(model: nn.Module) -> VisionTransformer | None:
    """Find the video ViT of a model, whose blocks can be read one by one.

    Args:
        model: As in :func:`locate_encoder`.

    Returns:
        Its encoder, if it is MMAction2's ``VisionTransformer`` or derived
        from it (:class:`MotionMAEViT`); else None.
    """
    _, encoder = locate_encoder(model) or ('', None)
    return encoder if isinstance(encoder, VisionTransformer) else None
