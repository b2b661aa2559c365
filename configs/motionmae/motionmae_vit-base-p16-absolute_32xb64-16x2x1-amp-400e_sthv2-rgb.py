"""MotionMAE ViT-B on Something-Something V2: the absolute difference.

The absolute value of the difference of frames, as the paper's text has it; the
authors' own pictures show a signed one.

Expected result: not run by us; nobody has published a figure.
Hardware and time: as in the config that it inherits from.
Command:
    GPUS=32 bash tools/slurm_train.sh PARTITION JOB \
        configs/motionmae/THIS_FILE
"""

_base_ = ['./motionmae_vit-base-p16_32xb64-16x2x1-amp-400e_sthv2-rgb.py']

model = dict(data_preprocessor=dict(frame_difference=dict(mode='absolute')))
