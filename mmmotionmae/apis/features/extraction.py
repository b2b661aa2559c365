# Copyright (c) MotionMAE contributors. All rights reserved.
"""Features of many videos, in an array or a file."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from mmengine.registry import DefaultScope

from ...datasets.annotation import Columns
from ...models.utils.vit_features import trained_grid, tubelet_of
from ...utils.errors import UsageError
from ...utils.provenance import find_differences
from .clips import ClipDataset, open_inputs
from .encoder import ClipEncoder, FeatureSettings, find_encoder
from .files import (
    Features,
    check_suffix,
    make_card,
    read_features,
    write_features,
)
from .loading import fill
from .parts import FeatureSink, FileSink, MemorySink


def extract_features(
    model: Any,
    inputs: Any,
    out: str | os.PathLike[str] | None = None,
    *,
    block: int | Sequence[int] = -1,
    pooling: str = 'mean',
    final_norm: bool = True,
    num_frames: int | None = None,
    frame_interval: int | None = 4,
    num_clips: int = 1,
    num_crops: int = 1,
    views: str = 'mean',
    img_size: int | None = None,
    data_prefix: str | os.PathLike[str] = '',
    labels: Sequence[int] | None = None,
    frames: bool = False,
    filename_tmpl: str = 'img_{:05}.jpg',
    columns: Columns | None = None,
    clip_unit: str | None = None,
    dtype: str = 'float32',
    batch_size: int = 8,
    num_workers: int | None = None,
    device: str | None = None,
    amp: str | None = None,
    progress: bool = True,
    overwrite: bool = False,
    load_options: dict[str, Any] | None = None,
) -> Features:
    """Encode videos with a frozen encoder.

    The encoder sees all tokens of a clip, none is masked. It has no class
    token, as all video masked autoencoders of this kind: what stands for a
    clip is the mean of its tokens. With mean pooling and the final norm, the
    last block of a recognizer gives what its head sees.

    An extraction to a file that was interrupted goes on with the same call,
    and ends with the same bytes; ``<out>.part`` and ``<out>.part.log`` hold
    what there is until then. If the file is complete, nothing is done.

    A video that cannot be read has a row of NaN, so that rows, names and
    labels stay aligned, and is named, with the reason, in the log and in the
    file. If it crashes the decoder, it takes a process of the loader along,
    which is replaced; so ``num_workers=0`` is for videos that can be trusted.

    Args:
        model: :class:`MotionMAE`, ``Recognizer3D`` or another model whose
            ``backbone`` is a ``VisionTransformer``, or that encoder itself;
            or the path of a checkpoint of any format that
            :func:`load_pretrained` reads. Its own data preprocessor tells
            mean and deviation of the pixels; else they are ImageNet's.
        inputs: A list of videos of any form
            (``docs/user_guides/lists.md``), with labels or without; a
            folder, with all videos below it; a video file;
            a sequence of video files; an array, uint8 (T, H, W, 3), RGB, or a
            sequence of arrays.
        out: The file to write, .npy (with a .json of the same name beside it)
            or .h5 (data sets ``features``, ``names``, ``labels``). None: an
            array in memory.
        block: Whose output. Negative numbers count from the last. Several
            make an axis of their own.
        pooling: What is averaged. ``'mean'``: all tokens; ``'space'``: the
            tokens of each slot; ``'time'``: the slots; ``'none'``: nothing,
            all of the token map is kept.
        final_norm: Apply the encoder's last norm, to earlier blocks too:
            before pooling, or, for an encoder with mean pooling
            (``fc_norm``), after it.
        num_frames: Frames of a clip. Defaults to those the encoder was
            trained with; for others positions are interpolated in time.
        frame_interval: Every how many frames of the video a clip has one.
            None: so that it spans all of the video, as for
            Something-Something.
        num_clips: Clips of each video, at equal distances.
        num_crops: Crops of each clip: 1, from the centre, or 3, along the
            long side.
        views: What becomes of the features of clips and crops. ``'mean'``:
            averaged; ``'all'``: kept, on an axis of their own, crop by crop,
            and of each crop clip by clip.
        img_size: Height and width of the clips, to which the short side of
            the video is resized. Defaults to that of the encoder; for others
            positions are interpolated in space.
        data_prefix: The folder to which the paths of a list are relative.
        labels: One for each video, in place of those of a list.
        frames: Whether the videos are folders of raw frames.
        filename_tmpl: How those of a list are named.
        columns: What stands on the lines of a list, see
            :class:`RobustVideoDataset`.
        clip_unit: Likewise, the unit of start and end of its clips.
        dtype: ``'float32'`` or ``'float16'``, half as large.
        batch_size: Videos that are loaded, and clips that are encoded, at a
            time.
        num_workers: Processes that load videos. Defaults to one for each
            CPU, 8 at most.
        device: Where to encode. Defaults to a GPU, if there is one. The
            encoder stays there, in evaluation mode.
        amp: Mixed precision: ``'bf16'``, or ``'fp16'`` on a GPU.
        progress: Show a progress bar.
        overwrite: Replace a file of other features.
        load_options: For a checkpoint: ``num_heads`` and other arguments of
            :func:`read_checkpoint`.

    Returns:
        Values of shape (N videos, views if all are kept, blocks if there are
        several, what pooling keeps of t, h, w, and the width D), with names,
        labels and the card of settings. Only what is used is read of a file.

    Raises:
        UsageError: If an argument is not as it should be, ``out`` holds
            other features, no video can be read, or a feature is not finite.
        AnnotationError: If the list is not as it should be.
        CheckpointError: If the checkpoint cannot be read.
        FileNotFoundError: If a file is missing.

    Examples:
        >>> import numpy as np
        >>> from mmaction.registry import MODELS
        >>> vit = MODELS.build(dict(
        ...     type='MotionMAEViT', img_size=32, patch_size=8, num_frames=8,
        ...     embed_dims=16, depth=2, num_heads=2))
        >>> videos = np.zeros((3, 40, 48, 64, 3), np.uint8)
        >>> options = dict(num_workers=0, device='cpu', progress=False)
        >>> extract_features(vit, videos, **options).values.shape
        (3, 16)
        >>> maps = extract_features(
        ...     vit, videos, block=(0, 1), pooling='none', **options)
        >>> maps.values.shape
        (3, 2, 4, 4, 4, 16)
    """
    for name, value in (
        ('num_frames', num_frames),
        ('frame_interval', frame_interval),
        ('num_clips', num_clips),
        ('img_size', img_size),
        ('batch_size', batch_size),
    ):
        if value is not None and value < 1:
            raise UsageError(f'{name} must be at least 1, not {value}.')
    if num_crops not in (1, 3):
        raise UsageError(f'num_crops must be 1 or 3, not {num_crops}.')
    path = None if out is None else Path(out)
    if path is not None:
        check_suffix(path)
    if not isinstance(block, int):
        block = tuple(block)
    settings = FeatureSettings(block, pooling, final_norm, views, dtype, amp)
    encoder = find_encoder(model, load_options)
    settings = settings.counted(encoder.vit)
    slots, rows, _ = trained_grid(encoder.vit)
    tubelet_size, patch_size = tubelet_of(encoder.vit)
    clips: dict[str, Any] = dict(
        img_size=img_size or rows * patch_size,
        num_frames=num_frames or slots * tubelet_size,
        frame_interval=frame_interval,
        num_clips=num_clips,
        num_crops=num_crops,
    )
    encode = ClipEncoder(
        encoder,
        settings,
        clips['num_frames'],
        clips['img_size'],
        num_clips * num_crops,
        batch_size,
        device,
    )
    with DefaultScope.overwrite_default_scope('mmaction'):
        dataset = open_inputs(
            inputs,
            clips,
            data_prefix,
            labels,
            frames,
            filename_tmpl=filename_tmpl,
            columns=columns,
            clip_unit=clip_unit,
        )
    card = make_card(model, encoder, encode, clips, dataset)
    if path is not None and not overwrite:
        if path.exists():
            return _find_complete(path, card)
        _check_beside(path)
    shape = (len(dataset), *encode.row_shape)
    if num_workers is None:
        num_workers = min(8, len(os.sched_getaffinity(0)))
    run: dict[str, Any] = dict(
        batch_size=batch_size, num_workers=num_workers, progress=progress
    )
    if path is None:
        memory = MemorySink(shape, np.dtype(dtype))
        fill(memory, dataset, encode, **run)
        return _finish(memory, dataset, card, memory.values)
    with FileSink(path, card, shape, np.dtype(dtype), overwrite) as sink:
        try:
            fill(sink, dataset, encode, **run)
            features = _finish(sink, dataset, card)
        except _NothingReadError:
            sink.remove()
            raise
        write_features(path, sink.close_complete(), features)
        sink.remove()
    return read_features(path)


def _check_beside(path: Path) -> None:
    """Make sure that no other file is overwritten by the .json."""
    beside = path.with_suffix('.json')
    part = path.with_name(f'{path.name}.part')
    if path.suffix == '.npy' and beside.exists() and not part.exists():
        raise UsageError(
            f'{beside} exists already, where the names of {path.name} would '
            'go. Choose another name, or write over it (overwrite).'
        )


class _NothingReadError(UsageError):
    """No video can be read."""


def _find_complete(path: Path, card: dict[str, Any]) -> Features:
    """The features of a file, if they are those that are wanted."""
    features = read_features(path)
    difference = find_differences(features.card, card)
    if difference:
        raise UsageError(
            f'{path} holds other features ({difference}). Choose another '
            'name, or write over it (overwrite).'
        )
    print_log(f'{path} is complete already', logger='current')
    return features


def _finish(
    sink: FeatureSink,
    dataset: ClipDataset,
    card: dict[str, Any],
    values: np.ndarray | None = None,
) -> Features:
    """Report the bad videos, and put all together."""
    names, total = dataset.short_names(), len(dataset)
    bad = {dataset.short_name(name): sink.bad[name] for name in sink.bad}
    if bad:
        first = next(iter(bad.items()))
        example = f'the first is {first[0]!r}: {first[1]}'
        wrong = [name for name in names if name in bad]
        if len(wrong) == total:
            raise _NothingReadError(
                f'None of the {total} videos can be read; {example}.'
            )
        print_log(
            f'{len(wrong)} of {total} videos cannot be read and have rows of '
            f'NaN; {example}',
            logger='current',
            level=logging.WARNING,
        )
    return Features(values, names, dataset.labels(), card, bad)
