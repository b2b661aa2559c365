"""ViT-B, MotionMAE on Kinetics-400, fine-tuned on SSv2.

The domain-generic setting of the paper, with MMAction2's own recognizer and
ViT.

Expected result: not run by us; the paper claims 2.2 points over MAE-ST.
Hardware: 64 GPUs x 8 videos a step. With others use --auto-scale-lr.
Time: not measured by us; see tools/analysis/describe.py.
Command:
    GPUS=64 bash tools/slurm_train.sh PARTITION JOB \
        configs/recognition/THIS_FILE \
        --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT

The recipe is that of the domain-specific setting, from which it inherits; the
paper's for this pair is not known. Only the first weights differ.
"""

_base_ = ['./vit-base-p16_motionmae-sthv2-pre_64xb8-u16-amp-50e_sthv2-rgb.py']

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/motionmae_vit-base-p16_32xb64-16x4x1-amp'
            '-800e_kinetics400-rgb/epoch_200.pth',
        ),
    ),
)
