"""Segmentation of the study's larger setting: DAVIS, encoder frozen.

DINO's protocol on whole frames.

Expected result: not run by us.
Hardware and time: one GPU; not measured by us.
Command: python tools/test.py THIS_FILE CHECKPOINT_OF_PRE_TRAINING
"""

_base_ = ['../_base_/vos/davis2017_dino.py']

model = dict(
    backbone=dict(
        type='MotionMAEViT',
        img_size=112,
        patch_size=16,
        num_frames=16,
        tubelet_size=2,
        embed_dims=384,
        depth=12,
        num_heads=6,
    ),
)
