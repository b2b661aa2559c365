"""Segmentation of the study: DAVIS by label propagation, encoder frozen.

DINO's protocol on frames of a quarter of its size, so that a patch of the
study's encoders, of 8 pixels, covers as much of the picture as one of 32.

Result: docs/study/README.md.
Hardware and time: one CPU core, some seconds a sequence.
Command: python tools/test.py THIS_FILE CHECKPOINT_OF_PRE_TRAINING
"""

_base_ = ['../_base_/vos/davis2017_dino.py']

model = dict(
    backbone=dict(
        type='MotionMAEViT',
        img_size=32,
        patch_size=8,
        num_frames=8,
        tubelet_size=2,
        embed_dims=96,
        depth=4,
        num_heads=4,
    ),
)
test_dataloader = dict(
    num_workers=0,
    prefetch_factor=None,
    dataset=dict(
        pipeline=[
            dict(type='LoadSequence', size=240, side='short', divisor=8),
            dict(type='LoadMasks'),
            dict(type='PackSequence'),
        ],
    ),
)
test_evaluator = dict(num_workers=0)
