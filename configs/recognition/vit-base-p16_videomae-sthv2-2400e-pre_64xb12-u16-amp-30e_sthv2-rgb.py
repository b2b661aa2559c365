"""ViT-B, VideoMAE on SSv2, fine-tuned on SSv2.

The appearance-only baseline of the config that it inherits from; only the
first weights differ.

Expected result: not run by us; VideoMAE reports 70.8 % top-1.
Hardware and time: as in the config that it inherits from.
Command:
    GPUS=64 bash tools/slurm_train.sh PARTITION JOB \
        configs/recognition/THIS_FILE \
        --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
"""

_base_ = [
    './vit-base-p16_motionmae-sthv2-2400e-pre_64xb12-u16-amp-30e_sthv2-rgb.py'
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/videomae_vit-base-p16_32xb64-16x2x1-amp-'
            '2400e_sthv2-rgb/epoch_600.pth',
        )
    )
)
