# Copyright (c) MotionMAE contributors. All rights reserved.
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmaction.structures import ActionDataSample
from mmengine.model import BaseModel
from torch import Tensor


class SequenceModel(BaseModel):
    """Base of models that label all frames of a video, given the first.

    Attributes:
        field (str): Of the data sample, for the predictions.
        on_frame: Called after each frame, if set.
    """

    field = 'pred_masks'
    on_frame: Callable[[], object] | None = None

    @property
    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """dict: All that decides the result, but the weights."""

    @abstractmethod
    def label_frames(
        self, video: Tensor, sample: ActionDataSample
    ) -> Iterator[np.ndarray]:
        """Label a video.

        Args:
            video: (T, 3, H, W), uint8, RGB.
            sample: What :class:`PackSequence` makes.

        Yields:
            For each frame a mask (H, W), uint8, at the original size; or
            something else of one shape and dtype.
        """

    def forward(
        self,
        inputs: Sequence[Tensor | None],
        data_samples: Sequence[ActionDataSample],
        mode: str = 'predict',
    ) -> list[ActionDataSample]:
        """Predict; there is nothing to train.

        Raises:
            ValueError: If ``mode`` is another.
        """
        if mode != 'predict':
            raise ValueError(
                f'{type(self).__name__} can only predict, not {mode!r}.'
            )
        return self.predict(inputs, data_samples)

    @torch.no_grad()
    def predict(
        self,
        inputs: Sequence[Tensor | None],
        data_samples: Sequence[ActionDataSample],
    ) -> list[ActionDataSample]:
        """Label all frames of videos.

        Args:
            inputs: For each video (T, 3, H, W), uint8, RGB; None if it is
                finished already.
            data_samples: What :class:`PackSequence` makes.

        Returns:
            The same samples, with :attr:`field` (T, ...).
        """
        for video, sample in zip(inputs, data_samples, strict=True):
            if video is None:
                continue
            for number, output in enumerate(self.label_frames(video, sample)):
                if number == 0:
                    shape = (len(video), *output.shape)
                    outputs = np.empty(shape, output.dtype)
                outputs[number] = output
                if self.on_frame is not None:
                    self.on_frame()
            sample.set_field(outputs, self.field)
        return list(data_samples)
