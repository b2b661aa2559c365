"""MotionMAE pre-training of ViT-S on UCF101, 3200 epochs, one GPU.

Expected result: not run by us; see the config that it inherits from, whose
batch size and learning rate it has.
Hardware: 1 GPU x 6 videos x 4 clips of each x 8 accumulated batches = 192
clips a step.
Time: not measured by us; work it out with tools/analysis/describe.py before
you start.
Command:
    python tools/train.py configs/motionmae/THIS_FILE
"""

_base_ = ['./motionmae_vit-small-p16_8xb24-16x4x1-amp-3200e_ucf101-rgb.py']

optim_wrapper = dict(accumulative_counts=8)
