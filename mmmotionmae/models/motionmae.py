# Copyright (c) MotionMAE contributors. All rights reserved.
"""MotionMAE (Yang et al., https://arxiv.org/abs/2210.04154)."""

from typing import Any

from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..utils.errors import UsageError
from .backbones import check_encoder
from .targets import build_targets, resolve_targets, without_shorthands
from .utils.tubelet import TokenSplit


@MODELS.register_module()
class MotionMAE(BaseModel):
    """Masked autoencoder that reconstructs pixels and motion.

    What it reconstructs is open: ``targets`` holds whatever is registered as
    a :class:`ReconstructionTarget`. With pixels alone it is VideoMAE.

    Args:
        backbone (dict): Config of the encoder, a :class:`VideoEncoder` such
            as :class:`MotionMAEViT`.
        neck (dict): Config of the decoder, :class:`MotionMAEDecoder`. Number
            of tokens, input width and targets are filled in.
        head (dict): Config of :class:`MotionMAEHead`. Input width and
            targets are filled in. May hold shorthands for ``targets``:
            ``pixel_weight``, ``motion_weight``, ``pixel_norm``,
            ``motion_norm`` and ``moving_threshold``.
        data_preprocessor (dict): Config of
            :class:`MotionMAEDataPreprocessor`. Targets and tubelet are
            filled in. May hold a shorthand: ``frame_difference``.
        targets (dict[str, dict], optional): For each name the config of a
            target; tubelet and channels are filled in. One of weight 0 is
            left out, at no cost. Defaults to :class:`PixelTarget` and
            :class:`FrameDifferenceTarget`, as ``pixel`` and ``motion``.
        init_cfg (dict, optional): Initialisation of the whole.
            Defaults to None.

    Raises:
        TypeError: If the backbone is no :class:`VideoEncoder`.
        ValueError: If there are no targets, or a shorthand contradicts them.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict = dict(type='MotionMAEDecoder'),
        head: dict = dict(type='MotionMAEHead'),
        data_preprocessor: dict = dict(type='MotionMAEDataPreprocessor'),
        targets: dict[str, dict] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        encoder = check_encoder(MODELS.build(backbone))
        parts = dict(head=head, neck=neck, data_preprocessor=data_preprocessor)
        tubelet = dict(
            patch_size=encoder.patch_size, tubelet_size=encoder.tubelet_size
        )
        built = build_targets(
            resolve_targets(targets, **parts),
            channels=encoder.in_channels,
            **tubelet,
        )

        def build(part: str, type: str, **filled_in: Any) -> Any:
            config = dict(type=type) | without_shorthands(part, parts[part])
            defaults = dict(filled_in, targets=built)
            return MODELS.build(config, default_args=defaults)

        super().__init__(
            build('data_preprocessor', 'MotionMAEDataPreprocessor', **tubelet),
            init_cfg,
        )
        self.backbone = encoder
        self.neck = build(
            'neck',
            'MotionMAEDecoder',
            num_tokens=encoder.num_tokens,
            in_channels=encoder.embed_dims,
        )
        self.head = build(
            'head', 'MotionMAEHead', in_channels=self.neck.embed_dims
        )
        # They are owned here; the parts hold references.
        self.targets = nn.ModuleDict(built)

    def forward(
        self,
        inputs: dict[str, Any],
        data_samples: list[ActionDataSample] | None = None,
        mode: str = 'tensor',
    ) -> Any:
        """Run one of the modes of MMEngine.

        Args:
            inputs: What :class:`MotionMAEDataPreprocessor` returns: ``clip``,
                ``split`` and ``videos``.
            data_samples: One for each video.
            mode: ``'loss'``, ``'predict'`` or ``'tensor'``.

        Returns:
            ``'loss'``: a dict of losses and scores. ``'predict'``: data
            samples with the reconstruction. ``'tensor'``: the latent
            (B, V, D).

        Raises:
            ValueError: If there is no such mode, or no mask where one is
                needed.
        """
        if mode == 'tensor':
            return self.backbone(inputs['clip'], inputs['split'])
        need_split(inputs['split'])
        if mode == 'loss':
            return self.loss(**inputs)
        if mode == 'predict':
            return self.predict(**inputs, data_samples=data_samples)
        raise UsageError(
            f"mode must be 'loss', 'predict' or 'tensor', not {mode!r}."
        )

    def loss(
        self, clip: Tensor, split: TokenSplit, videos: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Losses of a batch: encode, decode, compare with the targets.

        Args:
            clip: (B, C, T, H, W), normalised.
            split: Which tokens are visible, and which are predicted.
            videos: For each target what it is taken from, such as a video
                (B, C, T, H, W).

        Returns:
            Float32 scalars: for each target ``loss_NAME`` (summed up by
            MMEngine) and scores, such as ``r2_NAME``.

        Raises:
            ValueError: If the clips do not fit the encoder or the split.
        """
        latent = self.backbone(clip, split)  # (B, V, D)
        tokens = self.neck(latent, split)  # of each target (B, M, E)
        if getattr(self.head, 'balance', None) is None:
            return self.head.loss(tokens, videos, split)
        return self.head.loss(tokens, videos, split, latent)

    def decode(self, clip: Tensor, split: TokenSplit) -> dict[str, Tensor]:
        """Encode the visible tokens, and decode the masked ones.

        Args:
            clip: As in :meth:`loss`.
            split: As in :meth:`loss`.

        Returns:
            For each target the masked tokens (B, M, E), for the head.
        """
        return self.neck(self.backbone(clip, split), split)

    def predict(
        self,
        clip: Tensor,
        split: TokenSplit,
        videos: dict[str, Tensor],
        data_samples: list[ActionDataSample] | None = None,
        statistics: str = 'true',
    ) -> list[ActionDataSample]:
        """Reconstruct the clips.

        Args:
            clip: As in :meth:`loss`.
            split: As in :meth:`loss`.
            videos: As in :meth:`loss`.
            data_samples: B/N samples whose N clips are meant. Defaults to
                new ones.
            statistics: See :meth:`MotionMAEHead.predict`.

        Returns:
            Data samples with, for each target that is a video, the field
            ``NAME_reconstruction`` (N, C, T, H, W), float32.

        Raises:
            ValueError: As :meth:`loss`, or if there are no such
                ``statistics``.
        """
        tokens = self.decode(clip, split)
        videos = self.head.predict(tokens, videos, split, statistics)
        if data_samples is None:
            data_samples = [ActionDataSample() for _ in clip]
        for name, video in videos.items():
            for sample, part in zip(
                data_samples, video.chunk(len(data_samples)), strict=True
            ):
                sample.set_field(part, f'{name}_reconstruction')
        return data_samples


def need_split(split: TokenSplit | None) -> TokenSplit:
    """The split, which is there if the pipeline makes masks.

    Raises:
        ValueError: If it is not.
    """
    if split is None:
        raise UsageError(
            'There is no mask in the data samples: put a masking '
            'transform (TubeMasking, RandomMasking, FrameMasking) in the '
            "pipeline and algorithm_keys=('mask', ) in "
            'PackActionInputs.'
        )
    return split
