"""ViT-B, VideoMAE on HMDB51, fine-tuned on HMDB51.

The appearance-only baseline of the config that it inherits from; only the
first weights differ.

Expected result: not run by us; VideoMAE reports 62.6 % top-1.
Hardware and time: as in the config that it inherits from.
Command:
    bash tools/dist_train.sh configs/recognition/THIS_FILE 8 \
        --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
"""

_base_ = [
    './vit-base-p16_motionmae-hmdb51-pre_8xb16-16x2x1-amp-50e_hmdb51-rgb.py'
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/videomae_vit-base-p16_8xb24-16x2x1-amp-4'
            '800e_hmdb51-rgb/epoch_1200.pth',
        )
    )
)
