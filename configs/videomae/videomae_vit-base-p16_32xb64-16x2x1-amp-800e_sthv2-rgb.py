"""VideoMAE pre-training of ViT-B on Something-Something V2, 800 epochs.

The appearance-only baseline: MotionMAE's recipe and code, without motion.

Expected result: not run by us; VideoMAE reports 69.6 % top-1 after
fine-tuning.
Hardware and time: as in the config that it inherits from.
Command:
    GPUS=32 bash tools/slurm_train.sh PARTITION JOB \
        configs/videomae/THIS_FILE
"""

_base_ = [
    '../motionmae/motionmae_vit-base-p16_32xb64-16x2x1-amp-800e_sthv2-rgb.py'
]

model = dict(head=dict(motion_weight=0.0))
