# Copyright (c) MotionMAE contributors. All rights reserved.
"""Steps of an inferencer.

Shapes: B clips of a batch, N clips of one video, C channels, T frames, H W
size, L tokens, D width.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmaction.structures import ActionDataSample
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.infer import BaseInferencer
from mmengine.logging import print_log
from PIL import Image
from torch import Tensor

from ...models import MotionMAE
from ...utils.errors import UsageError
from ..features.encoder import ClipEncoder, FeatureSettings
from ..pretrained import ModelSource, encoder_of, load_model
from .inputs import (
    ClipLoader,
    ClipSettings,
    VideoInput,
    clip_size_of,
    list_inputs,
)
from .outputs import (
    check_out_types,
    draw_pictures,
    picture_paths,
    reconstruct_fields,
    sample_to_dict,
    save_pictures,
    write_results,
)


class InferenceSteps(BaseInferencer):
    """The steps of :class:`MotionMAEInferencer`, which has the arguments.

    Each can be called alone, too.

    Attributes:
        model: On the device, in evaluation mode.
        encoder: That of the model.
        reconstructs: Whether the model can.
        clip_size: Of the clips that it takes.
        cfg: The config of the model; empty if there is none.
    """

    def __init__(
        self,
        model: ModelSource = None,
        weights: str | None = None,
        device: str | None = None,
        scope: str = 'mmaction',
        show_progress: bool = True,
        load_options: dict[str, Any] | None = None,
    ) -> None:
        # Not MMEngine's, which would run the config in the checkpoint.
        self.scope = scope
        self.show_progress = show_progress
        self.device = device or get_device()
        module, self.cfg = load_model(model, weights, load_options, scope)
        self.model: Any = module.to(self.device)
        source = weights if model is None else model
        self.encoder = encoder_of(module, source, load_options)
        self.reconstructs = isinstance(module, MotionMAE)
        self.clip_size = clip_size_of(self.encoder.vit)
        self.pipeline = self._init_pipeline(self.cfg)
        self.collate_fn = pseudo_collate
        self.visualizer = None

    def _init_pipeline(self, cfg: Any = None) -> ClipLoader:
        return ClipLoader(self.clip_size, ClipSettings(mask=None))

    def _settings(self, **changes: Any) -> ClipSettings:
        if not self.reconstructs:
            changes['mask'] = None
        return ClipSettings(**changes)

    def _inputs_to_list(self, inputs: Any) -> list[VideoInput]:
        return list_inputs(inputs)

    def preprocess(
        self,
        inputs: Sequence[VideoInput],
        batch_size: int = 1,
        on_error: str | None = None,
        skipped: list[dict[str, str]] | None = None,
        **settings: Any,
    ) -> Iterator[dict[str, Any]]:
        """Read clips and draw masks.

        Args:
            inputs: What :func:`list_inputs` returns.
            batch_size: Videos at a time.
            on_error: As in :meth:`MotionMAEInferencer.__call__`.
            skipped: Where videos that are left out are noted.
            **settings: Those of :class:`ClipSettings`.

        Returns:
            Batches, collated, read one by one: ``inputs`` and
            ``data_samples``.

        Raises:
            UsageError: See :meth:`MotionMAEInferencer.__call__`.
        """
        targets = self.model.targets.values() if self.reconstructs else ()
        self.pipeline = ClipLoader(
            self.clip_size, self._settings(**settings), [*targets]
        )
        alone = len(inputs) == 1 and not inputs[0].listed
        raises = on_error == 'raise' or (on_error is None and alone)
        noted = [] if skipped is None else skipped
        samples = self._load(inputs, raises, noted)
        return map(self.collate_fn, self._get_chunk_data(samples, batch_size))

    def _load(
        self,
        videos: Sequence[VideoInput],
        raises: bool,
        skipped: list[dict[str, str]],
    ) -> Iterator[dict[str, Any]]:
        for video in videos:
            try:
                yield self.pipeline(video)
            except UsageError as error:
                if raises:
                    raise
                reason = str(error)
                skipped.append(dict(source=video.source, reason=reason))
                print_log(
                    f'Left out: {reason}',
                    logger='current',
                    level=logging.WARNING,
                )

    @torch.no_grad()
    def forward(
        self,
        inputs: dict[str, Any],
        statistics: str = 'true',
        features: bool | None = None,
        block: int = -1,
        pooling: str = 'mean',
    ) -> list[ActionDataSample]:
        """Reconstruct and encode a batch.

        Args:
            inputs: One of what :meth:`preprocess` yields.
            statistics: As in :meth:`MotionMAEInferencer.__call__`.
            features: Likewise.
            block: Likewise.
            pooling: Likewise.

        Returns:
            A data sample for each video, its fields on the CPU.
        """
        samples = inputs['data_samples']
        num_clips = len(inputs['inputs'][0])
        fields: dict[str, Any] = {}
        if self.reconstructs:
            fields = reconstruct_fields(self.model, inputs, statistics)
            for sample in samples:
                sample.set_metainfo(dict(statistics=statistics))
        if features or (features is None and not self.reconstructs):
            fields['feature'] = self._encode(inputs, block, pooling)
        for i, sample in enumerate(samples):
            for name, value in fields.items():
                part = value[i * num_clips : (i + 1) * num_clips]
                sample.set_field(part, name)
        return samples

    def _encode(
        self, inputs: dict[str, Any], block: int, pooling: str
    ) -> Tensor:
        """Features of whole clips: (B, ...), float32."""
        clips = torch.cat(list(inputs['inputs']))
        settings = FeatureSettings(block=block, pooling=pooling)
        encode = ClipEncoder(
            self.encoder,
            settings.counted(self.encoder.vit),
            self.clip_size.num_frames,
            self.clip_size.img_size,
            num_views=1,
            batch_size=len(clips),
            device=self.device,
        )
        return torch.from_numpy(encode([clip[None] for clip in clips]))

    def visualize(
        self,
        inputs: Sequence[VideoInput],
        preds: list[ActionDataSample],
        return_vis: bool = False,
        show: bool = False,
        out_dir: str = '',
        out_type: str | Sequence[str] = ('img', 'video'),
        fps: int = 8,
    ) -> list[dict[str, Any]] | None:
        """Draw reconstructions. Files that exist are replaced.

        Args:
            inputs: Not used: the predictions know what they are of.
            preds: What :meth:`forward` returns.
            return_vis: As in :meth:`MotionMAEInferencer.__call__`.
            show: Likewise.
            out_dir: Likewise.
            out_type: Likewise.
            fps: Likewise.

        Returns:
            For each prediction what :func:`~.outputs.draw_pictures` returns,
            or None unless ``return_vis``.
        """
        results = []
        for sample in preds:
            pictures = draw_pictures(sample, self.model.targets)
            if out_dir:
                paths = picture_paths(
                    out_dir,
                    sample.name,
                    len(sample.input),
                    sample.statistics,
                    check_out_types(out_type),
                )
                save_pictures(pictures, paths, fps)
            if show:
                for sheet in pictures['sheet']:
                    Image.fromarray(sheet).show(title=sample.name)
            if return_vis:
                results.append(pictures)
        return results if return_vis else None

    def postprocess(
        self,
        preds: list[ActionDataSample],
        visualization: list[dict[str, Any]] | None = None,
        return_datasamples: bool = False,
        print_result: bool = False,
        pred_out_file: str = '',
        skipped: Sequence[dict[str, str]] = (),
    ) -> dict[str, Any]:
        """Put everything together, and print or write it.

        Args:
            preds: What :meth:`forward` returns.
            visualization: What :meth:`visualize` returns.
            return_datasamples: As in :meth:`MotionMAEInferencer.__call__`.
            print_result: Likewise.
            pred_out_file: Likewise; replaced if it exists.
            skipped: What :meth:`preprocess` has noted.

        Returns:
            See :meth:`MotionMAEInferencer.__call__`.
        """
        plain = dict(
            predictions=[sample_to_dict(sample, False) for sample in preds],
            skipped=[*skipped],
        )
        complete = dict(plain)
        complete['predictions'] = [sample_to_dict(sample) for sample in preds]
        if print_result:
            print(plain)
        if pred_out_file:
            as_text = pred_out_file.endswith('.json')
            write_results(pred_out_file, plain if as_text else complete)
        predictions = preds if return_datasamples else complete['predictions']
        return dict(
            predictions=predictions,
            visualization=visualization,
            skipped=[*skipped],
        )
