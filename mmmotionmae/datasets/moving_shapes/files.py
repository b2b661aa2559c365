# Copyright (c) MotionMAE contributors. All rights reserved.
"""Files of the videos: encoding, lists, DAVIS layout, manifest."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...utils.choices import DIRECTIONS, MOTIONS
from ...utils.files import complete_file
from ...utils.processes import run_jobs
from ...utils.time_left import progress_bar
from ...utils.video_files import write_video
from ..sequences.masks import write_mask
from .rendering import UInt8Array, render
from .sampling import sample_scene, sample_vos_scene
from .scenes import LEVELS

_SPLITS = {'pretrain': 0, 'train': 1, 'val': 2, 'davis': 3}  # seed words
_VERSION = 1  # raise when the same arguments give other pixels
_TIME_LIMIT = 600.0  # seconds for a video, on however busy a machine
_WAY_OUT = 'choose another folder or delete this one'


def _write_davis(
    root: Path, name: str, frames: UInt8Array, masks: UInt8Array
) -> None:
    """Write one sequence as JPEG frames and palette PNG masks."""
    images = root / 'davis/JPEGImages/480p' / name
    annotations = root / 'davis/Annotations/480p' / name
    images.mkdir(parents=True, exist_ok=True)
    for t, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
        Image.fromarray(frame).save(images / f'{t:05d}.jpg', quality=95)
        write_mask(annotations / f'{t:05d}.png', mask)


def _check_arguments(arguments: dict[str, Any]) -> None:
    """Raise a ValueError if one is out of range."""
    least = dict(
        num_pretrain=0,
        num_train=0,
        num_val=0,
        num_frames=2,
        size=16,
        fps=1,
        crf=0,
        seed=0,
        num_davis=0,
        davis_frames=2,
        davis_size=16,
    )
    for name, low in least.items():
        if arguments[name] < low:
            raise ValueError(
                f'{name} must be at least {low}, got {arguments[name]}'
            )
    levels = [arguments['level'], arguments['davis_level']]
    levels += arguments['pretrain_levels'] or [-1]
    if not set(levels) <= set(range(len(LEVELS))):
        raise ValueError(
            f'levels must be among 0 to {len(LEVELS) - 1}, got level '
            f'{levels[0]}, davis_level {levels[1]} and pretrain_levels '
            f'{tuple(arguments["pretrain_levels"])}'
        )
    size, motions = arguments['size'], arguments['motions']
    if size % 2:
        raise ValueError(f'size must be even for yuv420p, got {size}')
    if (
        not motions
        or not set(motions) <= set(MOTIONS)
        or len(set(motions)) < len(motions)
    ):
        raise ValueError(
            f'motions must be distinct names out of {MOTIONS}, '
            f'got {tuple(motions)}'
        )


def _is_complete(root: Path, manifest: str) -> bool:
    """Tell whether ``root`` holds the data set of this manifest already.

    Raises:
        FileExistsError: It holds another one.
    """
    target = root / 'manifest.json'
    if not target.is_file():
        return False
    if target.read_text() == manifest:
        return True
    raise FileExistsError(
        f'{root} was made with other arguments (see its manifest.json): '
        f'{_WAY_OUT}'
    )


def _refuse_foreign_files(root: Path, ours: set[str]) -> None:
    """Raise a FileExistsError if ``root`` holds anything but ``ours``."""
    for file in root.rglob('*'):
        name = file.relative_to(root).as_posix()
        if not file.is_dir() and name.removesuffix('.tmp') not in ours:
            raise FileExistsError(
                f'{root} holds {name}, which is not of this data set: '
                f'{_WAY_OUT}'
            )


def _write_one(
    path: Path,
    motion: str,
    difficulty: Any,
    words: tuple[int, ...],
    num_frames: int,
    size: int,
    fps: int,
    crf: int,
) -> None:
    rng = np.random.default_rng(np.random.SeedSequence(words))
    scene = sample_scene(rng, motion, level=difficulty)
    frames, _ = render(scene, num_frames, size)
    write_video(path, frames, fps, crf)


def _write_sequence(
    root: Path,
    name: str,
    number: int,
    seed: int,
    level: int,
    num_frames: int,
    size: int,
) -> None:
    words = (seed, _SPLITS['davis'], number)
    rng = np.random.default_rng(np.random.SeedSequence(words))
    scene = sample_vos_scene(rng, number % 2 + 1, LEVELS[level])
    _write_davis(root, name, *render(scene, num_frames, size))


def _call(job: Callable[[], None]) -> None:
    job()


def _done(
    jobs: Sequence[Callable[[], None]], num_processes: int
) -> Iterator[None]:
    """Do all jobs; yields after each.

    Raises:
        OSError: If one fails in a process of its own.
    """
    if num_processes == 1:
        for job in jobs:
            yield job()
        return
    for _, _, reason in run_jobs(_call, jobs, num_processes, _TIME_LIMIT):
        if reason:
            raise OSError(f'A video cannot be written: {reason}')
        yield


def write_dataset(
    root: str | os.PathLike[str],
    num_pretrain: int = 2000,
    num_train: int = 128,
    num_val: int = 500,
    *,
    motions: Sequence[str] = DIRECTIONS,
    num_frames: int = 12,
    size: int = 32,
    fps: int = 12,
    crf: int = 18,
    seed: int = 0,
    level: int = 0,
    pretrain_levels: Sequence[int] = (0,),
    davis_level: int = 0,
    num_davis: int = 6,
    davis_frames: int = 20,
    davis_size: int = 128,
    disable: bool = False,
    num_processes: int = 1,
) -> bool:
    """Write the videos, MMAction2 lists and DAVIS sequences.

    The layout under ``root`` (paths in the lists are relative to it)::

        videos/pretrain/00000.mp4          pretrain.txt  (path)
        videos/train/<class>/00000.mp4     train.txt     (path label)
        videos/val/<class>/00000.mp4       val.txt       (path label)
        classes.txt                        davis/        (DAVIS 2017)
        manifest.json                      (the arguments, written last)

    A video depends only on ``seed``, its split and its index there, so a
    larger split starts with the videos of a smaller one.

    Args:
        root: Folder to make. One that an interrupted run left without its
            manifest is written again.
        num_pretrain: Number of unlabelled videos.
        num_train: Number of labelled videos for training.
        num_val: Number of labelled videos for validation.
        motions: Classes, from ``MOTIONS``; the position is the label.
        num_frames: Frames per video.
        size: Side of the videos in pixels, even; best a multiple of 32
            (``get_batch`` of decord 0.6 fails at 16, 24, 48 and 72).
        fps: Frames per second of the videos.
        crf: Constant rate factor of x264.
        seed: Non-negative seed of all random draws.
        level: Difficulty of the labelled videos, an index of ``LEVELS``.
        pretrain_levels: Those of the unlabelled ones: one for each round of
            all motions, by turns.
        davis_level: That of the DAVIS sequences.
        num_davis: Number of DAVIS sequences; by turns one and two objects.
        davis_frames: Frames per DAVIS sequence.
        davis_size: Side of the DAVIS frames in pixels.
        disable: Show no progress bar.
        num_processes: That write; the files are the same.

    Returns:
        False if ``root`` already held this very data set, else True.

    Raises:
        ValueError: An argument is out of range.
        FileExistsError: ``root`` was made with other arguments or holds
            files that are not of this data set.
    """
    arguments: dict[str, Any] = dict(
        num_pretrain=num_pretrain,
        num_train=num_train,
        num_val=num_val,
        motions=list(motions),
        num_frames=num_frames,
        size=size,
        fps=fps,
        crf=crf,
        seed=seed,
        level=level,
        pretrain_levels=list(pretrain_levels),
        davis_level=davis_level,
        num_davis=num_davis,
        davis_frames=davis_frames,
        davis_size=davis_size,
    )
    _check_arguments(arguments)
    manifest = {
        'generator': 'moving_shapes',
        'version': _VERSION,
        'arguments': arguments,
    }
    root = Path(root)
    counts = {'pretrain': num_pretrain, 'train': num_train, 'val': num_val}
    texts = {f'{split}.txt': '' for split in counts}
    videos: list[tuple[Any, ...]] = []
    for split, count in counts.items():
        for i in range(count):
            row, label = divmod(i, len(motions))
            folder, suffix = f'{split}/{motions[label]}', f' {label}'
            grade = level
            if split == 'pretrain':
                grade = pretrain_levels[row % len(pretrain_levels)]
                row, folder, suffix = i, split, ''
            path = f'videos/{folder}/{row:05d}.mp4'
            texts[f'{split}.txt'] += f'{path}{suffix}\n'
            words = (seed, _SPLITS[split], i)
            videos.append((path, motions[label], LEVELS[grade], words))
    texts['classes.txt'] = ''.join(f'{motion}\n' for motion in motions)
    sequences = [f'shapes-{i:02d}' for i in range(num_davis)]
    if sequences:
        texts['davis/ImageSets/2017/val.txt'] = '\n'.join(sequences) + '\n'
    texts['manifest.json'] = json.dumps(manifest, indent=2) + '\n'

    if _is_complete(root, texts['manifest.json']):
        return False
    ours = {*texts, *(path for path, *_ in videos)}
    for name in sequences:
        for t in range(davis_frames):
            ours.add(f'davis/JPEGImages/480p/{name}/{t:05d}.jpg')
            ours.add(f'davis/Annotations/480p/{name}/{t:05d}.png')
    _refuse_foreign_files(root, ours)
    root.mkdir(parents=True, exist_ok=True)
    jobs: list[Callable[[], None]] = [
        partial(
            _write_one,
            *(root / path, motion, grade, words),
            *(num_frames, size, fps, crf),
        )
        for path, motion, grade, words in videos
    ]
    jobs += [
        partial(
            _write_sequence,
            *(root, name, i, seed, davis_level, davis_frames, davis_size),
        )
        for i, name in enumerate(sequences)
    ]
    show = not disable
    with progress_bar(len(jobs), 'video', show=show, title=root.name) as bar:
        for _ in _done(jobs, num_processes):
            bar.update()
    for name, text in texts.items():  # the manifest is the last
        with complete_file(root / name) as temporary:
            temporary.write_text(text)
    return True
