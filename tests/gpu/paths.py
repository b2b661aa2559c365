# Copyright (c) MotionMAE contributors. All rights reserved.
"""What a GPU is used for, in small: on the CPU, or on the mock device.

Each path runs the same from the same seed on either, and gives what it
computed and, of each step or frame, where the host waited.
"""

import pathlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import mmengine.device.utils
import numpy as np
import torch
from conftest import TINY_BACKBONE, TINY_MODEL
from gpu_steps import collate, make_samples
from helpers.config_files import BY_STEM, read, shrink
from helpers.global_state import seed_everything
from helpers.inferencer_inputs import some_video
from helpers.small_sequences import CRW, DINO, PATCH, draw_sequence, pack
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from mock_device import NAME, MockGPU, Wait
from torch import Tensor

from mmmotionmae.apis import MotionMAEInferencer, extract_features
from mmmotionmae.apis.features.encoder import (
    ClipEncoder,
    FeatureSettings,
    find_encoder,
)
from mmmotionmae.models.data_preprocessors.video_augmentation import (
    _OPERATIONS,
)

STEPS = 3
CLASSES = 5


@dataclass
class Device:
    """The CPU, or the mock device.

    Attributes:
        gpu: None: the CPU.
    """

    gpu: MockGPU | None = None

    @property
    def name(self) -> str:
        """For ``to``."""
        return 'cpu' if self.gpu is None else NAME

    def recording(self) -> Any:
        """Record waits; on the CPU there are none."""
        if self.gpu is None:
            return nullcontext([])
        return self.gpu.recording()

    def pinned(self, tensor: Tensor) -> Tensor:
        """As a loader with ``pin_memory=True`` hands it over."""
        return tensor if self.gpu is None else tensor.pin_memory()


@dataclass
class Outcome:
    """Of a path on a device.

    Attributes:
        unit: What is counted: ``'step'``, ``'frame'``, ``'batch'``.
        values: What was computed, by name.
        waits: Of each unit.
    """

    unit: str
    values: dict[str, Tensor] = field(default_factory=dict)
    waits: list[list[Wait]] = field(default_factory=list)

    def add(self, values: Any, prefix: str) -> None:
        """Keep tensors of the device."""
        for name, value in dict(values).items():
            if isinstance(value, Tensor):
                self.values[f'{prefix}{name}'] = value.detach().cpu().clone()


Path = Callable[[Device], Outcome]


# ------------------------------------------------------------------ training


def some_clips(number: int, num_frames: int, side: int) -> Tensor:
    """Noise: uint8 (N, 3, T, H, W)."""
    return torch.randint(
        256, (number, 3, num_frames, side, side), dtype=torch.uint8
    )


def read_small(stem: str, **changes: Any) -> Config:
    """A config, shrunk, that trains in single precision."""
    cfg = shrink(read(BY_STEM[stem]), pathlib.Path('/nowhere'))
    for key in ('dtype', 'loss_scale'):
        cfg.optim_wrapper.pop(key, None)
    # Where gradients are nought but rounding, Adam's steps are not.
    cfg.optim_wrapper.update(type='OptimWrapper')
    if cfg.optim_wrapper.optimizer.type == 'AdamW':
        cfg.optim_wrapper.optimizer.eps = 1e-3
    cfg.merge_from_dict(changes)
    return cfg


def train(
    device: Device, stem: str, videos: int, clips: int, **changes: Any
) -> Outcome:
    """Some steps of a config's model, optimiser and end of a pipeline.

    Args:
        device: Where.
        stem: Of the config.
        videos: Of a batch.
        clips: Of a video.
        **changes: To the shrunk config, keys with ``__`` for dots.
    """
    cfg = read_small(
        stem, **{k.replace('__', '.'): changes[k] for k in changes}
    )
    counts = cfg.optim_wrapper.get('accumulative_counts', 1)
    model = MODELS.build(cfg.model)
    model.init_weights()
    batches = [
        collate(make_samples(cfg, videos, clips), device.gpu is not None)
        for _ in range(STEPS * counts)
    ]
    model = model.to(device.name).train()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    wrapper.initialize_count_status(model, 0, len(batches))
    outcome = Outcome('step')
    for number, batch in enumerate(batches):
        seed_everything()
        with device.recording() as waits:
            log = model.train_step(batch, wrapper)
        outcome.waits.append(waits)
        outcome.add(log, f'{number} ')
    outcome.add(model.named_parameters(), '')
    return outcome


