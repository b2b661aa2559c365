# Copyright (c) MotionMAE contributors. All rights reserved.
"""Reports of trainings that came to NaN: where, which clips, what to try."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..utils.files import write_json

# What may say which clip a sample is.
CLIP_KEYS = (
    'filename',
    'frame_dir',
    'video_id',
    'img_key',
    'timestamp',
    'sample_idx',
    'sample_seed',
)
FILENAME = 'not_finite_iter_{}.json'


class Step(NamedTuple):
    """One iteration of a training.

    Attributes:
        iteration: Its number, from 1.
        epoch: Its epoch, from 1.
        updates: Whether the optimiser took a step in it.
        clips: See :func:`name_clips`.
    """

    iteration: int
    epoch: int
    updates: bool
    clips: list[dict[str, Any]]


class Finding(NamedTuple):
    """NaN or infinity in one process.

    Attributes:
        what: A clause, such as ``'loss is nan'``.
        suspects: Iterations whose clips may be why, the last one is that in
            which it was found.
    """

    what: str
    suspects: list[Step]

    @property
    def iteration(self) -> int:
        """int: Where it was found, from 1."""
        return self.suspects[-1].iteration


def name_clips(data_batch: Any) -> list[dict[str, Any]]:
    """Tell which clips are in a batch.

    Args:
        data_batch: As it comes from a data loader.

    Returns:
        For each data sample those of ``CLIP_KEYS`` that it has; empty if no
        sample has any.
    """
    if not isinstance(data_batch, dict):
        return []
    clips = [
        {key: sample.get(key) for key in CLIP_KEYS if key in sample}
        for sample in data_batch.get('data_samples') or ()
        if hasattr(sample, 'get')
    ]
    return clips if any(clips) else []


def last_steps(steps: Sequence[Step], end: int, count: int) -> list[Step]:
    """Iterations up to one, over so many steps of the optimiser.

    Args:
        steps: One after another.
        end: Number of the last iteration that is wanted.
        count: 1: those whose gradients were added up for the step in which
            this iteration was; 2: also those of the step before; and so on.
    """
    found: list[Step] = []
    for step in reversed([step for step in steps if step.iteration <= end]):
        count -= step.updates and bool(found)
        if not count:
            break
        found.append(step)
    return found[::-1]


def write_report(
    path: Path, findings: Sequence[Finding | None], checkpoint: str | None
) -> None:
    """Write what was found, and the clips, as JSON.

    Args:
        path: The file.
        findings: Of each process; those of the first iteration are written.
        checkpoint: The last one before it.
    """
    first = min(f.iteration for f in findings if f)
    processes = [
        dict(
            rank=rank,
            found=finding.what,
            batches=[step._asdict() for step in finding.suspects],
        )
        for rank, finding in enumerate(findings)
        if finding and finding.iteration == first
    ]
    write_json(
        path,
        dict(iteration=first, last_checkpoint=checkpoint, processes=processes),
    )


def explain(
    first: Finding, path: Path, checkpoint: str | None, advice: Sequence[str]
) -> str:
    """The message for a user.

    Args:
        first: What came first.
        path: Where the report is.
        checkpoint: The last one before it.
        advice: What to try, beside looking at the clips.
    """
    step = first.suspects[-1]
    batch = 'batch' if len(first.suspects) == 1 else 'batch and those before'
    if any(suspect.clips for suspect in first.suspects):
        clips = f'The clips of that {batch} are in {path}.'
    else:
        clips = (
            f'{path} says more, but not which clips: the data samples do not '
            "name them (PackActionInputs: meta_keys=('filename', ...))."
        )
    good = 'There is no checkpoint of before.'
    if checkpoint is not None:
        good = (
            f'The last good checkpoint is {checkpoint}; --resume, with '
            'nothing changed, ends here again.'
        )
    return (
        f'{first.what} in iteration {step.iteration} (epoch {step.epoch}), so '
        f'training stops. {clips} {good} What to try: look at these clips; '
        f'{"; ".join(advice)}.'
    )
