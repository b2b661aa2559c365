# Copyright (c) MotionMAE contributors. All rights reserved.
from collections.abc import Sequence

import torch
from mmaction.models.data_preprocessors import ActionDataPreprocessor
from mmaction.registry import MODELS

from ...utils.imagenet import IMAGENET_MEAN, IMAGENET_STD
from .video_augmentation import RandAugment, RandomErasing


@MODELS.register_module()
class AugmentingDataPreprocessor(ActionDataPreprocessor):
    """The augmentations of VideoMAE's fine-tuning, on the device.

    In training: RandAugment, normalisation, RandomErasing, then MMAction2's
    blending (mixup, CutMix). Every clip has its own draw, which all its
    frames share. In testing it is :class:`ActionDataPreprocessor`.

    VideoMAE applies RandAugment to whole frames and crops afterwards; here,
    as in image classification, the pipeline has cropped before.

    Example:
        VideoMAE's recipe, for Something-Something V2::

            data_preprocessor=dict(
                type='AugmentingDataPreprocessor',
                rand_augment=dict(),
                random_erasing=dict(),
                blending=dict(
                    type='RandomBatchAugment',
                    augments=[
                        dict(type='MixupBlending', alpha=0.8, num_classes=174),
                        dict(type='CutmixBlending', alpha=1, num_classes=174),
                    ],
                ),
            )

        together with ``label_smooth_eps=0.1`` in the head.

    Args:
        mean (Sequence[float], optional): Mean of each channel, in [0, 255]
            units. Defaults to ImageNet's.
        std (Sequence[float], optional): Standard deviation, likewise.
        to_rgb (bool): Whether frames come as BGR. Defaults to False.
        to_float32 (bool): Whether clips become float32 where ``mean`` is
            None. Defaults to True.
        blending (dict, optional): Config of the batch blending. Defaults to
            None.
        format_shape (str): Must be ``'NCTHW'``, which is the default.
        rand_augment (dict, optional): Arguments of :class:`RandAugment`,
            which needs kornia; ``dict()`` takes VideoMAE's. Defaults to
            None: off.
        random_erasing (dict, optional): Arguments of :class:`RandomErasing`;
            ``dict()`` takes VideoMAE's. Defaults to None: off.

    Raises:
        ImportError: If ``rand_augment`` is given and kornia is missing.
        ValueError: If the format is another, or ``random_erasing`` is given
            and ``mean`` is None.
    """

    def __init__(
        self,
        mean: Sequence[float] | None = IMAGENET_MEAN,
        std: Sequence[float] | None = IMAGENET_STD,
        to_rgb: bool = False,
        to_float32: bool = True,
        blending: dict | None = None,
        format_shape: str = 'NCTHW',
        rand_augment: dict | None = None,
        random_erasing: dict | None = None,
    ) -> None:
        if format_shape != 'NCTHW':
            raise ValueError(
                f"format_shape must be 'NCTHW', not {format_shape!r}: frames "
                'of one clip are augmented alike.'
            )
        if random_erasing is not None and mean is None:
            raise ValueError(
                'random_erasing puts noise of standard deviation 1 into '
                'normalised clips: give mean and std.'
            )
        super().__init__(mean, std, to_rgb, to_float32, blending, format_shape)
        self.rand_augment = (
            None if rand_augment is None else RandAugment(**rand_augment)
        )
        self.random_erasing = (
            None if random_erasing is None else RandomErasing(**random_erasing)
        )

    def preprocess(
        self,
        inputs: list[torch.Tensor],
        data_samples: list,
        training: bool = False,
    ) -> tuple[torch.Tensor, list]:
        """Stack, augment and normalise.

        Args:
            inputs: B clips (N, C, T, H, W), uint8 (N clips of one video).
            data_samples: B data samples; blending turns their ``gt_label``
                into probabilities (num_classes,).
            training: Whether to augment.

        Returns:
            The clips (B, N, C, T, H, W), normalised float32, and the data
            samples.

        Raises:
            TypeError: If RandAugment is on and the frames are not uint8.
            ValueError: If the clips lack a dimension, in training.
        """
        if training and inputs[0].ndim != 5:
            raise ValueError(
                'Clips must be (N, C, T, H, W), not '
                f"{tuple(inputs[0].shape)}: use FormatShape('NCTHW') without "
                'collapse.'
            )
        if training and self.rand_augment is not None:
            inputs = [self._rand_augment(clips) for clips in inputs]
        # Blending comes after RandomErasing, so not here.
        batch, data_samples = super().preprocess(inputs, data_samples)
        if training and self.random_erasing is not None:
            for clips in batch:
                for clip in clips:
                    self.random_erasing(clip)
        if training and self.blending is not None:
            batch, data_samples = self.blending(batch, data_samples)
        return batch, data_samples

    def _rand_augment(self, clips: torch.Tensor) -> torch.Tensor:
        """Augment each clip of (N, C, T, H, W)."""
        assert self.rand_augment is not None
        if self.to_rgb:  # grey is a weighted sum of RGB
            clips = clips.flip(1)
        clips = torch.stack([self.rand_augment(clip) for clip in clips])
        return clips.flip(1) if self.to_rgb else clips
