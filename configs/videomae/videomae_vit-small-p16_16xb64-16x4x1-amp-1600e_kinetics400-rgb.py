"""VideoMAE pre-training of ViT-S on Kinetics-400, 1600 epochs.

The appearance-only baseline: MotionMAE's recipe and code, without motion.

Expected result: not run by us; VideoMAE reports 79.0 % top-1 after
fine-tuning.
Hardware and time: as in the config that it inherits from.
Command:
    GPUS=16 bash tools/slurm_train.sh PARTITION JOB \
        configs/videomae/THIS_FILE
"""

_base_ = [
    '../motionmae/motionmae_vit-small-p16_16xb64-16x4x1-amp-1600e_kinetics400-rgb.py'
]

model = dict(head=dict(motion_weight=0.0))
