"""Factors of the study, one at a time, one seed; see docs/study.

`python tools/study.py THIS_FILE` runs all cells, those of small.py among them.
Each factor is MotionMAE with one change; masks and norms of motion are
crossed.
"""

from mmengine.config import Config

_base_ = ['./small.py']

pipeline = Config.fromfile(
    _base_.configs.pretrain  # type: ignore[attr-defined]
).train_dataloader.dataset.pipeline
sampling, masking = (f'train_dataloader.dataset.pipeline.{i}' for i in (2, 7))
difference = 'model.data_preprocessor.frame_difference'


def beside_pixels(target: str, **settings: object) -> dict[str, object]:
    """Another target in place of motion."""
    return {
        'model.head.motion_weight': 0.0,
        'model.targets': dict(
            pixel=dict(type='PixelTarget', norm='clip'),
            other=dict(type=target, **settings),
        ),
    }


def strides(*intervals: int) -> dict[str, object]:
    """Clips of frames so far apart."""
    return {
        f'{sampling}.transforms': [
            [dict(type='SampleFrames', clip_len=8, frame_interval=interval)]
            for interval in intervals
        ]
    }


def warm_up(target: str) -> dict[str, object]:
    """The weight of a target grows over the first half."""
    hook = dict(type='TargetWarmupHook', target=target, end=2000)
    return {'custom_hooks': [hook]}


factors = {
    'weights-4-1': {'model.head.pixel_weight': 4.0},
    'gradient-balance': {'model.head.balance': dict(type='GradientBalance')},
    'independent-decoders': {'model.neck.sharing': 'independent'},
    'warm-up-pixels': warm_up('pixel'),
    'warm-up-motion': warm_up('motion'),
    **{
        f'{mask.lower()}-{norm}': {
            f'{masking}.type': f'{mask}Masking',
            'model.head.motion_norm': norm,
        }
        for norm in ('clip', 'tubelet', 'tubelet-floor', 'none')
        for mask in ('Tube', 'Random', 'Frame')
        if (mask, norm) != ('Tube', 'clip')  # that is MotionMAE
    },
    **{
        f'videomae-{mask.lower()}': {
            f'{masking}.type': f'{mask}Masking',
            'model.head.motion_weight': 0.0,
        }
        for mask in ('Random', 'Frame')
    },
    'mask-0.75': {f'{masking}.mask_ratio': 0.75},
    'mask-0.9': {f'{masking}.mask_ratio': 0.9},
    'gap-2': {f'{difference}.gap': 2},
    'absolute': {f'{difference}.mode': 'absolute'},
    'stride-1': strides(1),
    'stride-4': strides(4),
    'pooled': {
        'model.targets': dict(
            pixel=dict(type='PixelTarget', norm='clip'),
            motion=dict(type='FrameDifferenceTarget', norm='clip', pool=2),
        )
    },
    'hog': beside_pixels('HOGTarget'),
    'tubelet-difference': beside_pixels('TubeletDifferenceTarget'),
    'flow': {
        **beside_pixels('FlowTarget', norm='clip'),
        'train_dataloader.dataset.pipeline': [
            *pipeline[:-1],
            dict(type='OpticalFlow', method='dis', preset='fast'),
            dict(type='PackActionInputs', algorithm_keys=('mask', 'flow')),
        ],
    },
    'twice-as-long': {'steps': 8000},
    'videomae-twice-as-long': {'steps': 8000, 'model.head.motion_weight': 0.0},
}
del Config, beside_pixels, strides, warm_up
