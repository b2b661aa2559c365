"""The true masks of DAVIS-2017 val through a grid of patches: the ceiling.

Nothing that labels 16x16 patches can be better. For patches of 8x8:
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
