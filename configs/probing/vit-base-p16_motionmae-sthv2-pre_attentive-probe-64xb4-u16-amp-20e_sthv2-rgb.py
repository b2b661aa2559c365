"""ViT-B, MotionMAE on SSv2, frozen: attentive probe on SSv2.

Nothing of the encoder is trained, and nothing of it is kept for a backward
pass.

Expected result: not run by us; no published figure for MotionMAE. V-JEPA
reports 69.5 % top-1 for its own ViT-L, with 2 x 3 views and attention across
segments.
Hardware: 64 GPUs x 4 videos a step. With others use --auto-scale-lr.
Time: not measured by us.
Command:
    GPUS=64 bash tools/slurm_train.sh PARTITION JOB \
        configs/probing/THIS_FILE \
        --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT

Encoder, head, data and schedule are those of the config that it inherits from;
only the first weights differ.
"""

_base_ = [
    './vit-base-p16_motionmae-k400-pre_attentive-probe-64xb4-u16-amp-20e_sthv2-rgb.py'
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/motionmae_vit-base-p16_32xb64-16x2x1-amp'
            '-800e_sthv2-rgb/epoch_200.pth',
        ),
    ),
)
