# Copyright (c) MotionMAE contributors. All rights reserved.
import time
from collections.abc import Callable, Sequence
from typing import Any

from mmaction.datasets.base import BaseActionDataset
from mmengine.logging import MMLogger

from ..utils.seeding import with_seed_of
from .bad_video_list import BadVideos
from .failures import Failure, diagnose, make_pipeline_error

# Videos to try before the pipeline is called broken.
_NUM_OTHERS = 8


class PatientDataset(BaseActionDataset):
    """Videos that are tried again where the disk or the network fails.

    Args:
        data_prefix (dict): ``video`` or ``img``: the folder that paths are
            relative to.
        storage_delays (Sequence[float]): Seconds to wait before a video is
            tried again if the disk or the network has failed (I/O error,
            stale handle, time-out), once for each. Defaults to
            ``(1, 5, 25)``.
        sleep (Callable): What waits, given seconds. Defaults to
            ``time.sleep``.
        **kwargs: As in ``BaseActionDataset``.

    Attributes:
        bad_videos (BadVideos): What the processes of the loader share.
        raw_frames (bool): Whether a video is a folder of frames.
    """

    def __init__(
        self,
        data_prefix: dict,
        storage_delays: Sequence[float] = (1, 5, 25),
        sleep: Callable[[float], object] = time.sleep,
        **kwargs: Any,
    ) -> None:
        self.raw_frames = 'img' in data_prefix
        self.storage_delays = tuple(storage_delays)
        self.bad_videos = BadVideos()
        self._sleep = sleep
        self._pipeline_works = False  # it has let a sample through
        super().__init__(data_prefix=data_prefix, **kwargs)

    def path_of(self, idx: int) -> str:
        """File, or folder of frames, of a sample."""
        info = self.get_data_info(idx)
        return info['frame_dir' if self.raw_frames else 'filename']

    def name_of(self, idx: int) -> str:
        """Name of a sample in messages."""
        return self.path_of(idx)

    def load(self, idx: int) -> tuple[Any, Failure | None]:
        """Load a sample, or find out why that cannot be done.

        What the disk or the network fails at is tried again after a while.

        Returns:
            The sample, or None; why there is none, or None.

        Raises:
            PipelineError: If the pipeline fails, whatever the video.
        """
        sample, failure = self._attempt(idx)
        for delay in self.storage_delays:
            if failure is None or failure.kind != 'storage':
                break
            self.warn(
                f'{self.name_of(idx)!r} cannot be read now, again in '
                f'{delay:g} s: {failure.reason}'
            )
            self._sleep(delay)
            sample, failure = self._attempt(idx, again=True)
        if failure is None:
            self._pipeline_works = True
        elif failure.kind == 'pipeline' and not self._pipeline_works:
            self._try_others(idx, failure)
        return sample, failure

    def _attempt(
        self, idx: int, again: bool = False
    ) -> tuple[Any, Failure | None]:
        name = self.name_of(idx)
        try:
            with self.bad_videos.loading(name):
                return self.prepare_data(idx), None
        except Exception as error:
            return None, diagnose(error, self.path_of(idx), again)

    def _try_others(self, idx: int, failure: Failure) -> None:
        """Raise an error unless the pipeline lets another video through.

        That one which is odd, or too small for a crop, does not end the run.
        """
        step = max(1, len(self) // (_NUM_OTHERS + 1))
        alike = 0
        for number in range(1, min(_NUM_OTHERS + 1, len(self))):
            other = (idx + number * step) % len(self)
            _, found = self._attempt(with_seed_of(idx, other))
            if found is None:
                self._pipeline_works = True
                return
            alike += found.kind == 'pipeline'
        if alike:
            raise make_pipeline_error(failure, self.name_of(idx))

    @staticmethod
    def warn(text: str) -> None:
        """Log a warning."""
        MMLogger.get_current_instance().warning(text)
