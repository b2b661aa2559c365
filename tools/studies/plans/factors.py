"""Factors of the study, one at a time, one seed; see docs/study.

`python tools/study.py THIS_FILE` runs all cells. Each factor is MotionMAE
with one change.
"""

_base_ = ['./small.py']

clip = dict(norm='clip')
masking = 'train_dataloader.dataset.pipeline.7'
sampling = 'train_dataloader.dataset.pipeline.2.transforms'
pixels_alone = {'model.head.motion_weight': 0.0}
difference = 'model.data_preprocessor.frame_difference'


def beside_pixels(**target: object) -> dict[str, object]:
    """Another target in place of motion."""
    return {
        **pixels_alone,
        'model.targets': dict(
            pixel=dict(type='PixelTarget', norm='clip'), other=target
        ),
    }


def strides(*intervals: int) -> dict[str, object]:
    """Clips of frames so far apart."""
    return {
        sampling: [
            [dict(type='SampleFrames', clip_len=8, frame_interval=interval)]
            for interval in intervals
        ]
    }


pretrain_seeds = (0,)
factors = {
    'independent-decoders': {'model.neck.sharing': 'independent'},
    'mask-random': {f'{masking}.type': 'RandomMasking'},
    'mask-frame': {f'{masking}.type': 'FrameMasking'},
    'mask-0.75': {f'{masking}.mask_ratio': 0.75},
    'mask-0.9': {f'{masking}.mask_ratio': 0.9},
    'motion-norm-tubelet': {'model.head.motion_norm': 'tubelet'},
    'motion-norm-none': {'model.head.motion_norm': 'none'},
    'weights-1-4': {'model.head.motion_weight': 4.0},
    'weights-4-1': {'model.head.pixel_weight': 4.0},
    'gap-2': {f'{difference}.gap': 2},
    'gap-4': {f'{difference}.gap': 4},
    'absolute': {f'{difference}.mode': 'absolute'},
    'stride-1': strides(1),
    'stride-4': strides(4),
}
del beside_pixels, strides
