# Copyright (c) MotionMAE contributors. All rights reserved.
"""What the pictures of a sequence show."""

from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from mmaction.structures import ActionDataSample

from mmmotionmae.datasets.sequences import PALETTE, write_mask
from mmmotionmae.engine import SequenceVisualizationHook
from mmmotionmae.engine.hooks.sequence_visualization_hook import annotate
from mmmotionmae.utils.video_files import video_writer
from mmmotionmae.visualization import (
    draw_contours,
    draw_keypoints,
    overlay_mask,
)

WHITE = (255, 255, 255)


class Screen:
    """Stands in for MMEngine's visualizer."""

    def __init__(self):
        self.shown = []

    def show(self, image, win_name, wait_time):
        self.shown.append((image, win_name, wait_time))


def runner_of(length=1):
    return SimpleNamespace(
        test_dataloader=SimpleNamespace(dataset=range(length)),
        test_evaluator=SimpleNamespace(metrics=[]),
        visualizer=Screen(),
    )


def square(shape, top, left, side, value=1):
    mask = np.zeros(shape, np.uint8)
    mask[top : top + side, left : left + side] = value
    return mask


@pytest.fixture
def make_sample(tmp_path):
    """A sequence of grey frames; of every second one there is a mask."""

    def make(name='a/b', length=3, shape=(21, 33), **fields):
        paths, mask_paths = [], []
        for t in range(length):
            path = tmp_path / f'frames/{t:05d}.png'
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), np.full((*shape, 3), 100 + t, np.uint8))
            paths.append(str(path))
            mask_paths.append(None)
            if t % 2 == 0:
                mask_paths[t] = str(tmp_path / f'masks/{t:05d}.png')
                write_mask(mask_paths[t], square(shape, 5, 4, 10))
        sample = ActionDataSample()
        sample.set_metainfo(
            dict(
                sequence=name,
                frame_paths=paths,
                frame_names=[Path(path).stem for path in paths],
                mask_paths=mask_paths,
            )
        )
        for field, value in fields.items():
            sample.set_field(value, field)
        return sample

    return make


def read(path):
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def test_frames_and_video_and_sheet(make_sample, tmp_path):
    masks = np.stack([square((21, 33), 5, 4 + t, 10, 2) for t in range(3)])
    sample = make_sample(pred_masks=masks)
    out = tmp_path / 'out'
    hook = SequenceVisualizationHook(enable=True, out_dir=str(out), fps=5)
    hook.after_test_iter(runner_of(), 0, None, [sample])
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob('*.*')) == [
        'a/b.mp4',
        'a/b.png',
        *(f'a/b/0000{t}.png' for t in range(3)),
    ]
    pictures = [read(out / f'a/b/0000{t}.png') for t in range(3)]
    # The first: object, its rim, around it the frame; a white rim on top.
    tint = np.rint((100 + PALETTE[2]) / 2)  # 0.5 each
    assert (pictures[0][10, 9] == tint).all()
    assert (pictures[0][5:15, 4] == 255).all()
    assert (pictures[0][6:14, 5] == PALETTE[2]).all()
    assert (pictures[0][4] == 100).all() and (pictures[0][:, 3] == 100).all()
    # No ground truth: the rim is two pixels thick.
    assert (pictures[1][5:15, 5:7] == PALETTE[2]).all()
    assert not (pictures[1] == 255).all(-1).any()
    # Where they differ, the ground truth keeps its place.
    assert (pictures[2][5:15, 4] == 255).all()
    with av.open(str(out / 'a/b.mp4')) as video:
        stream = video.streams.video[0]
        assert stream.codec_context.name == 'h264'
        assert stream.codec_context.pix_fmt == 'yuv420p'
        assert stream.average_rate == 5
        frames = [f.to_ndarray(format='rgb24') for f in video.decode(stream)]
    assert len(frames) == 3
    for frame, picture in zip(frames, pictures, strict=True):
        assert frame.shape == (22, 34, 3)  # made even
        error = np.abs(frame[:21, :33].astype(int) - picture)
        # Colours have half the resolution: compare inside of areas.
        assert error[18:, :].max() < 12 and error[9:11, 9:11].max() < 12
    sheet = read(out / 'a/b.png')
    assert sheet.shape[1] == 3 * 320 + 2 * 4


