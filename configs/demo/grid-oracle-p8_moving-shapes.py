"""The true masks of the sequences of `make demo`, through patches of 8x8.

Result: see the table that `make demo` prints.
Hardware and time: one CPU core, some seconds.
Command: python tools/test.py THIS_FILE
"""

_base_ = ['./vit-tiny-p8_label-propagation_moving-shapes.py']

model = dict(_delete_=True, type='GridOracle', patch_size=8)
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadSequence', size=(128, 128)),
            dict(type='LoadMasks', frames='all'),
            dict(type='PackSequence'),
        ]
    )
)
