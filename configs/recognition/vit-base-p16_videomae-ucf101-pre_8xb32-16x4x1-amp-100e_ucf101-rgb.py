"""ViT-B, VideoMAE on UCF101, fine-tuned on UCF101.

The appearance-only baseline of the config that it inherits from; only the
first weights differ.

Expected result: not run by us; VideoMAE reports 91.3 % top-1.
Hardware and time: as in the config that it inherits from.
Command:
    bash tools/dist_train.sh configs/recognition/THIS_FILE 8 \
        --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
"""

_base_ = [
    './vit-base-p16_motionmae-ucf101-pre_8xb32-16x4x1-amp-100e_ucf101-rgb.py'
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/videomae_vit-base-p16_8xb24-16x4x1-amp-3'
            '200e_ucf101-rgb/epoch_800.pth',
        )
    )
)