def test_the_sheet_is_spread_over_the_sequence(
    make_sample, tmp_path, monkeypatch
):
    captions = []
    module = 'mmmotionmae.engine.hooks.sequence_visualization_hook'

    def add_caption(image, text):
        captions.append((text, image))
        return image

    monkeypatch.setattr(f'{module}.add_caption', add_caption)
    masks = np.stack([square((21, 33), 5, 4, 10)] * 22)
    masks[21] = square((21, 33), 5, 9, 10)  # half of it next to the truth
    masks[20] = 0
    masks[18] = square((21, 33), 5, 4, 10, 2)  # as another object
    sample = make_sample('one', length=22, pred_masks=masks)
    hook = SequenceVisualizationHook(enable=True, out_dir=str(tmp_path))
    runner = runner_of()
    hook.after_test_iter(runner, 0, None, [sample])
    texts = [text for text, _ in captions]
    assert texts == [
        'frame 00000   J 1.00',
        'frame 00003',
        'frame 00006   J 1.00',
        'frame 00009',
        'frame 00012   J 1.00',
        'frame 00015',
        'frame 00018   J 0.00',
        'frame 00021',
        'one: prediction in colours, ground truth in white',
    ]
    # Drawn after it was resized: the rim keeps its width.
    image = captions[0][1]
    scale = 320 / 33
    assert image.shape == (round(21 * scale), 320, 3)
    row = image[round(10 * scale)]
    assert ((row == 255).all(-1)).sum() == 2
    left = int(np.flatnonzero((row == 255).all(-1))[0])
    assert left == pytest.approx(4 * scale, abs=1)


def test_j_is_the_mean_over_objects(make_sample, tmp_path, monkeypatch):
    module = 'mmmotionmae.engine.hooks.sequence_visualization_hook'
    captions = []
    monkeypatch.setattr(
        f'{module}.add_caption',
        lambda image, text: captions.append(text) or image,
    )
    mask = square((21, 33), 5, 4, 10)
    mask[5:10, 4:14] = 3  # half of the truth, and another object
    sample = make_sample(length=1, pred_masks=mask[None])
    hook = SequenceVisualizationHook(enable=True, out_dir=str(tmp_path))
    hook.after_test_iter(runner_of(), 0, None, [sample])
    assert captions[0] == 'frame 00000   J 0.25'


def test_a_finished_sequence_is_drawn_from_its_files(make_sample, tmp_path):
    masks = np.stack([square((21, 33), 5, 4 + t, 10) for t in range(3)])
    for t in range(3):
        write_mask(tmp_path / f'results/a/b/0000{t}.png', masks[t])
    runner = runner_of()
    runner.test_evaluator.metrics = [
        SimpleNamespace(),
        SimpleNamespace(mask_folder=(tmp_path / 'results').joinpath),
    ]
    for name, sample in [
        ('new', make_sample(pred_masks=masks)),
        ('finished', make_sample()),
    ]:
        hook = SequenceVisualizationHook(True, out_dir=str(tmp_path / name))
        hook.after_test_iter(runner, 0, None, [sample])
    for file in ('a/b.png', 'a/b/00000.png', 'a/b/00002.png'):
        new, finished = tmp_path / 'new' / file, tmp_path / 'finished' / file
        assert new.read_bytes() == finished.read_bytes()


