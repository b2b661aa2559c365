# Copyright (c) MotionMAE contributors. All rights reserved.
"""Broken files end neither the process that reads them nor the training."""

import logging
import multiprocessing
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.processes import HUNG
from helpers.video_files import (
    B_FRAMES,
    DECODERS,
    READ_BY_SOME,
    REFUSED,
    VPX,
    encode,
    write_good,
    write_hostile,
)
from mmaction.registry import DATA_SAMPLERS, DATASETS
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from torch.utils.data import DataLoader

from mmmotionmae.datasets.readers import open_video
from mmmotionmae.utils.errors import VideoError, VideoTimeoutError

# What is wrong with the bad videos.
REASONS = {
    'audio_only.mp4': 'there is no video in it',
    'broken_link.mp4': 'there is no such file',
    'cover_only.mp4': 'there is no video in it',
    'folder.mp4': 'there is no such file',
    'forbidden.mp4': 'permission denied',
    'header_only.avi': 'invalid data found when processing input',
    'header_only.mp4': 'invalid data found when processing input',
    'missing.mp4': 'there is no such file',
    'no_frames.mp4': 'there are no frames in it',
    'text.mp4': 'invalid data found when processing input',
    'truncated.mp4': 'invalid data found when processing input',
    'zero_bytes.mp4': 'the file is empty',
}
BITROT = {
    'pyav': r'^frame \d+ of \d+ cannot be decoded: invalid data found when',
    'decord': '^decord: Check failed: avcodec_send_packet',
    'opencv': r'^frame \d+ of \d+ cannot be decoded: the video ends after',
}


@pytest.fixture
def log(tmp_path):
    """The warnings of all processes so far."""
    path = tmp_path / 'log.txt'
    handler = logging.FileHandler(path, encoding='utf-8')
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lambda: [
        line
        for line in path.read_text(encoding='utf-8').splitlines()
        if 'cannot be loaded' in line
    ]
    logger.removeHandler(handler)
    handler.close()


