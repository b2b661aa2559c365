"""MotionMAE ViT-B on Something-Something V2: masks for each time slot.

As many visible patches in every time slot, but others in each: what the
authors' own pictures show.

Expected result: not run by us; nobody has published a figure.
Hardware and time: as in the config that it inherits from.
Command:
    GPUS=32 bash tools/slurm_train.sh PARTITION JOB \
        configs/motionmae/THIS_FILE
"""

_base_ = ['./motionmae_vit-base-p16_32xb64-16x2x1-amp-400e_sthv2-rgb.py']

train_pipeline = _base_.train_pipeline
train_pipeline[6] = dict(
    type='RandomMasking', mask_ratio=0.9, patch_size=16, tubelet_size=2
)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
