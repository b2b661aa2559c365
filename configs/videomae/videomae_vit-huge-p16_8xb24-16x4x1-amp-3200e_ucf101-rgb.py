"""VideoMAE pre-training of ViT-H on UCF101, 3200 epochs.

The appearance-only baseline: MotionMAE's recipe and code, without motion.

Expected result: not run by us; nobody has published a figure for this setting.
Hardware and time: as in the config that it inherits from.
Command:
    bash tools/dist_train.sh configs/videomae/THIS_FILE 8
"""

_base_ = [
    '../motionmae/motionmae_vit-huge-p16_8xb24-16x4x1-amp-3200e_ucf101-rgb.py'
]

model = dict(head=dict(motion_weight=0.0))
