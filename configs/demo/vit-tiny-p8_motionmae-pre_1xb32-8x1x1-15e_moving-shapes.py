"""Fine-tuning of a pre-trained encoder on the labelled videos of `make demo`.

The network, data and schedule of the from-scratch config; only the first
weights differ.

Result: see the table that `make demo` prints.
Hardware and time: one CPU core, some seconds.
Command: python tools/train.py THIS_FILE --cfg-options \
    model.backbone.init_cfg.checkpoint=CHECKPOINT_OF_PRE_TRAINING
"""

_base_ = ['./vit-tiny-p8_scratch_1xb32-8x1x1-15e_moving-shapes.py']

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/motionmae_vit-tiny-p8_1xb32-8x1x1-40e_'
            'moving-shapes/epoch_40.pth',
            prefix='backbone.',
        )
    )
)