def test_keypoints(make_sample, tmp_path):
    points = np.array([[[8, 6], [20, 15]], [[9, 6], [np.nan, np.nan]]], 'f4')
    truth = points + [1, 0]
    sample = make_sample('p', length=2, pred_keypoints=points)
    sample.set_metainfo(dict(keypoints=truth))
    out = tmp_path / 'out'
    hook = SequenceVisualizationHook(enable=True, out_dir=str(out))
    hook.after_test_iter(runner_of(), 0, None, [sample])
    for t in range(2):
        grey = np.full((21, 33, 3), 100 + t, np.uint8)
        expected = draw_keypoints(grey, points[t], radius=3)
        expected = draw_keypoints(expected, truth[t], WHITE, radius=1)
        assert (read(out / f'p/0000{t}.png') == expected).all()
    assert (read(out / 'p/00001.png')[15, 15:] == 101).all()  # lost

    # Again, from the file.
    np.save(tmp_path / 'p.npy', points)
    runner = runner_of()
    path = tmp_path / 'p.npy'
    runner.test_evaluator.metrics = [
        SimpleNamespace(keypoint_path={'p': path}.get)
    ]
    before = (out / 'p.png').read_bytes()
    (out / 'p.png').unlink()
    del sample.pred_keypoints
    hook.after_test_iter(runner, 0, None, [sample])
    assert (out / 'p.png').read_bytes() == before
    sheet = read(out / 'p.png')
    # The first joint, at (8, 6), in a picture enlarged 320 / 33 times.
    white = np.argwhere((sheet[30:, :200] == 255).all(-1))
    assert len(white) >= 5


@pytest.mark.parametrize('show', [True, False])
def test_show(make_sample, tmp_path, show):
    masks = np.stack([square((21, 33), 5, 4, 10)] * 3)
    hook = SequenceVisualizationHook(enable=True, show=show, wait_time=0.5)
    runner = runner_of()
    hook.after_test_iter(runner, 0, None, [make_sample(pred_masks=masks)])
    assert [shown[1:] for shown in runner.visualizer.shown] == (
        [('a/b', 0.5)] if show else []
    )
    assert not list(tmp_path.glob('*.mp4'))


def test_each_sequence_is_drawn_by_one_process(
    make_sample, tmp_path, monkeypatch
):
    module = 'mmmotionmae.engine.hooks.sequence_visualization_hook'
    monkeypatch.setattr(f'{module}.get_world_size', lambda: 2)
    drawn = []
    monkeypatch.setattr(
        SequenceVisualizationHook,
        '_draw',
        lambda self, runner, sample: drawn.append(sample),
    )
    hook = SequenceVisualizationHook(enable=True, interval=2)
    # Five sequences, dealt out to two processes: 0 2 4, 1 3 and again 0.
    for rank, samples in enumerate([(0, 2, 4), (1, 3, 0)]):
        monkeypatch.setattr(f'{module}.get_rank', lambda rank=rank: rank)
        for i, sample in enumerate(samples):
            hook.after_test_iter(runner_of(5), i, None, [sample])
    assert drawn == [0, 2, 4]
    hook.interval, hook.enable = 1, False
    hook.after_test_iter(runner_of(5), 0, None, [0])
    assert drawn == [0, 2, 4]


@pytest.mark.parametrize('height,line', [(120, 1), (480, 1), (1080, 3)])
def test_lines_grow_with_the_frame(height, line):
    image = np.full((height, height, 3), 50, np.uint8)
    mask = square((height, height), 20, 20, 60)
    result = annotate(image, mask, mask)
    expected = draw_contours(overlay_mask(image, mask), mask, None, line + 1)
    expected = draw_contours(expected, mask, WHITE, line)
    assert (result == expected).all()


def test_a_video_is_there_only_when_complete(tmp_path):
    path = tmp_path / 'new/video.mp4'
    frame = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(RuntimeError, match='stop'):
        with video_writer(path, fps=5) as add_frame:
            add_frame(frame)
            raise RuntimeError('stop')
    assert not list(path.parent.iterdir())


def test_a_missing_frame_is_named(make_sample, tmp_path):
    masks = np.stack([square((21, 33), 5, 4, 10)] * 3)
    sample = make_sample(pred_masks=masks)
    Path(sample.frame_paths[1]).unlink()
    hook = SequenceVisualizationHook(enable=True, out_dir=str(tmp_path / 'o'))
    with pytest.raises(FileNotFoundError, match=sample.frame_paths[1]):
        hook.after_test_iter(runner_of(), 0, None, [sample])
