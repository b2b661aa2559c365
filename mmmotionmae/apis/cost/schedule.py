# Copyright (c) MotionMAE contributors. All rights reserved.
"""Data, batch, learning rate, steps and hours that a config trains."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ...datasets.wrappers import passes_per_epoch
from ...utils.errors import UsageError
from ..batches import batch_factors

# Videos to train on; of UCF101 and HMDB51 those of split 1. Kinetics-400
# shrinks: this is the copy of MMAction2 and VideoMAE. Each number is in
# tools/data/<data set>/README.md.
VIDEOS = dict(kinetics400=240_436, sthv2=168_913, ucf101=9_537, hmdb51=3_570)
PASSES_UNKNOWN = (
    'How often an epoch draws each video, the wrappers of the data set decide '
    'when they see it; here it is taken for once.'
)
# Values that an optimiser keeps for each weight.
STATES = dict(Adam=2, AdamW=2, LAMB=2, RMSprop=1, LARS=1, Adagrad=1, Lion=1)


@dataclass(frozen=True)
class Batch:
    """Clips that one step of the optimiser sees.

    Attributes:
        gpus: Devices.
        videos: Of a batch on one device.
        repeats: Clips made of each.
        accumulated: Batches of a step.
        clips: Of all devices and accumulated batches.
        lr: Learning rate of the config; None if it has none.
        base: Clips that it is meant for; None if the config does not say.
    """

    gpus: int
    videos: int
    repeats: int
    accumulated: int
    clips: int
    lr: float | None
    base: int | None

    @property
    def scaled_lr(self) -> float | None:
        """Learning rate that ``--auto-scale-lr`` makes of the config's."""
        if self.lr is None or not self.base:
            return None
        return self.lr * self.clips / self.base


@dataclass(frozen=True)
class Length:
    """Length of a training.

    Attributes:
        videos: To train on.
        epochs: Over the data set; None if it is counted in iterations.
        clip_epochs: Over the videos, a clip of each.
        steps_per_epoch: Of the optimiser; not whole where gradients are
            accumulated across epochs.
        steps: Of the optimiser, in all.
        clips: In all.
    """

    videos: int | None
    epochs: int | None
    clip_epochs: int | None
    steps_per_epoch: float | None
    steps: int
    clips: int


def gpus_and_clips(name: str) -> tuple[int, int] | None:
    """GPUs and clips on each, as the name of a config says: ``32xb64``."""
    found = re.search(r'[_-](\d+)xb(\d+)(?=[-_.]|$)', name)
    return (int(found[1]), int(found[2])) if found else None


def data_of(cfg: Config) -> str:
    """The data set: last part of the file's name, such as ``sthv2``."""
    return Path(cfg.filename).stem.split('_')[-1].removesuffix('-rgb')


def videos_of(data: str) -> int | None:
    """Videos of a data set, or of a share such as ``sthv2-10percent``.

    Of a share about as many; None if the data set is not known.
    """
    name, _, share = data.partition('-')
    found = re.fullmatch(r'(\d+)percent', share)
    if name not in VIDEOS or (share and not found):
        return None
    return VIDEOS[name] * int(found[1]) // 100 if found else VIDEOS[name]


def batch_of(cfg: Config, gpus: int) -> Batch:
    """Read what one step sees."""
    factors = batch_factors(cfg)
    return Batch(
        gpus,
        *factors,
        gpus * math.prod(factors),
        cfg.optim_wrapper.get('optimizer', {}).get('lr'),
        (cfg.get('auto_scale_lr') or {}).get('base_batch_size'),
    )


def length_of(cfg: Config, batch: Batch, videos: int | None) -> Length | None:
    """Length of a training; None if that needs the number of videos.

    A ``RepeatDataset`` goes through them several times an epoch. As
    MMEngine's sampler and PyTorch's loader have it: videos are dealt to
    the devices, the last one gets some again; ``drop_last`` drops what is
    left of each device's.

    Raises:
        UsageError: If there are fewer videos than one batch.
    """
    loop, loader = cfg.train_cfg, cfg.train_dataloader
    iterations = loop.get('max_iters')
    epochs = clip_epochs = per_epoch = steps = None
    if iterations is None:
        if videos is None:
            return None
        passes = passes_per_epoch(loader.dataset) or 1
        dealt = math.ceil(videos * passes / batch.gpus) / batch.videos
        whole = loader.get('drop_last', False)
        each = math.floor(dealt) if whole else math.ceil(dealt)
        if not each:
            raise UsageError(
                f'{videos} videos are fewer than one batch of {batch.videos} '
                f'on each of {batch.gpus} GPUs.'
            )
        epochs = loop.max_epochs
        clip_epochs = epochs * passes * batch.repeats
        per_epoch = each / batch.accumulated
        if loop.get('type') == 'ResumableEpochLoop':  # none is left over
            per_epoch = math.ceil(per_epoch)
        steps = math.ceil(round(per_epoch * epochs, 6))
        iterations = each * epochs
    clips = iterations * batch.gpus * batch.videos * batch.repeats
    if steps is None:
        steps = math.ceil(iterations / batch.accumulated)
    return Length(videos, epochs, clip_epochs, per_epoch, steps, clips)


def hours(clips: int, gpus: int, clips_per_second: float) -> float:
    """Hours of training: clips / (clips per second of a GPU x GPUs)."""
    return clips / (clips_per_second * gpus) / 3600


def is_half(cfg: Config) -> bool:
    """Tell whether the config trains in mixed precision."""
    return cfg.optim_wrapper.get('type') == 'AmpOptimWrapper'


def states_of(cfg: Config) -> int:
    """Values that the optimiser keeps for each weight; 2 if unknown."""
    optimizer: dict[str, Any] = cfg.optim_wrapper.get('optimizer', {})
    if optimizer.get('type') == 'SGD':
        return int(bool(optimizer.get('momentum')))
    return STATES.get(str(optimizer.get('type')), 2)