def load_epochs(ann_file, root, decoder, span, num_epochs=2):
    """Load all videos in two workers.

    Args:
        span: Number of frames that a clip stretches over.

    Returns:
        The data set, and for each epoch names, labels and contrast.
    """
    dataset = DATASETS.build(
        dict(
            type='RobustVideoDataset',
            ann_file=str(ann_file),
            data_prefix=dict(video=str(root)),
            max_bad_share=1,
            pipeline=[
                dict(type='SeedSample'),
                dict(type='VideoInit', decoder=decoder),
                dict(
                    type='SampleFrames', clip_len=span // 4, frame_interval=4
                ),
                dict(type='VideoDecode'),
                dict(type='FormatClip', size=32),
                dict(type='PackActionInputs', meta_keys=('filename',)),
            ],
        )
    )
    sampler = DATA_SAMPLERS.build(
        dict(type='SeededSampler', dataset=dataset, seed=3)
    )
    loader = DataLoader(
        dataset,
        batch_size=4,
        sampler=sampler,
        num_workers=2,
        collate_fn=pseudo_collate,
        multiprocessing_context='fork',
    )
    epochs = []
    for epoch in range(num_epochs):
        sampler.set_epoch(epoch)
        epochs.append([])
        for batch in loader:
            for clip, sample in zip(
                batch['inputs'], batch['data_samples'], strict=True
            ):
                assert clip.shape == (1, 3, span // 4, 32, 32)
                name = os.path.relpath(sample.filename, root)
                label = sample.gt_label.item()
                epochs[-1].append((name, label, clip.float().std()))
    return dataset, epochs


@pytest.mark.parametrize('decoder', DECODERS)
def test_training_goes_on(tmp_path, tmp_path_factory, decoder, log):
    root = tmp_path_factory.getbasetemp()
    names = [f'good_videos/{n}' for n in write_good(root / 'good_videos')]
    hostile = write_hostile(tmp_path / 'hostile')
    folder = os.path.relpath(tmp_path / 'hostile', root)
    names += [f'{folder}/{name}' for name in hostile]
    ann_file = tmp_path / 'list.txt'
    ann_file.write_text(
        ''.join(f'{name} {label}\n' for label, name in enumerate(names)),
        encoding='utf-8',
    )
    dataset, epochs = load_epochs(ann_file, root, decoder, 48)

    bad = dataset.bad_videos.read()
    reasons = {
        os.path.relpath(path, root): reason for path, reason in bad.items()
    }
    expected = {
        f'{folder}/{name}': f'^{REASONS[name]}$'
        for name in hostile
        if name != 'bitrot.mp4'
    }
    expected[f'{folder}/bitrot.mp4'] = BITROT[decoder]
    for name, reason in REFUSED[decoder].items():
        if f'good_videos/{name}' in names:
            expected[f'good_videos/{name}'] = reason
    for name, reason in READ_BY_SOME[decoder].items():
        if f'good_videos/{name}' in reasons:
            expected[f'good_videos/{name}'] = reason
    assert set(reasons) == set(expected)
    for name, pattern in expected.items():
        assert re.search(pattern, reasons[name]), (name, reasons[name])

    warnings = log()
    assert len(warnings) == len(bad)
    for path, reason in bad.items():
        (line,) = (line for line in warnings if repr(path) in line)
        assert f'cannot be loaded: {reason}. Another video takes' in line

    for epoch in epochs:
        assert len(epoch) == len(names)
        assert {name for name, *_ in epoch} == set(names) - set(expected)
        assert all(names[label] == name for name, label, _ in epoch)
        assert all(std > 15 for *_, std in epoch)  # pictures, not blanks


@pytest.mark.parametrize(
    ('decoder', 'others'),
    [('pyav', []), ('decord', ['small_webm.webm']), ('opencv', [])],
)
def test_files_that_others_met(tmp_path, shared_data, decoder, others):
    root = shared_data / 'hostile'
    if not root.is_dir():
        pytest.skip(f'{root} is not here')
    names = sorted(p.name for p in root.iterdir() if p.suffix != '.csv')
    ann_file = tmp_path / 'list.txt'
    ann_file.write_text('\n'.join(names), encoding='utf-8')
    dataset, (epoch,) = load_epochs(ann_file, root, decoder, 56, 1)
    bad = {Path(path).name for path in dataset.bad_videos.read()}
    assert bad == {
        'audio_only.mp4',
        'bitrot.mp4',
        'header_only.avi',
        'text_as_video.mp4',
        'truncated_60k.mp4',
        'zero_bytes.mp4',
        *others,
    }
    assert len(epoch) == len(names)
    assert {name for name, *_ in epoch} == set(names) - bad


# ------------------------------------------------------------------- fuzz


def write_damaged(folder, count):
    """Small videos, each with a few bytes changed, or cut off."""
    small = dict(num_frames=24, size=(64, 48))
    encode(folder / 'good.mp4', **B_FRAMES, **small)
    encode(folder / 'good.avi', 'mpeg4', bf='2', g='8', **small)
    encode(folder / 'good.webm', 'libvpx-vp9', **VPX, **small)
    encode(folder / 'good.mkv', audio=True, **B_FRAMES, **small)
    encode(folder / 'good.ts', **B_FRAMES, **small)
    good = sorted(folder.glob('good.*'))
    paths = []
    for number in range(count):
        rng = np.random.default_rng(number)
        source = good[number % len(good)]
        data = np.frombuffer(source.read_bytes(), np.uint8).copy()
        kind = number // len(good) % 5
        if kind == 0:
            data = data[: rng.integers(len(data))]
        elif kind == 1:  # single bits
            at = rng.integers(len(data), size=rng.integers(1, 6))
            data[at] ^= 1 << rng.integers(8, size=len(at), dtype=np.uint8)
        elif kind == 2:  # bytes anywhere
            at = rng.integers(len(data), size=rng.integers(1, 60))
            data[at] = rng.integers(256, size=len(at))
        elif kind == 3:  # bytes of the header, and of what is at the end
            at = rng.integers(800, size=rng.integers(1, 8))
            at *= rng.choice([1, -1], len(at))
            data[at] = rng.integers(256, size=len(at))
        else:  # a hole
            start, length = rng.integers(len(data)), rng.integers(1, 2000)
            data[start : start + length] = 0
        path = folder / f'{number:03}{source.suffix}'
        path.write_bytes(data)
        paths.append(path)
    return paths


def read_all(paths, decoder, pipe):
    """Tell for each video how it went."""
    with open(os.devnull, 'w', encoding='utf-8') as nowhere:
        os.dup2(nowhere.fileno(), 2)  # decoders complain there
    for path in paths:
        try:
            with open_video(str(path), decoder, HUNG) as video:
                count = video.num_frames
                for indices in (range(count), [count // 2], [count - 1]):
                    frames = list(video.frames(indices))
                    assert len(frames) == len(indices)
                    assert all(f.dtype == np.uint8 for f in frames)
                    assert all(f.shape == frames[0].shape for f in frames)
            outcome = 'frames'
        except VideoTimeoutError:
            outcome = 'hangs'
        except VideoError:
            outcome = 'VideoError'
        except BaseException as error:
            outcome = repr(error)
        pipe.send(outcome)


def outcomes_of(paths, decoder):
    """How each video went, in other processes."""
    fork = multiprocessing.get_context('fork')
    found = []
    while len(found) < len(paths):
        ours, theirs = fork.Pipe(duplex=False)
        rest = paths[len(found) :]
        process = fork.Process(target=read_all, args=(rest, decoder, theirs))
        process.start()
        theirs.close()
        try:
            while len(found) < len(paths):
                if not ours.poll(2 * HUNG):
                    found.append('hangs, and cannot be interrupted')
                    break
                found.append(ours.recv())
        except EOFError:
            process.join()
            found.append(f'exit code {process.exitcode}')
        process.kill()
        process.join()
    return found


def check_outcomes(paths, decoder, at_least):
    found = outcomes_of(paths, decoder)
    counts = Counter(found)
    print(f'{decoder}: {counts}')
    strange = [
        (path.name, outcome)
        for outcome, path in zip(found, paths, strict=True)
        if outcome not in ('frames', 'VideoError')
    ]
    assert strange == []
    assert counts['frames'] >= at_least
    assert counts['VideoError'] >= at_least


def test_damaged_videos(tmp_path):
    check_outcomes(write_damaged(tmp_path, 60), 'pyav', 10)


@pytest.mark.slow
@pytest.mark.parametrize('decoder', DECODERS)
def test_many_damaged_videos(tmp_path, decoder):
    check_outcomes(write_damaged(tmp_path, 500), decoder, 100)
