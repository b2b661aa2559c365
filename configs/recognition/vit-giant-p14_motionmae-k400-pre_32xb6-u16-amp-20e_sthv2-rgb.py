"""ViT-g, MotionMAE on Kinetics-400, fine-tuned on SSv2.

The domain-generic setting of the paper, with MMAction2's own recognizer and
our drop-in for its ViT.

Expected result: not run by us; nobody has published a figure for this setting.
Hardware: 32 GPUs x 3 videos x 2 clips of each a step. With others use
--auto-scale-lr.
Time: not measured by us; see tools/analysis/describe.py.
Command:
    GPUS=32 bash tools/slurm_train.sh PARTITION JOB \
        configs/recognition/THIS_FILE \
        --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT

The recipe is that of the domain-specific setting, from which it inherits; the
paper's for this pair is not known. Only the first weights differ.
"""

_base_ = ['./vit-giant-p14_motionmae-sthv2-pre_32xb6-u16-amp-20e_sthv2-rgb.py']

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/motionmae_vit-giant-p14_64xb128-16x4x1-amp'
            '-1200e_kinetics400-rgb/epoch_300.pth',
        ),
    ),
)
