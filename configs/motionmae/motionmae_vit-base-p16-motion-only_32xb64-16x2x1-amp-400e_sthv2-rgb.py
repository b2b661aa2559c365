"""MotionMAE ViT-B on Something-Something V2: motion alone.

Without pixels. The paper finds motion alone about as good as pixels alone.

Expected result: not run by us; the paper finds motion alone about as good as
pixels alone.
Hardware and time: as in the config that it inherits from.
Command:
    GPUS=32 bash tools/slurm_train.sh PARTITION JOB \
        configs/motionmae/THIS_FILE
"""

_base_ = ['./motionmae_vit-base-p16_32xb64-16x2x1-amp-400e_sthv2-rgb.py']

model = dict(head=dict(pixel_weight=0.0))
