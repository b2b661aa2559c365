# Copyright (c) MotionMAE contributors. All rights reserved.
"""A checkpoint, once read: the same for every format."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from mmaction.models.backbones.vit_mae import get_sinusoid_encoding
from torch import Tensor

from ..utils.imagenet import IMAGENET_MEAN, IMAGENET_STD

# Of :class:`GradientBalance`: state of a training, no weights.
BALANCE = 'head.balance.'


@dataclass(frozen=True)
class EncoderSpec:
    """Arguments that MMAction2's ``VisionTransformer`` needs.

    Attributes:
        embed_dims: Width D.
        depth: Number of blocks.
        num_heads: Number of attention heads.
        mlp_ratio: Hidden width of the MLP over D.
        patch_size: Height and width of a tubelet, in pixels.
        tubelet_size: Frames of a tubelet.
        in_channels: Channels of a frame.
        img_size: Height and width of a frame, in pixels.
        num_frames: Frames of a clip.
        qkv_bias: Whether queries and values have a bias.
        learnable_positions: Whether the positions are anything but the
            sine-cosine table of this size.
        layer_scale: Whether the residual branches are scaled (``gamma_1``,
            ``gamma_2``).
        mean_pooling: Whether the tokens are averaged, then normalised
            (``fc_norm``); else each is normalised (``norm``).
        norm_eps: Epsilon of all layer norms.
    """

    embed_dims: int
    depth: int
    num_heads: int
    mlp_ratio: float
    patch_size: int
    tubelet_size: int
    in_channels: int
    img_size: int
    num_frames: int
    qkv_bias: bool
    learnable_positions: bool
    layer_scale: bool
    mean_pooling: bool
    norm_eps: float = 1e-6

    @property
    def grid(self) -> tuple[int, int, int]:
        """(int, int, int): The token grid (t, h, w)."""
        side = self.img_size // self.patch_size
        return (self.num_frames // self.tubelet_size, side, side)

    @property
    def num_tokens(self) -> int:
        """int: L, the tokens of one clip."""
        t, h, w = self.grid
        return t * h * w

    def to_config(self, type: str = 'VisionTransformer') -> dict[str, Any]:
        """The config of such an encoder.

        Args:
            type: ``'VisionTransformer'``, ``'FusedVisionTransformer'`` or
                ``'MotionMAEViT'``, which has no mean pooling.
        """
        config = dict(
            type=type,
            img_size=self.img_size,
            patch_size=self.patch_size,
            in_channels=self.in_channels,
            embed_dims=self.embed_dims,
            depth=self.depth,
            num_heads=self.num_heads,
            mlp_ratio=self.mlp_ratio,
            qkv_bias=self.qkv_bias,
            norm_cfg=dict(type='LN', eps=self.norm_eps),
            # Any value above 0 makes the parameters, which are then loaded.
            init_values=1.0 if self.layer_scale else 0.0,
            use_learnable_pos_emb=self.learnable_positions,
            num_frames=self.num_frames,
            tubelet_size=self.tubelet_size,
        )
        if type != 'MotionMAEViT':
            config['use_mean_pooling'] = self.mean_pooling
        return config


@dataclass(frozen=True)
class DecoderSpec:
    """Decoder and head of a pre-trained model.

    Attributes:
        embed_dims: Width E.
        depth: Number of blocks.
        num_heads: Number of attention heads.
        targets: For each target its config, see :class:`MotionMAE`.
        mlp_ratio: Hidden width of the MLP over E.
        sharing: See :class:`MotionMAEDecoder`.
        attention: Likewise.
    """

    embed_dims: int
    depth: int
    num_heads: int
    targets: dict[str, dict[str, Any]]
    mlp_ratio: float = 4.0
    sharing: str = 'shared'
    attention: str = 'self'


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file or folder of any format.

    Attributes:
        kind: ``'pretraining'`` (encoder, decoder, head), ``'classifier'``
            (encoder, linear layer) or ``'encoder'``.
        tensors: Under the names of MMAction2 and :class:`MotionMAE`:
            ``backbone.``, ``neck.``, ``head.``, ``cls_head.fc_cls.``. The
            tables of positions are always among them.
        encoder: Shape of the encoder.
        decoder: Shape of the decoder; None if it is not pre-training's.
        classes: Names of the classes, if they are known.
        mean: Of each channel, in [0, 255] units, for normalisation.
        std: Likewise.
        source: File or folder.
        format: Name of the format that it was read in.
    """

    kind: str
    tensors: dict[str, Tensor]
    encoder: EncoderSpec
    decoder: DecoderSpec | None = None
    classes: tuple[str, ...] | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    source: str = ''
    format: str = ''

    @property
    def num_classes(self) -> int | None:
        """Int or None: Classes of a classifier."""
        weight = self.tensors.get('cls_head.fc_cls.weight')
        return None if weight is None else len(weight)


