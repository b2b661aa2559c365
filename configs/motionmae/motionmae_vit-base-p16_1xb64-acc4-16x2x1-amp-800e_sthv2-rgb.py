"""MotionMAE pre-training of ViT-B on SSv2, 800 epochs, one GPU.

Expected result: not run by us; see the config that it inherits from, whose
learning rate is scaled here to 256 clips.
Hardware: 1 GPU x 16 videos x 4 clips of each x 4 accumulated batches = 256
clips a step.
Time: not measured by us; work it out with tools/analysis/describe.py before
you start.
Command:
    python tools/train.py configs/motionmae/THIS_FILE
"""

_base_ = ['./motionmae_vit-base-p16_32xb64-16x2x1-amp-800e_sthv2-rgb.py']

batch_size = 256
optim_wrapper = dict(
    accumulative_counts=4,
    optimizer=dict(lr=_base_.base_lr * batch_size / 256),
)
auto_scale_lr = dict(base_batch_size=batch_size)
