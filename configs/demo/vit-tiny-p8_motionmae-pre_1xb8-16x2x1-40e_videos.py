"""Fine-tuning on labelled videos of one's own, sized for a CPU.

The network, data and schedule of the from-scratch config; only the first
weights differ.

Result: depends on the data; see docs/user_guides/finetune.md.
Hardware and time: two CPU cores, some minutes.
Command: DATA_ROOT=DIR python tools/train.py THIS_FILE --cfg-options \
    model.cls_head.num_classes=N \
    model.backbone.init_cfg.checkpoint=CHECKPOINT_OF_PRE_TRAINING
"""

_base_ = ['./vit-tiny-p8_scratch_1xb8-16x2x1-40e_videos.py']

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/demo_videos/pretrain/epoch_40.pth',
            prefix='backbone.',
        )
    )
)
