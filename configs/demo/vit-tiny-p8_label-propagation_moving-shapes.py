"""Segmentation of the generated sequences of `make demo`, encoder frozen.

DINO's protocol, on frames of 128x128 pixels; positions are interpolated from
the 32x32 of pre-training.

Result: see the table that `make demo` prints.
Hardware and time: one CPU core, some seconds.
Command: python tools/test.py THIS_FILE CHECKPOINT_OF_PRE_TRAINING
"""

_base_ = ['../_base_/vos/davis2017_dino.py']

data_root = '{{$DEMO_DATA:work_dirs/demo_data}}'
model = dict(
    backbone=dict(
        type='MotionMAEViT',
        img_size=32,
        patch_size=8,
        num_frames=8,
        tubelet_size=2,
        embed_dims=64,
        depth=4,
        num_heads=4,
    ),
)
test_dataloader = dict(
    num_workers=0,
    prefetch_factor=None,
    dataset=dict(
        data_root=f'{data_root}/davis',
        pipeline=[
            dict(type='LoadSequence', size=(128, 128)),
            dict(type='LoadMasks'),
            dict(type='PackSequence'),
        ],
    ),
)
test_evaluator = dict(num_workers=0)
