"""VideoMAE pre-training of ViT-S on Something-Something V2, 2400 epochs.

The appearance-only baseline: MotionMAE's recipe and code, without motion.

Expected result: not run by us; VideoMAE reports 66.8 % top-1 after
fine-tuning.
Hardware and time: as in the config that it inherits from.
Command:
    GPUS=32 bash tools/slurm_train.sh PARTITION JOB \
        configs/videomae/THIS_FILE
"""

_base_ = [
    '../motionmae/motionmae_vit-small-p16_32xb64-16x2x1-amp-2400e_sthv2-rgb.py'
]

model = dict(head=dict(motion_weight=0.0))
