# Copyright (c) MotionMAE contributors. All rights reserved.
"""Reconstructions and features of any video, in MMEngine's form.

Shapes: N clips of one video, C channels, T frames, H W size, L tokens, D
width.
"""

from collections.abc import Sequence
from typing import Any

from mmaction.registry import INFERENCERS
from mmaction.structures import ActionDataSample

from ...utils.choices import STATISTICS
from ...utils.errors import UsageError
from ...utils.time_left import progress_bar
from ..features.encoder import FeatureSettings
from .outputs import (
    check_out_file,
    check_out_types,
    drop_arrays,
    picture_paths,
    refuse_to_overwrite,
)
from .steps import InferenceSteps


@INFERENCERS.register_module()
class MotionMAEInferencer(InferenceSteps):
    """Shows what a video masked autoencoder makes of any video.

    A :class:`MotionMAE` (VideoMAE too) reconstructs the pixels and the motion
    of masked clips; of every model the features can be had. Decoding, crop
    and masks are those of the pre-training pipelines, without the random
    parts: the clip in the middle, resized by its short side and cropped in
    the centre to the size of the model.

    Args:
        model: A config file, a config or the settings of a model; a
            checkpoint file or folder of any format that
            :func:`mmmotionmae.apis.pretrained.load_pretrained` reads; or a
            model. Nothing that a checkpoint holds is ever run, not even the
            config in it.
        weights (str, optional): The checkpoint that belongs to a config,
            written by MMEngine. Defaults to None.
        device (str, optional): Where to run. Defaults to the GPU, if there is
            one.
        scope (str): Where names in a config are looked up. Defaults to
            ``'mmaction'``.
        show_progress (bool): Whether to show a progress bar. Defaults to
            True.
        load_options (dict, optional): For ``load_pretrained``, such as
            ``num_frames`` and ``img_size`` (positions are interpolated) and
            ``num_heads``. Defaults to None.

    Raises:
        UsageError: If there is no such file, or the arguments do not go
            together.
        CheckpointError: If the checkpoint cannot be read or does not fit.

    Examples:
        >>> import numpy as np
        >>> backbone = dict(
        ...     type='MotionMAEViT', img_size=32, patch_size=8, num_frames=8,
        ...     embed_dims=16, depth=1, num_heads=2)
        >>> neck = dict(
        ...     type='MotionMAEDecoder', embed_dims=16, depth=1, num_heads=2)
        >>> inferencer = MotionMAEInferencer(
        ...     dict(type='MotionMAE', backbone=backbone, neck=neck),
        ...     device='cpu', show_progress=False)
        >>> video = np.zeros((40, 48, 64, 3), np.uint8)
        >>> results = inferencer(video, mask_ratio=0.75, features=True)
        >>> prediction = results['predictions'][0]
        >>> prediction['pixel_reconstruction'].shape  # (N, C, T, H, W)
        (1, 3, 8, 32, 32)
        >>> float(prediction['mask'].mean()), prediction['feature'].shape
        (0.75, (1, 16))
        >>> sorted(prediction['errors'][0]['motion'])
        ['loss', 'mse', 'r2', 'r2_moving']
    """

    def __call__(
        self,
        inputs: Any,
        return_datasamples: bool = False,
        batch_size: int = 1,
        *,
        num_clips: int = 1,
        frame_interval: int = 4,
        mask: str = 'tube',
        mask_ratio: float = 0.9,
        seed: int = 0,
        decoder: str = 'pyav',
        on_error: str | None = None,
        statistics: str = 'true',
        features: bool | None = None,
        block: int = -1,
        pooling: str = 'mean',
        return_vis: bool = False,
        show: bool = False,
        out_dir: str = '',
        out_type: str | Sequence[str] = ('img', 'video'),
        fps: int = 8,
        print_result: bool = False,
        pred_out_file: str = '',
        keep_arrays: bool = True,
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """Reconstruct videos, or encode them.

        Args:
            inputs: A video file; a folder, of which all videos below are
                meant, or, if there is none, all folders of frames; a uint8
                array or tensor (T, H, W, 3), RGB; or a list of these.
            return_datasamples: Give MMAction2's data samples instead of
                dictionaries.
            batch_size: Videos at a time.
            num_clips: Clips N of each video: 1, the middle one, or more,
                evenly spread.
            frame_interval: Distance of the frames of a clip, in frames of
                the video. A video that is too short starts again.
            mask: ``'tube'``, ``'random'`` (other places in each slot) or
                ``'frame'`` (whole slots).
            mask_ratio: Share of masked tokens, in (0, 1).
            seed: Of the masks. The same for every video, so that a mask does
                not depend on what else is in the list.
            decoder: ``'pyav'``, ``'decord'`` or ``'opencv'``.
            on_error: What becomes of a video that cannot be read:
                ``'raise'`` or ``'skip'``, with a warning. None: raise if it is
                the only one and was named itself, else skip.
            statistics: Whose mean and contrast the masked tubelets get:
                ``'true'``, their own, as VideoMAE's pictures have it, which
                makes them look better than the prediction is; ``'visible'``,
                those of the visible tubelets. See
                :meth:`MotionMAEHead.predict`.
            features: Whether to encode the whole clips, too, without masks.
                None: only if the model cannot reconstruct.
            block: Of which block, from 0; negative numbers count from the
                last.
            pooling: Of the features: ``'mean'``, ``'space'``, ``'time'`` or
                ``'none'``, see :func:`extract_features`, which is for large
                sets.
            return_vis: Return the pictures.
            show: Open each sheet in the system's picture viewer.
            out_dir: Where files of pictures go; none are written without.
                They are named after the videos.
            out_type: Which: ``'img'`` (PNG, rows of frames), and all kinds
                side by side: ``'video'`` (mp4), ``'gif'``, ``'still'`` (PNG,
                the middle frame) or ``'webp'`` (likewise); or several.
            fps: Frames per second of films.
            print_result: Print the predictions, without arrays.
            pred_out_file: A .json file for the predictions without arrays,
                or a .pkl file for all.
            keep_arrays: Whether the predictions have arrays. Without, any
                number of videos fits into memory.
            overwrite: Whether files that exist are replaced.

        Returns:
            ``predictions``: for each video that could be read ``name``,
            ``source``, ``frame_inds`` (N, T), ``statistics``, ``errors`` (see
            :class:`~mmmotionmae.visualization.Reconstruction`; a list of N),
            and arrays: ``mask`` (N, L), True = masked; ``input`` and, for
            each target, the truth, ``NAME`` (unless it is the input), and
            the prediction, ``NAME_reconstruction``, float32 (N, C, T, H, W),
            pixels and motion in units of the [0, 1] pixel range;
            ``NAME_reconstruction_map`` (N, T, H, W), how large the
            prediction is (of motion);
            ``feature``, (N, D) or as ``pooling`` says. Visible tubelets are
            the true ones everywhere.
            ``visualization``: for each of them what
            :func:`~.outputs.draw_pictures` returns, or None.
            ``skipped``: of each video that could not be read ``source`` and
            ``reason``.

        Raises:
            UsageError: If the arguments are at fault, a video cannot be read
                (see ``on_error``), or none can.
        """
        drawn = bool(out_dir) or show or return_vis
        self._check(statistics, features, on_error, drawn)
        FeatureSettings(block, pooling=pooling).counted(self.encoder.vit)
        kinds = check_out_types(out_type)
        for name, value in (('batch_size', batch_size), ('fps', fps)):
            if value < 1:
                raise UsageError(f'{name} must be at least 1, not {value}.')
        check_out_file(pred_out_file, overwrite)
        videos = self._inputs_to_list(inputs)
        skipped: list[dict[str, str]] = []
        batches: Any = self.preprocess(
            videos,
            batch_size,
            on_error=on_error,
            skipped=skipped,
            num_clips=num_clips,
            frame_interval=frame_interval,
            mask=mask,
            mask_ratio=mask_ratio,
            seed=seed,
            decoder=decoder,
        )
        if out_dir and not overwrite:
            refuse_to_overwrite(
                [
                    path
                    for video in videos
                    for paths in picture_paths(
                        out_dir, video.name, num_clips, statistics, kinds
                    )
                    for path in paths.values()
                ]
            )
        preds: list[ActionDataSample] = []
        pictures: list[dict[str, Any]] = []
        bar = progress_bar(len(videos), 'video', show=self.show_progress)
        with bar:
            for batch in batches:
                samples = self.forward(
                    batch, statistics, features, block, pooling
                )
                if drawn:
                    vis = self.visualize(
                        videos, samples, return_vis, show, out_dir, kinds, fps
                    )
                    pictures += vis or []
                for sample in samples:
                    drop_arrays(sample, keep_arrays)
                preds += samples
                bar.update(len(preds) + len(skipped) - bar.n)
        if not preds:
            raise UsageError(
                f'None of the {len(videos)} videos can be read; the first: '
                f'{skipped[0]["reason"]}'
            )
        return self.postprocess(
            preds,
            pictures if return_vis else None,
            return_datasamples,
            print_result,
            pred_out_file,
            skipped,
        )

    def _check(
        self,
        statistics: str,
        features: bool | None,
        on_error: str | None,
        drawn: bool,
    ) -> None:
        for name, value, choices in (
            ('statistics', statistics, STATISTICS),
            ('on_error', on_error, ('raise', 'skip', None)),
        ):
            if value not in choices:
                raise UsageError(
                    f'{name} must be one of {", ".join(map(str, choices))}, '
                    f'not {value!r}.'
                )
        if self.reconstructs:
            return
        what = type(self.model).__name__
        if drawn:
            raise UsageError(
                f'There is nothing to draw: the model is a {what}, without '
                'the decoder that reconstructs. Features it has.'
            )
        if features is False:
            raise UsageError(
                f'The model is a {what}: it gives features or nothing.'
            )
