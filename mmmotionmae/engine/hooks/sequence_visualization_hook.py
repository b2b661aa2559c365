# Copyright (c) MotionMAE contributors. All rights reserved.
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from mmaction.registry import HOOKS
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...datasets.sequences.masks import read_mask
from ...evaluation.functional.davis import region_similarity
from ...utils.errors import UsageError
from ...utils.files import complete_file
from ...utils.image_files import read_image
from ...utils.video_files import video_writer
from ...visualization.overlay import (
    WHITE,
    add_caption,
    contact_sheet,
    draw_contours,
    draw_keypoints,
    overlay_mask,
)

UInt8Array = npt.NDArray[np.uint8]
# What is drawn on one frame: a mask (H, W) of ids, or keypoints (K, 2).
Labels = npt.NDArray[Any]

# Masks know nothing of the rotation that EXIF data may ask for.
_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION

SHEET_FRAMES = 8
SHEET_WIDTH = 320  # of each frame, in pixels


@HOOKS.register_module()
class SequenceVisualizationHook(Hook):
    """Draw what was predicted for each sequence of a test.

    Objects are tinted in the colours of the DAVIS palette and outlined; the
    outline of the ground truth, where there is one, is white. Keypoints are
    dots, with white ones for the ground truth. For a sequence ``name`` there
    are in ``out_dir``

    * ``name.png``: up to eight frames spread over the sequence, with the
      intersection over union of each, mean over the objects;
    * ``name.mp4``: all frames;
    * ``name/<frame>.png``: each frame.

    Frames have their original size and are read one by one. Sequences that
    were done in an earlier test are drawn from their results on disk.

    Args:
        enable (bool): Whether to draw at all; ``tools/test.py --show-dir``
            and ``--show`` set it. Defaults to False.
        interval (int): Draw every so many sequences. Defaults to 1.
        show (bool): Open a window with the spread of frames. Defaults to
            False.
        out_dir (str, optional): Where the pictures go. Defaults to None:
            nowhere.
        wait_time (float): How long a window stays, in seconds. Defaults
            to 2.
        fps (int): Frames per second of the videos. Defaults to 12.
    """

    def __init__(
        self,
        enable: bool = False,
        interval: int = 1,
        show: bool = False,
        out_dir: str | None = None,
        wait_time: float = 2,
        fps: int = 12,
    ) -> None:
        self.enable = enable
        self.interval = interval
        self.show = show
        self.out_dir = None if out_dir is None else Path(out_dir)
        self.wait_time = wait_time
        self.fps = fps

    def before_test(self, runner: Runner) -> None:
        """Make sure that there is a screen.

        Raises:
            UsageError: If a window is wanted where none can open.
        """
        if self.enable and self.show:
            from matplotlib import pyplot as plt  # slow to import

            if plt.get_backend().lower() == 'agg':
                raise UsageError(
                    '--show needs a screen, and there is none; --show-dir '
                    'writes pictures instead.'
                )

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Draw the sequences of a batch."""
        if not self.enable:
            return
        dataset = runner.test_dataloader.dataset
        for i, sample in enumerate(outputs):
            # MMEngine's sampler deals the sequences out in turns, and starts
            # over with the first ones until all processes have as many.
            index = batch_idx * len(outputs) + i
            index = index * get_world_size() + get_rank()
            if index % self.interval == 0 and index < len(dataset):
                self._draw(runner, sample)

    def _draw(self, runner: Runner, sample: Any) -> None:
        name = sample.sequence
        paths = [Path(path) for path in sample.frame_paths]
        predictions = _predictions(runner, sample)
        spread = np.linspace(0, len(paths) - 1, min(len(paths), SHEET_FRAMES))
        chosen = set(np.rint(spread).astype(int).tolist())
        sheet = []
        with ExitStack() as stack:
            if self.out_dir is not None:
                video = video_writer(self.out_dir / f'{name}.mp4', self.fps)
                add_frame = stack.enter_context(video)
            for t, path in enumerate(paths):
                image = _read_image(path)
                labels = predictions(t)
                truth = _ground_truth(sample, t)
                if self.out_dir is not None:
                    picture = annotate(image, labels, truth)
                    _write_png(
                        self.out_dir / name / f'{path.stem}.png', picture
                    )
                    add_frame(picture)
                if t in chosen:
                    thumbnail = _thumbnail(image, labels, truth)
                    caption = f'frame {path.stem}{_score(labels, truth)}'
                    sheet.append(add_caption(thumbnail, caption))
        legend = f'{name}: prediction in colours, ground truth in white'
        picture = add_caption(contact_sheet(sheet), legend)
        if self.out_dir is not None:
            _write_png(self.out_dir / f'{name}.png', picture)
        if self.show:
            runner.visualizer.show(
                picture, win_name=name, wait_time=self.wait_time
            )


def annotate(
    image: UInt8Array, labels: Labels, truth: Labels | None
) -> UInt8Array:
    """Draw what was predicted for a frame, and the ground truth in white.

    Args:
        image: RGB, (H, W, 3).
        labels: Object ids, uint8 (H, W), or keypoints (K, 2).
        truth: Likewise; None if there is none.

    Returns:
        A new image, (H, W, 3).
    """
    line = max(1, round(min(image.shape[:2]) / 360))
    # The ground truth is the thinner one, so that both are seen where they
    # agree.
    if labels.dtype == np.uint8:
        image = overlay_mask(image, labels)
        image = draw_contours(image, labels, thickness=line + 1)
        if truth is not None:
            image = draw_contours(image, truth, WHITE, thickness=line)
        return image
    image = draw_keypoints(image, labels, radius=3 * line)
    if truth is not None:
        image = draw_keypoints(image, truth, WHITE, radius=line)
    return image


def _read_image(path: Path) -> UInt8Array:
    image = read_image(path, _FLAGS) if path.is_file() else None
    if image is None:
        raise FileNotFoundError(f'{path} cannot be read as an image.')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _predictions(runner: Runner, sample: Any) -> Callable[[int], Labels]:
    """Gives the labels of a frame; from disk, if they are not in the sample.

    The files are those of the metrics, see ``SequenceMetric``.
    """
    for field in ('pred_masks', 'pred_keypoints'):
        if field in sample:
            return sample.get(field).__getitem__
    name, frame_names = sample.sequence, sample.frame_names
    for metric in runner.test_evaluator.metrics:
        if hasattr(metric, 'keypoint_path'):
            return np.load(metric.keypoint_path(name)).__getitem__
        if hasattr(metric, 'mask_folder'):
            folder = metric.mask_folder(name)
            return lambda t: read_mask(folder / f'{frame_names[t]}.png')
    raise ValueError(f'There are no predictions of {name} to draw.')


def _ground_truth(sample: Any, t: int) -> Labels | None:
    if 'keypoints' in sample:
        return np.asarray(sample.keypoints[t])
    path = sample.mask_paths[t]
    if path is None:
        return None
    return read_mask(path, sample.get('binary_masks', False))


def _score(labels: Labels, truth: Labels | None) -> str:
    """J of a mask, mean over the objects, as a part of a caption."""
    if truth is None or truth.ndim != 2 or truth.dtype != np.uint8:
        return ''
    found = np.union1d(labels, truth)
    ids = found[found > 0].reshape(-1, 1, 1)
    if not ids.size:
        return ''
    mean = region_similarity(truth == ids, labels == ids).mean()
    return f'   J {mean:.2f}'


def _thumbnail(
    image: UInt8Array, labels: Labels, truth: Labels | None
) -> UInt8Array:
    """Resize a frame for the sheet, and draw on it then."""
    height, width = image.shape[:2]
    size = SHEET_WIDTH, max(1, round(height * SHEET_WIDTH / width))
    smaller = SHEET_WIDTH < width
    image = cv2.resize(
        image,
        size,
        interpolation=cv2.INTER_AREA if smaller else cv2.INTER_NEAREST,
    )
    scale = np.array(size) / (width, height)

    def resize(shapes: Labels) -> Labels:
        if shapes.dtype == np.uint8:
            return cv2.resize(shapes, size, interpolation=cv2.INTER_NEAREST)
        return (shapes + 0.5) * scale - 0.5  # centres of pixels

    return annotate(
        image, resize(labels), None if truth is None else resize(truth)
    )


def _write_png(path: Path, image: UInt8Array) -> None:
    _, data = cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    with complete_file(path) as temporary:
        temporary.write_bytes(data.tobytes())