@dataclass(frozen=True)
class RawCheckpoint:
    """Content of a file or folder, under its own names.

    Attributes:
        tensors: The weights.
        settings: What lies beside them: ``config.json`` of a folder, the
            arguments of the run in official files, ``meta`` of MMEngine's.
        source: File or folder.
    """

    tensors: dict[str, Tensor]
    settings: dict[str, Any]
    source: str


@dataclass(frozen=True)
class Hints:
    """Load options: what a user may add where a file does not tell.

    Attributes:
        num_heads: Attention heads of the encoder.
        decoder_num_heads: Those of the decoder.
        trained_num_frames: Frames of a clip.
        trained_img_size: Height and width of a frame, in pixels.
        encoder_only: Leave decoder and heads behind.
        drop_cls_token: Leave a class token behind, which changes what the
            encoder computes.
    """

    num_heads: int | None = None
    decoder_num_heads: int | None = None
    trained_num_frames: int | None = None
    trained_img_size: int | None = None
    encoder_only: bool = False
    drop_cls_token: bool = False


def position_table(num_tokens: int, dims: int) -> Tensor:
    """The sine-cosine table (1, L, D), float32, of VideoMAE and MMAction2."""
    return get_sinusoid_encoding(num_tokens, dims)


def is_position_table(positions: Tensor) -> bool:
    """Tell whether (1, L, D) is the sine-cosine table of its size."""
    if positions.ndim != 3:
        return False
    table = position_table(*positions.shape[1:])
    return bool((positions.cpu().float() - table).abs().max() < 1e-6)


def model_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The config of the model that a checkpoint is of.

    Returns:
        For ``'pretraining'`` a :class:`MotionMAE`, for ``'classifier'`` a
        ``Recognizer3D`` with a ``TimeSformerHead``; for ``'encoder'`` only
        the keys ``backbone`` and ``data_preprocessor``.
    """
    spec, decoder = checkpoint.encoder, checkpoint.decoder
    normalisation = dict(mean=[*checkpoint.mean], std=[*checkpoint.std])
    if decoder is not None:
        return dict(
            type='MotionMAE',
            data_preprocessor=dict(
                type='MotionMAEDataPreprocessor', **normalisation
            ),
            backbone=spec.to_config('MotionMAEViT'),
            neck=dict(
                type='MotionMAEDecoder',
                sharing=decoder.sharing,
                attention=decoder.attention,
                embed_dims=decoder.embed_dims,
                depth=decoder.depth,
                num_heads=decoder.num_heads,
                mlp_ratio=decoder.mlp_ratio,
            ),
            head=dict(type='MotionMAEHead'),
            targets={name: {**cfg} for name, cfg in decoder.targets.items()},
        )
    config: dict[str, Any] = dict(
        data_preprocessor=dict(
            type='ActionDataPreprocessor',
            format_shape='NCTHW',
            **normalisation,
        ),
        backbone=spec.to_config(
            'FusedVisionTransformer' if spec.mean_pooling else 'MotionMAEViT'
        ),
    )
    if checkpoint.kind == 'classifier':
        config |= dict(
            type='Recognizer3D',
            backbone=spec.to_config('FusedVisionTransformer'),
            cls_head=dict(
                type='TimeSformerHead',
                num_classes=checkpoint.num_classes,
                in_channels=spec.embed_dims,
                average_clips='prob',
            ),
        )
    return config


def list_names(
    names: Collection[str], total: int | None = None, limit: int = 8
) -> str:
    """Number of tensors, and their names: ``"3 of 9 tensors (a, b, c)"``.

    Args:
        names: The tensors.
        total: Of how many. None: ``"3 tensors (a, b, c)"``.
        limit: How many are named.
    """
    shown = [*names][:limit]
    more = '' if len(names) <= limit else f', and {len(names) - limit} more'
    of = '' if total is None else f'of {total} '
    plural = '' if (total or len(names)) == 1 else 's'
    return f'{len(names)} {of}tensor{plural} ({", ".join(shown)}{more})'
