"""The true masks of DAVIS-2017 val, through a grid of 16x16 patches.

What the labels of patches keep of masks. On real videos no encoder comes near;
yet it is no bound, since propagated labels are soft. For patches of 8x8:
--cfg-options model.patch_size=8

Expected result: not run by us.
Hardware: a CPU.
Command: python tools/test.py THIS_FILE
"""

_base_ = ['../_base_/vos/davis2017_dino.py']

codec = {{_base_.model.codec}}
model = dict(_delete_=True, type='GridOracle', patch_size=16, codec=codec)
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadSequence', size=480, side='short', divisor=64),
            dict(type='LoadMasks', frames='all'),
            dict(type='PackSequence'),
        ]
    )
)
