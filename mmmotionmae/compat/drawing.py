# Copyright (c) MotionMAE contributors. All rights reserved.
"""Pictures and videos of predictions."""

from functools import wraps
from pathlib import Path
from typing import Any

from ..utils.patching import once
from ..utils.video_files import video_writer, write_gif


@once
def draw_predictions() -> None:
    """MMAction2's ``VisualizationHook`` fails on every 3D recognizer.

    It hands the visualizer an argument that this does not take, and clips
    that have one dimension too many.

    Remove when: ``--show-dir`` works for ``Recognizer3D``.
    """
    from mmaction.engine.hooks import VisualizationHook

    init, draw = VisualizationHook.__init__, VisualizationHook._draw_samples

    @wraps(init)
    def rename_argument(
        self: VisualizationHook, *args: Any, **kwargs: Any
    ) -> None:
        init(self, *args, **kwargs)
        self.draw_args['show_frames'] = self.draw_args.pop('show')

    @wraps(draw)
    def draw_samples(
        self: VisualizationHook,
        batch_idx: int,
        data_batch: dict,
        data_samples: Any,
        step: int = 0,
    ) -> None:
        if not self.enable:
            return
        # The first clip, (C, T, H, W), of each video.
        clips = [v[0] if v.ndim == 5 else v for v in data_batch['inputs']]
        draw(
            self,
            batch_idx,
            dict(data_batch, inputs=clips),
            data_samples,
            step,
        )

    VisualizationHook.__init__ = rename_argument
    VisualizationHook._draw_samples = draw_samples


@once
def write_predictions_on_pictures() -> None:
    """MMAction2's visualizer draws frames without a prediction.

    It looks for the labels under names that MMAction2's data samples do not
    have.

    Remove when: ``--show-dir`` and ``ActionRecogInferencer(vid_out_dir=...)``
    draw them.
    """
    from mmaction.visualization import ActionVisualizer

    add = ActionVisualizer.add_datasample

    @wraps(add)
    def add_labelled(
        self: ActionVisualizer,
        name: str,
        video: Any,
        data_sample: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        if data_sample is not None:
            data_sample = _labelled(data_sample)
        return add(self, name, video, data_sample, *args, **kwargs)

    ActionVisualizer.add_datasample = add_labelled


@once
def write_videos_without_moviepy() -> None:
    """MMAction2 writes videos with moviepy, which it does not require.

    It imports ``moviepy.editor``, which moviepy 2 dropped. So
    ``ActionRecogInferencer(vid_out_dir=...)`` fails as it is called by
    default. PyAV and Pillow, which are there, write the same files.

    Remove when: MMAction2 writes videos without ``moviepy.editor``.
    """
    from mmaction.visualization import LocalVisBackend

    add_video = LocalVisBackend.add_video

    @wraps(add_video)
    def write(
        self: LocalVisBackend,
        name: str,
        frames: Any,
        step: int = 0,
        fps: int = 4,
        out_type: str = 'img',
        **kwargs: Any,
    ) -> None:
        if out_type not in ('gif', 'video'):
            add_video(self, name, frames, step, fps, out_type, **kwargs)
            return
        path = Path(self._save_dir, name)
        frames = frames[..., ::-1]  # BGR, as read from a video file
        if out_type == 'gif':
            write_gif(path.with_suffix('.gif'), frames, fps)
            return
        with video_writer(path.with_suffix('.mp4'), fps) as add_frame:
            for frame in frames:
                add_frame(frame)

    LocalVisBackend.add_video = write


def _labelled(sample: Any) -> Any:
    """A copy with labels under the names that the visualizer knows."""
    from mmengine.structures import LabelData

    sample = sample.clone()
    if 'gt_label' in sample:
        sample.set_field(sample.gt_label, 'gt_labels')
    if 'pred_label' in sample:
        prediction = LabelData(item=sample.pred_label, score=sample.pred_score)
        sample.set_field(prediction, 'pred_labels')
    return sample