BASE = 'motionmae_vit-base-p16'
PRETRAIN = f'{BASE}_32xb64-16x2x1-amp-400e_sthv2-rgb'


def pretrain(stem: str = PRETRAIN, **changes: Any) -> Path:
    """A path of pre-training: two videos of two clips each."""
    return partial(train, stem=stem, videos=2, clips=2, **changes)


def _variant(name: str) -> Path:
    return pretrain(f'{BASE}-{name}_32xb64-16x2x1-amp-400e_sthv2-rgb')


FINETUNE = (
    'vit-base-p16_motionmae-k400-pre_64xb8-16x4x1-amp-100e_kinetics400-rgb'
)
_MIXUP = dict(type='MixupBlending', alpha=0.8, num_classes=CLASSES)
_CUTMIX = dict(type='CutmixBlending', alpha=1.0, num_classes=CLASSES)


def finetune(
    backbone: str = 'FusedVisionTransformer',
    blending: dict | None = None,
    smoothing: float = 0.0,
    rand_augment: dict | None = None,
    random_erasing: dict | None = None,
    stem: str = FINETUNE,
) -> Path:
    """A path of fine-tuning: four videos; layer decay is the config's."""
    return partial(
        train,
        stem=stem,
        videos=4,
        clips=1,
        model__backbone__type=backbone,
        model__cls_head__num_classes=CLASSES,
        model__cls_head__label_smooth_eps=smoothing,
        model__data_preprocessor__blending=blending
        and dict(blending, _delete_=True),
        model__data_preprocessor__rand_augment=rand_augment,
        model__data_preprocessor__random_erasing=random_erasing,
    )


def probe(kind: str) -> Path:
    """A path of training a classifier of frozen features."""
    stem = next(
        stem
        for stem in BY_STEM
        if f'_{kind}-probe-' in stem and stem.endswith('_kinetics400-rgb')
    )

    def run(device: Device) -> Outcome:
        # MMEngine fetches the norm of gradients; in a run, DeferredRuntime-
        # InfoHook keeps it from that.
        return train(
            device,
            stem,
            videos=12,  # batch normalisation enlarges what rounding leaves
            clips=1,
            model__cls_head__num_classes=CLASSES,
            optim_wrapper__clip_grad=None,
        )

    return run


def augment(device: Device) -> Outcome:
    """Every operation of RandAugment, weak and strong, both ways."""
    clip = some_clips(1, 2, 24)[0].to(device.name)
    outcome = Outcome('operation')
    for name, operation in _OPERATIONS.items():
        for strength, sign in ((0.0, 1), (0.3, -1), (1.0, 1)):
            arguments: list[float] = []
            if operation.argument is not None:
                arguments.append(operation.argument(strength, sign))
            if operation.fills:
                arguments.append(128)
            with device.recording() as waits:
                frames = operation.apply(clip.transpose(0, 1), *arguments)
            outcome.waits.append(waits)
            outcome.add({f'{name} {strength} {sign}': frames}, '')
    return outcome


# ------------------------------------------------------------- whole runs


@contextmanager
def default_device(device: Device) -> Iterator[None]:
    """MMEngine's device."""
    before = mmengine.device.utils.DEVICE
    mmengine.device.utils.DEVICE = device.name
    try:
        yield
    finally:
        mmengine.device.utils.DEVICE = before


class _Samples(torch.utils.data.Dataset):
    metainfo: dict = {}

    def __init__(self, samples: list[dict]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict:
        return self.samples[index]


class _Ruler(Hook):
    """Attributes each wait to the iteration that it is in."""

    priority = 'LOWEST'

    def __init__(self, device: Device, outcome: Outcome) -> None:
        self.device, self.outcome = device, outcome
        self.before = 0

    def before_train_epoch(self, runner: Runner) -> None:
        self._done()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any, outputs: Any
    ) -> None:
        self.outcome.waits.append(self._done())
        self.outcome.add(outputs, f'{runner.iter} ')
        self._done()

    def _done(self) -> list[Wait]:
        gpu = self.device.gpu
        new = [] if gpu is None else gpu.waits[self.before :]
        self.before += len(new)
        return new


