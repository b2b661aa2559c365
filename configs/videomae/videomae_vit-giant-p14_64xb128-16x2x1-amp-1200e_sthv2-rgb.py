"""VideoMAE pre-training of ViT-g on Something-Something V2, 1200 epochs.

The appearance-only baseline: MotionMAE's recipe and code, without motion.

Expected result: not run by us; VideoMAE V2 reports 77.0 % top-1 after
fine-tuning, pre-trained on 1.35 million videos.
Hardware and time: as in the config that it inherits from.
Command:
    GPUS=64 bash tools/slurm_train.sh PARTITION JOB \
        configs/videomae/THIS_FILE
"""

_base_ = [
    '../motionmae/motionmae_vit-giant-p14_64xb128-16x2x1-amp-1200e_sthv2-rgb.py'
]

model = dict(head=dict(motion_weight=0.0))
