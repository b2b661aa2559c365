# Copyright (c) MotionMAE contributors. All rights reserved.
from collections.abc import Sequence

import torch
from einops import rearrange
from mmaction.models.data_preprocessors import ActionDataPreprocessor
from mmaction.registry import MODELS, TRANSFORMS


@MODELS.register_module()
class MotionMAEDataPreprocessor(ActionDataPreprocessor):
    """Make clips and target videos of uint8 frames, on the device.

    Args:
        mean (Sequence[float]): Mean of each channel, in [0, 255] units.
            Defaults to ImageNet's.
        std (Sequence[float]): Standard deviation, likewise.
        to_rgb (bool): Whether frames come as BGR. Defaults to False.
        frame_difference (dict): Config of the transform that makes the
            motion. Defaults to signed differences of adjacent frames.
        targets (Sequence[str]): Which of ``'pixel'`` and ``'motion'`` to
            make. :class:`MotionMAE` fills it in from the head. Defaults to
            both.
    """

    def __init__(
        self,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        to_rgb: bool = False,
        frame_difference: dict = dict(type='FrameDifference'),
        targets: Sequence[str] = ('pixel', 'motion'),
    ) -> None:
        super().__init__(mean, std, to_rgb=to_rgb, format_shape='NCTHW')
        self.frame_difference = TRANSFORMS.build(frame_difference)
        self.targets = tuple(targets)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Stack, normalise and take differences.

        Args:
            data: ``inputs``: a list of B clips (N, C, T, H, W), uint8 (N
                clips of one video). ``data_samples``: B data samples, each
                with a ``mask`` (N, L), or none with one.
            training: Not used; there is no augmentation here.

        Returns:
            ``data_samples`` as they are and ``inputs``, a dict of
            ``clip`` (B*N, C, T, H, W), normalised float32;
            ``mask`` (B*N, L), bool, or None;
            ``videos``: for each target (B*N, C, T, H, W), float32: the pixels
            in [0, 1], the motion in [-1, 1].

        Raises:
            TypeError: If the frames are not uint8, or the batch was not
                collated.
            ValueError: If the clips of a batch differ in shape.
        """
        if not isinstance(data, dict):
            raise TypeError(
                'A batch must be a dict of inputs and data samples. With '
                'num_repeats above 1 the data loader needs '
                "collate_fn=dict(type='repeat_pseudo_collate')."
            )
        data = self.cast_data(data)
        frames, data_samples = data['inputs'], data['data_samples']
        shapes = {tuple(clip.shape) for clip in frames}
        if len(shapes) > 1:
            raise ValueError(
                'The clips of a batch differ in shape: '
                f'{sorted(shapes)}; crop or resize them to one '
                'size in the pipeline.'
            )
        if frames[0].dtype != torch.uint8:
            raise TypeError(
                f'Frames must be uint8, not {frames[0].dtype}: leave '
                'normalisation out of the pipeline, it is done here.'
            )
        batch = rearrange(torch.stack(list(frames)), 'b n ... -> (b n) ...')
        if self.to_rgb:
            batch = batch.flip(1)
        batch = batch.float()
        pixel = batch / 255
        videos = dict(pixel=pixel) if 'pixel' in self.targets else {}
        if 'motion' in self.targets:
            videos['motion'] = self.frame_difference.difference(pixel, dim=2)
        masks = [sample.get('mask') for sample in data_samples]
        mask = None if None in masks else torch.cat(masks)
        clip = (batch - self.mean) / self.std
        return dict(
            inputs=dict(clip=clip, mask=mask, videos=videos),
            data_samples=data_samples,
        )