def run_config(
    device: Device,
    stem: str,
    videos: int,
    clips: int,
    ema: bool = False,
    **changes: Any,
) -> Outcome:
    """A training by MMEngine's runner with all hooks: 12 iterations.

    The log is written in iterations 5 and 10 and, as an epoch has 6, at the
    end of each.
    """
    cfg = read_small(
        stem, **{k.replace('__', '.'): changes[k] for k in changes}
    )
    samples = make_samples(cfg, 6 * videos, clips)
    outcome = Outcome('step')
    hooks: list[Any] = [dict(type='EMAHook', momentum=0.1)] if ema else []
    default = cfg.default_hooks
    default.logger.interval = 5
    for name in ('checkpoint', 'timed_checkpoint', 'export_backbone'):
        default.pop(name)
    with tempfile.TemporaryDirectory() as work_dir, default_device(device):
        runner = Runner(
            model=cfg.model,
            work_dir=work_dir,
            train_dataloader=dict(
                dataset=_Samples(samples),
                batch_size=videos,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=False),
                collate_fn=partial(collate, pinned=device.gpu is not None),
            ),
            train_cfg=dict(type='ResumableEpochLoop', max_epochs=2),
            optim_wrapper=cfg.optim_wrapper,
            default_hooks=default,
            custom_hooks=hooks,
            default_scope='mmaction',
            randomness=dict(seed=0),
            experiment_name=f'mock_{device.name}_{stem}',
        )
        runner.register_hook(_Ruler(device, outcome))
        with device.recording():
            runner.train()
    return outcome


# -------------------------------------------------------------- frozen


def segment(
    device: Device,
    form: dict,
    late: bool = False,
    flat: bool = False,
    **cfg: Any,
) -> Outcome:
    """Label propagation: the first wait brings the video.

    Args:
        device: Where.
        form: Of propagation.
        late: Whether an object comes later.
        flat: Whether all is of a few colours, so that patches are alike.
        **cfg: Other arguments of the model.
    """
    backbone = cfg.pop('backbone', dict(TINY_BACKBONE, img_size=48))
    model = MODELS.build(
        dict(type='LabelPropagation', backbone=backbone) | form | cfg
    )
    model.init_weights()
    model = model.to(device.name).eval()
    frames, masks = draw_sequence(6)
    if flat:
        frames = frames // 255 * 255
    video, sample = pack(
        frames, masks[: 4 if late else 1], late and {3: [200]}
    )
    batch = dict(inputs=[device.pinned(video)], data_samples=[sample])
    outcome = Outcome('frame')
    with torch.no_grad():
        with device.recording() as waits:
            data = model.data_preprocessor(batch)
        outcome.waits.append(waits)
        frames = model.label_frames(data['inputs'][0], data['data_samples'][0])
        for number in range(len(video)):
            with device.recording() as waits:
                mask = next(frames)
            outcome.waits.append(waits)
            outcome.add({str(number): torch.from_numpy(np.array(mask))}, '')
    return outcome


def classify(device: Device) -> Outcome:
    """The test of a classifier, up to its scores."""
    cfg = read_small(FINETUNE, **{'model.cls_head.num_classes': CLASSES})
    model = MODELS.build(cfg.model)
    model.init_weights()
    batch = collate(make_samples(cfg, 2, 2), device.gpu is not None)
    model = model.to(device.name).eval()
    outcome = Outcome('batch')
    with torch.no_grad(), device.recording() as waits:
        samples = model.test_step(batch)
    outcome.waits.append(waits)
    for i, sample in enumerate(samples):
        outcome.add(dict(score=sample.pred_score), f'{i} ')
    return outcome


def encode(device: Device) -> Outcome:
    """Features of six videos in three batches."""
    vit = MODELS.build(TINY_BACKBONE)
    vit.init_weights()
    videos = np.stack([some_video(seed=i) for i in range(6)])
    features = extract_features(
        vit,
        videos,
        num_workers=0,
        batch_size=2,
        device=device.name,
        progress=False,
    )
    outcome = Outcome('batch')
    outcome.add(dict(features=torch.from_numpy(features.values)), '')
    # What each batch waits for, without the start.
    settings = FeatureSettings(block=1)
    encoder = ClipEncoder(
        find_encoder(vit), settings, 8, 32, 1, 2, device.name
    )
    for number in range(3):
        clips = [*some_clips(2, 8, 32)[:, None]]
        with device.recording() as waits:
            rows = encoder(clips)
        outcome.waits.append(waits)
        outcome.add({str(number): torch.from_numpy(rows)}, '')
    return outcome


