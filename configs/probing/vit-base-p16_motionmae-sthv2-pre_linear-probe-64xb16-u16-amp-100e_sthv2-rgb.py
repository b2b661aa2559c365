"""ViT-B, MotionMAE on SSv2, frozen: linear probe on SSv2.

Nothing of the encoder is trained, and nothing of it is kept for a backward
pass.

Expected result: not run by us; no published figure for MotionMAE. VideoMAE's
paper gives 38.9 % top-1 in its table 3; users report 33.9 with one view, 34.7
with 2 x 3 (MCG-NJU/VideoMAE, issue 57).
Hardware: 64 GPUs x 16 videos a step. With others use --auto-scale-lr.
Time: not measured by us.
Command:
    GPUS=64 bash tools/slurm_train.sh PARTITION JOB \
        configs/probing/THIS_FILE \
        --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT

Encoder, head, data and schedule are those of the config that it inherits from;
only the first weights differ.
"""

_base_ = [
    './vit-base-p16_motionmae-k400-pre_linear-probe-64xb16-u16-amp-100e_sthv2-rgb.py'
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/motionmae_vit-base-p16_32xb64-16x2x1-amp'
            '-800e_sthv2-rgb/epoch_200.pth',
        ),
    ),
)
