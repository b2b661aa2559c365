# Copyright (c) MotionMAE contributors. All rights reserved.
"""A cluster as a person describes it, and a batch divided among its GPUs."""

from dataclasses import dataclass
from math import ceil

from ..batches import share_batch
from .collectives import Links

# Of the files of the benchmark that tells what a core of the loader does.
VIDEO_BYTES = 424e3


@dataclass(frozen=True)
class Machine:
    """GPUs and what connects them, as a person knows it; None: unknown.

    Attributes:
        gpus: In all.
        per_node: GPUs of a node.
        memory: Of a GPU, in bytes.
        flops: FLOPs that a GPU reaches in a second.
        clips_per_second: That a GPU trains on; before ``flops``.
        outside: Bytes a second of a node to the others.
        inside: Bytes a second of a GPU to the others of its node.
        clips_per_core: Of the loader, in a second.
        video_bytes: Of a file.
        storage: Bytes a second that a node reads and writes.
    """

    gpus: int
    per_node: int = 8
    memory: float | None = None
    flops: float | None = None
    clips_per_second: float | None = None
    outside: float | None = None
    inside: float | None = None
    clips_per_core: float | None = None
    video_bytes: float = VIDEO_BYTES
    storage: float | None = None

    @property
    def nodes(self) -> int:
        """Nodes that are needed."""
        return ceil(self.gpus / self.per_node)

    @property
    def gpus_of_node(self) -> int:
        """GPUs of the fullest node."""
        return min(self.gpus, self.per_node)

    @property
    def links(self) -> Links:
        """Speeds of what connects them."""
        return Links(self.inside, self.outside, self.per_node)


@dataclass(frozen=True)
class Split:
    """Division of a batch among GPUs.

    Attributes:
        videos: On a GPU at a time.
        repeats: Clips of each.
        accumulated: Batches of a step.
        clips: Of a step, on all GPUs.
        recipe: Clips that the recipe has.
        largest: GPUs at most, with a video each.
    """

    videos: int
    repeats: int
    accumulated: int
    clips: int
    recipe: int
    largest: int


def split_batch(recipe: int, repeats: int, gpus: int, most: int) -> Split:
    """Divide a batch among GPUs as ``--keep-batch`` does.

    Where there are fewer videos than GPUs, each gets one.

    Args:
        recipe: Clips of a step.
        repeats: Clips of each video.
        gpus: To divide it among.
        most: Videos that a GPU takes at a time.
    """
    videos = recipe // repeats
    share = share_batch(max(videos, gpus), gpus, most)
    return Split(
        share.videos // share.parts,
        repeats,
        share.parts,
        share.videos * repeats * gpus,
        recipe,
        videos,
    )