def infer(device: Device) -> Outcome:
    """Reconstruction and features of a video."""
    model = MODELS.build(TINY_MODEL)
    model.init_weights()
    inferencer = MotionMAEInferencer(
        model, device=device.name, show_progress=False
    )
    outcome = Outcome('video')
    with device.recording() as waits:
        found = inferencer(
            some_video(), features=True, return_datasamples=True
        )
    outcome.waits.append(waits)
    for i, sample in enumerate(found['predictions']):
        outcome.add(
            {k: v for k, v in sample.items() if isinstance(v, Tensor)}, f'{i} '
        )
    return outcome


PRETRAINING: dict[str, Path] = {
    'both targets': pretrain(),
    'pixels alone (VideoMAE)': pretrain(
        'videomae_vit-base-p16_32xb64-16x2x1-amp-800e_sthv2-rgb'
    ),
    'motion alone': _variant('motion-only'),
    'independent decoders': _variant('independent'),
    'absolute differences': _variant('absolute'),
    'random masks': _variant('random'),
    'optical flow': _variant('flow'),
    'HOG': _variant('hog'),
    'tubelet differences': _variant('tubelet-difference'),
    'half of the tokens decoded': pretrain(
        model__data_preprocessor__decoder_mask_ratio=0.5
    ),
    'cross-attention': pretrain(model__neck__attention='cross'),
    'balanced, by clip and with a floor': pretrain(
        model__head__balance=dict(),
        model__head__pixel_norm='clip',
        model__head__motion_norm='tubelet-floor',
    ),
    'not normalised': pretrain(
        model__head__pixel_norm='none', model__head__motion_norm='none'
    ),
    'activation checkpointing': pretrain(
        model__backbone__with_cp=True, model__neck__with_cp=True
    ),
    'four batches accumulated': pretrain(
        f'{BASE}_8xb64-acc4-16x2x1-amp-800e_sthv2-rgb'
    ),
    'a run with all hooks, gradients clipped': partial(
        run_config,
        stem=PRETRAIN,
        videos=2,
        clips=1,
        optim_wrapper__clip_grad=dict(max_norm=1.0),
    ),
}
FINETUNING: dict[str, Path] = {
    f'{kind}, {name} ViT': finetune(backbone, **options)  # type: ignore[arg-type]
    for name, backbone in (
        ('stock', 'VisionTransformer'),
        ('fused', 'FusedVisionTransformer'),
    )
    for kind, options in {
        'mixup, RandAugment, erasing': dict(
            blending=_MIXUP,
            rand_augment=dict(prob=1),
            random_erasing=dict(prob=1),
            smoothing=0.1,
        ),
        'CutMix': dict(blending=_CUTMIX),
        'hard labels': dict(),
        'hard labels, smoothed': dict(smoothing=0.1),
    }.items()
} | {
    'every operation of RandAugment': augment,
    'linear probe': probe('linear'),
    'attentive probe': probe('attentive'),
    'a run with all hooks and EMA': partial(
        run_config,
        stem=FINETUNE,
        videos=2,
        clips=1,
        ema=True,
        model__cls_head__num_classes=CLASSES,
        model__data_preprocessor__blending__augments=[_MIXUP, _CUTMIX],
    ),
}
FROZEN: dict[str, Path] = {
    "masks, DINO's form": partial(segment, form=DINO),
    "masks, CRW's form": partial(segment, form=CRW),
    'masks, a later object': partial(segment, form=DINO, late=True),
    'masks, rows in turn': partial(segment, form=DINO, max_affinities=200),
    'masks, raw pixels': partial(
        segment,
        form=DINO,
        backbone=dict(type='RawPixels', patch_size=PATCH),
    ),
    'masks, raw pixels of flat colours': partial(
        segment,
        form=DINO,
        flat=True,
        backbone=dict(type='RawPixels', patch_size=PATCH),
    ),
    'masks, clips of a window': partial(
        segment, form=DINO, features=dict(temporal='window')
    ),
    'testing a classifier': classify,
    'features': encode,
    'inferencer': infer,
}
PATHS = {
    **{f'pre-training: {name}': path for name, path in PRETRAINING.items()},
    **{f'fine-tuning: {name}': path for name, path in FINETUNING.items()},
    **{f'frozen: {name}': path for name, path in FROZEN.items()},
}
