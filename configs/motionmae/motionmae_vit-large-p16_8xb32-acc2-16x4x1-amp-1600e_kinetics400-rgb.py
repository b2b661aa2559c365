"""MotionMAE pre-training of ViT-L on Kinetics-400, 1600 epochs, 8 GPUs.

Expected result: not run by us; see the config that it inherits from, whose
batch size and learning rate it has.
Hardware: 8 GPUs x 8 videos x 4 clips of each x 2 accumulated batches = 512
clips a step.
Time: not measured by us; see tools/analysis/describe.py.
Command:
    bash tools/dist_train.sh configs/motionmae/THIS_FILE 8
"""

_base_ = [
    './motionmae_vit-large-p16_16xb32-16x4x1-amp-1600e_kinetics400-rgb.py'
]

optim_wrapper = dict(accumulative_counts=2)
