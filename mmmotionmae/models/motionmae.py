# Copyright (c) MotionMAE contributors. All rights reserved.
"""MotionMAE (Yang et al., https://arxiv.org/abs/2210.04154)."""

from typing import Any

from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.model import BaseModel
from torch import Tensor

from .utils.tubelet import TokenSplit, split_mask


@MODELS.register_module()
class MotionMAE(BaseModel):
    """Masked autoencoder that reconstructs pixels and motion.

    With ``head.motion_weight=0`` it is VideoMAE.

    Args:
        backbone (dict): Config of the encoder, :class:`MotionMAEViT`.
        neck (dict): Config of the decoder, :class:`MotionMAEDecoder`. Number
            of tokens, input width and targets are filled in.
        head (dict): Config of :class:`MotionMAEHead`. Input width and tubelet
            are filled in.
        data_preprocessor (dict): Config of
            :class:`MotionMAEDataPreprocessor`. Targets and tubelet are
            filled in.
        init_cfg (dict, optional): Initialisation of the whole.
            Defaults to None.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict = dict(type='MotionMAEDecoder'),
        head: dict = dict(type='MotionMAEHead'),
        data_preprocessor: dict = dict(type='MotionMAEDataPreprocessor'),
        init_cfg: dict | None = None,
    ) -> None:
        encoder = MODELS.build(backbone)
        kind = head['type']
        kind = MODELS.get(kind) if isinstance(kind, str) else kind
        targets = kind.targets_of(
            head.get('pixel_weight', 1.0), head.get('motion_weight', 1.0)
        )
        super().__init__(
            MODELS.build(
                data_preprocessor,
                default_args=dict(
                    targets=targets,
                    patch_size=encoder.patch_size,
                    tubelet_size=encoder.tubelet_size,
                ),
            ),
            init_cfg,
        )
        self.backbone = encoder
        self.neck = MODELS.build(
            neck,
            default_args=dict(
                num_tokens=encoder.num_tokens,
                in_channels=encoder.embed_dims,
                targets=targets,
            ),
        )
        self.head = MODELS.build(
            head,
            default_args=dict(
                in_channels=self.neck.embed_dims,
                patch_size=encoder.patch_size,
                tubelet_size=encoder.tubelet_size,
                channels=encoder.patch_embed.projection.in_channels,
            ),
        )

    def forward(
        self,
        inputs: dict[str, Any],
        data_samples: list[ActionDataSample] | None = None,
        mode: str = 'tensor',
    ) -> Any:
        """Run one of the modes of MMEngine.

        Args:
            inputs: What :class:`MotionMAEDataPreprocessor` returns: ``clip``,
                ``mask`` and ``videos``.
            data_samples: One for each video.
            mode: ``'loss'``, ``'predict'`` or ``'tensor'``.

        Returns:
            ``'loss'``: a dict of losses and scores. ``'predict'``: data
            samples with the reconstruction. ``'tensor'``: the latent
            (B, V, D).
        """
        if mode == 'tensor':
            return self.backbone(inputs['clip'], inputs['mask'])
        if inputs['mask'] is None:
            raise ValueError(
                'There is no mask in the data samples: put a masking '
                'transform (TubeMasking, RandomMasking, FrameMasking) in the '
                "pipeline and algorithm_keys=('mask', ) in "
                'PackActionInputs.'
            )
        if mode == 'loss':
            return self.loss(**inputs)
        if mode == 'predict':
            return self.predict(**inputs, data_samples=data_samples)
        raise ValueError(
            f"mode must be 'loss', 'predict' or 'tensor', not {mode!r}."
        )

    def loss(
        self,
        clip: Tensor,
        mask: Tensor | TokenSplit,
        videos: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """The method in a few lines; shapes in the modules' docstrings."""
        mask = split_mask(mask)
        latent = self.backbone(clip, mask)
        tokens = self.neck(latent, mask)
        return self.head.loss(tokens, videos, mask)

    def predict(
        self,
        clip: Tensor,
        mask: Tensor | TokenSplit,
        videos: dict[str, Tensor],
        data_samples: list[ActionDataSample] | None = None,
    ) -> list[ActionDataSample]:
        """Reconstruct the clips.

        Args:
            clip: (B, C, T, H, W), normalised.
            mask: (B, L), bool, True = masked, or what :func:`split_mask`
                makes of it.
            videos: For each target the true video (B, C, T, H, W).
            data_samples: B/N samples whose N clips are meant. Defaults to
                new ones.

        Returns:
            Data samples with the fields ``pixel_reconstruction`` and
            ``motion_reconstruction``, each (N, C, T, H, W), float32; see
            :meth:`MotionMAEHead.predict`.
        """
        latent = self.backbone(clip, mask)
        tokens = self.neck(latent, mask)
        reconstructions = self.head.predict(tokens, videos, mask)
        if data_samples is None:
            data_samples = [ActionDataSample() for _ in clip]
        for name, video in reconstructions.items():
            for sample, part in zip(
                data_samples, video.chunk(len(data_samples)), strict=True
            ):
                sample.set_field(part, f'{name}_reconstruction')
        return data_samples
