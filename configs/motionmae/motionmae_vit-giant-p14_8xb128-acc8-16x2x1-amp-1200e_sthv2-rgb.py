"""MotionMAE pre-training of ViT-g on Something-Something V2, 1200 epochs, 8 GPUs.

Expected result: not run by us; see the config that it inherits from, whose
batch size and learning rate it has.
Hardware: 8 GPUs x 32 videos x 4 clips of each x 8 accumulated batches = 8192
clips a step.
Time: not measured by us; see tools/analysis/describe.py.
Command:
    bash tools/dist_train.sh configs/motionmae/THIS_FILE 8
"""

_base_ = ['./motionmae_vit-giant-p14_64xb128-16x2x1-amp-1200e_sthv2-rgb.py']

optim_wrapper = dict(accumulative_counts=8)
