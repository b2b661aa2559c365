"""VideoMAE pre-training of ViT-S on HMDB51, 4800 epochs.

The appearance-only baseline: MotionMAE's recipe and code, without motion.

Expected result: not run by us; nobody has published a figure for this setting.
Hardware and time: as in the config that it inherits from.
Command:
    bash tools/dist_train.sh configs/videomae/THIS_FILE 8
"""

_base_ = [
    '../motionmae/motionmae_vit-small-p16_8xb24-16x2x1-amp-4800e_hmdb51-rgb.py'
]

model = dict(head=dict(motion_weight=0.0))
