# Copyright (c) MotionMAE contributors. All rights reserved.
"""Who takes part in the dense test: data path, network, precision."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmaction.registry import DATASETS, MODELS
from mmengine.registry import FUNCTIONS
from torch import Tensor, nn

from .clips import Source
from .data_paths import DataPath, Draw
from .networks import BACKBONES, Setup, recogniser_config

STOCK, OURS = 'stock MMAction2', 'ours'
CROPS = 3
# Clips x crops: spread over the whole video for Something-Something V2, with
# stride 4 for the others.
VIEWS: dict[str, dict[str, Any]] = {
    '2x3': dict(type='UniformSample', num_clips=2),
    '5x3': dict(type='SampleFrames', num_clips=5, frame_interval=4),
    '10x3': dict(type='SampleFrames', num_clips=10, frame_interval=4),
}
HEAD_SCALE = 10


@dataclass
class Contender:
    """One way to test a recogniser.

    Attributes:
        name: For the table.
        path: Where samples come from.
        model: The recogniser.
        device: Where the model runs.
        dtype: Of mixed precision; None: float32, and the scores must be those
            of stock MMAction2.
    """

    name: str
    path: DataPath
    model: Any
    device: torch.device
    dtype: torch.dtype | None = None

    def load(self, index: int) -> dict[str, Any]:
        """The batch of a video: all its views.

        Raises:
            UsageError: If the video cannot be read.
        """
        sample = self.path.load(Draw(index, seed=0))
        batch = self.path.collate([sample])
        self.path.check()
        return batch

    @torch.no_grad()
    def scores(self, batch: dict[str, Any]) -> Tensor:
        """A test step: the probabilities, float32 (classes,)."""
        amp = self.dtype is not None
        with torch.autocast(self.device.type, self.dtype, enabled=amp):
            (sample,) = self.model.test_step(batch)
        return sample.pred_score.float()


def build_contenders(
    source: Source,
    views: str,
    setup: Setup,
    device: torch.device,
    max_testing_views: Sequence[int] = (),
    amp: bool = False,
) -> list[Contender]:
    """Build who takes part, all with the same random weights.

    Args:
        source: The videos.
        views: One of :data:`VIEWS`.
        setup: Sizes of network and clips.
        device: Where models run.
        max_testing_views: Also ours, with at most so many views at once.
        amp: Whether ours in bfloat16 takes part, too.
    """
    stock = data_path(source, views, setup, ours=False)
    ours = data_path(source, views, setup, ours=True)
    contenders: list[Contender] = []

    def add(
        name: str,
        path: DataPath,
        backbone: str,
        most_views: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        model = build_model(backbone, setup, most_views)
        if contenders:
            model.load_state_dict(contenders[0].model.state_dict())
        if dtype is not None:  # as our test loop does it
            model.cls_head.register_forward_hook(_to_float)
        model.to(device)
        contenders.append(Contender(name, path, model, device, dtype))

    add(STOCK, stock, 'stock')
    add(f'{OURS}, stock ViT', ours, 'stock')
    add(OURS, ours, 'fused')
    for most in dict.fromkeys(max_testing_views):
        add(f'{OURS}, {most} views at once', ours, 'fused', most)
    if amp:
        add(f'{OURS}, bf16', ours, 'fused', dtype=torch.bfloat16)
    return contenders


def data_path(
    source: Source, views: str, setup: Setup, ours: bool
) -> DataPath:
    """The data set of a test, with its pipeline.

    Args:
        source: The videos.
        views: One of :data:`VIEWS`.
        setup: Sizes of the clips.
        ours: Whether it is ours, not that of stock MMAction2.
    """
    size = setup.img_size
    before: dict[str, Any] = dict(type='DecordInit', num_threads=1)
    decode: dict[str, Any] = dict(type='DecordDecode')
    end: dict[str, Any] = dict(type='FormatShape', input_format='NCTHW')
    if ours:
        before = dict(type='VideoInit', decoder='pyav')
        decode = dict(type='VideoDecode')
        end = dict(type='FormatClip', size=size)
    pipeline = [
        before,
        dict(VIEWS[views], clip_len=setup.num_frames, test_mode=True),
        decode,
        dict(type='Resize', scale=(-1, size)),
        dict(type='ThreeCrop', crop_size=size),
        end,
        dict(type='PackActionInputs'),
    ]
    dataset = dict(
        type='RobustVideoDataset' if ours else 'VideoDataset',
        ann_file=source.ann_file,
        data_prefix=dict(video=str(source.folder)),
        pipeline=pipeline,
        test_mode=True,
    )
    name = OURS if ours else STOCK
    collate = FUNCTIONS.get('pseudo_collate')
    return DataPath(name, DATASETS.build(dataset), 1, collate)


def build_model(
    backbone: str, setup: Setup, max_testing_views: int | None = None
) -> Any:
    """A recogniser of random weights, in evaluation mode.

    Args:
        backbone: ``'stock'`` or ``'fused'``.
        setup: Sizes of network and clips.
        max_testing_views: Most views that go through it at once. None: all.
    """
    config = recogniser_config(BACKBONES[backbone], setup)
    config['cls_head']['average_clips'] = 'prob'
    if max_testing_views:
        config['test_cfg'] = dict(max_testing_views=max_testing_views)
    model = MODELS.build(config).eval()
    # A random head gives all classes nearly the same probability, whatever
    # it sees: scores would be equal within any tolerance.
    with torch.no_grad():
        model.cls_head.fc_cls.weight.mul_(HEAD_SCALE)
    return model


def _to_float(head: nn.Module, args: Any, scores: Tensor) -> Tensor:
    return scores.float()
