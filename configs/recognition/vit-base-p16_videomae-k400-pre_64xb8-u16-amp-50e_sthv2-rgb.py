"""ViT-B, VideoMAE on Kinetics-400, fine-tuned on SSv2.

The appearance-only baseline of the config that it inherits from; only the
first weights differ.

Expected result: not run by us; nobody has published a figure for this setting.
Hardware and time: as in the config that it inherits from.
Command:
    GPUS=64 bash tools/slurm_train.sh PARTITION JOB \
        configs/recognition/THIS_FILE \
        --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
"""

_base_ = ['./vit-base-p16_motionmae-k400-pre_64xb8-u16-amp-50e_sthv2-rgb.py']

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/videomae_vit-base-p16_32xb64-16x4x1-amp-'
            '800e_kinetics400-rgb/epoch_200.pth',
        )
    )
)
