# Copyright (c) MotionMAE contributors. All rights reserved.
from pathlib import Path

from ...datasets.sequences import write_mask
from ...utils.files import complete_folder
from .sequence_metric import SequenceMetric


class MaskMetric(SequenceMetric):
    """Base of metrics of masks: ``masks/<sequence>/<frame>.png``."""

    def mask_folder(self, sequence: str) -> Path:
        """Where the masks of a sequence are."""
        return self.folder() / 'masks' / sequence

    def is_finished(self, sequence: str) -> bool:
        """Whether the masks of a sequence are complete on disk."""
        return any(self.mask_folder(sequence).glob('*.png'))

    def save(self, sample: dict) -> None:
        """Write the masks of all frames, the first one too.

        Args:
            sample: Has ``pred_masks``, uint8 (T, H, W), and ``frame_names``.

        Raises:
            ValueError: If there is not one mask for each frame.
        """
        sequence, names = sample['sequence'], sample['frame_names']
        masks = sample['pred_masks']
        if len(masks) != len(names):
            raise ValueError(
                f'{sequence} has {len(names)} frames, but the model has '
                f'predicted {len(masks)} masks.'
            )
        with complete_folder(self.mask_folder(sequence)) as folder:
            for name, mask in zip(names, masks, strict=True):
                write_mask(folder / f'{name}.png', mask)
