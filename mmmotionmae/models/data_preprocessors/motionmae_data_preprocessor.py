# Copyright (c) MotionMAE contributors. All rights reserved.
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from einops import rearrange
from mmaction.models.data_preprocessors import ActionDataPreprocessor
from mmaction.registry import MODELS
from torch import Tensor

from ...utils.errors import UsageError, UsageTypeError
from ...utils.imagenet import IMAGENET_MEAN, IMAGENET_STD
from ...utils.transfer import copy_without_waiting
from ..targets import ReconstructionTarget, as_targets
from ..utils.decoder_masking import check_ratio, mask_decoder
from ..utils.tubelet import TokenSplit, split_mask, token_grid


@MODELS.register_module()
class MotionMAEDataPreprocessor(ActionDataPreprocessor):
    """Make clips and targets of uint8 frames, on the device.

    Args:
        mean (Sequence[float]): Mean of each channel, in [0, 255] units.
            Defaults to ImageNet's.
        std (Sequence[float]): Standard deviation, likewise.
        to_rgb (bool): Whether frames come as BGR. Defaults to False.
        targets (dict[str, ReconstructionTarget], optional): What to make.
            :class:`MotionMAE` fills it in. Defaults to pixels and motion; of
            these alone, only names may be given.
        decoder_mask_ratio (float): Share of the masked tokens that are not
            predicted in training, chosen by VideoMAE V2's running cell: 0,
            0.25, 0.5 or 0.75. Quicker, and smaller in memory. Defaults to 0.
        patch_size (int): Height and width of a tubelet, in pixels.
            :class:`MotionMAE` fills it in from the encoder. Defaults to 16.
        tubelet_size (int): Frames of a tubelet. Likewise. Defaults to 2.
        **shorthands: ``frame_difference``, a dict of the arguments of
            :class:`FrameDifference`, for the motion. :class:`MotionMAE`
            understands it as a shorthand for its own ``targets``.

    Raises:
        ValueError: If ``decoder_mask_ratio`` is none of the above.
    """

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        to_rgb: bool = False,
        targets: Mapping[str, ReconstructionTarget]
        | Sequence[str]
        | None = None,
        decoder_mask_ratio: float = 0.0,
        patch_size: int = 16,
        tubelet_size: int = 2,
        **shorthands: Any,
    ) -> None:
        super().__init__(mean, std, to_rgb=to_rgb, format_shape='NCTHW')
        if decoder_mask_ratio:
            check_ratio(decoder_mask_ratio)
        if targets is not None and not isinstance(targets, Mapping):
            shorthands['targets'], targets = targets, None
        # A plain dict: the model owns them.
        self.targets = as_targets(
            targets,
            dict(tubelet_size=tubelet_size, patch_size=patch_size),
            data_preprocessor=shorthands,
        )
        self.decoder_mask_ratio = decoder_mask_ratio
        self.patch_size = patch_size
        self.tubelet_size = tubelet_size

    def forward(self, data: dict, training: bool = False) -> dict:
        """Stack, normalise and prepare the targets.

        Args:
            data: ``inputs``: a list of B clips (N, C, T, H, W), uint8 (N
                clips of one video). ``data_samples``: B data samples, each
                with a ``mask`` (N, L), or none with one.
            training: Whether the decoder is masked.

        Returns:
            ``data_samples`` as they are and ``inputs``, a dict of
            ``clip`` (B*N, C, T, H, W), normalised float32;
            ``split``, a :class:`TokenSplit` of B*N clips, or None;
            ``videos``: for each target what
            :meth:`ReconstructionTarget.video` makes of the B*N clips.

        Raises:
            TypeError: If the frames are not uint8, or the batch was not
                collated.
            ValueError: If the clips of a batch differ in shape, or in the
                number of masked tokens.
        """
        if not isinstance(data, dict):
            raise UsageTypeError(
                'A batch must be a dict of inputs and data samples. With '
                'num_repeats above 1 the data loader needs '
                "collate_fn=dict(type='repeat_pseudo_collate')."
            )
        frames, data_samples = data['inputs'], data['data_samples']
        shapes = {tuple(clip.shape) for clip in frames}
        if len(shapes) > 1:
            raise UsageError(
                'The clips of a batch differ in shape: '
                f'{sorted(shapes)}; crop or resize them to one '
                'size in the pipeline.'
            )
        if frames[0].dtype != torch.uint8:
            raise UsageTypeError(
                f'Frames must be uint8, not {frames[0].dtype}: leave '
                'normalisation out of the pipeline, it is done here.'
            )
        masks = [sample.get('mask') for sample in data_samples]
        split = None
        if None not in masks:
            split = self._split(torch.cat(masks).cpu(), frames[0], training)
        batch = torch.stack(self.cast_data(list(frames)))
        batch = rearrange(batch, 'b n ... -> (b n) ...').contiguous()
        if self.to_rgb:
            batch = batch.flip(1)
        videos = {
            name: target.video(batch, data_samples)
            for name, target in self.targets.items()
        }
        clip = batch.float().sub_(self.mean).div_(self.std)
        return dict(
            inputs=dict(clip=clip, split=split, videos=videos),
            data_samples=data_samples,
        )

    def levels(self, clip: Tensor) -> Tensor:
        """Undo the normalisation, to the last bit.

        Args:
            clip: (B, C, T, H, W), normalised.

        Returns:
            (B, C, T, H, W), float32: the levels that the frames had, RGB, in
            [0, 255].
        """
        return (clip * self.std + self.mean).round_()

    def _split(
        self, mask: Tensor, frames: Tensor, training: bool
    ) -> TokenSplit:
        """Divide the tokens while the mask is still on the host.

        So no step has to wait for the device to learn how many there are.
        """
        split = split_mask(mask)
        if training and self.decoder_mask_ratio:
            t, h, w = frames.shape[-3:]
            grid = token_grid(t, h, w, self.tubelet_size, self.patch_size)
            split = split._replace(
                masked=mask_decoder(
                    split.masked, grid, self.decoder_mask_ratio
                )
            )
        return split._replace(
            visible=copy_without_waiting(split.visible, self.device),
            masked=copy_without_waiting(split.masked, self.device),
        )
