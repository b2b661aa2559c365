"""MotionMAE pre-training of ViT-H on HMDB51, 4800 epochs.

Expected result: not run by us; neither the paper nor VideoMAE has a figure for
this size here.
Hardware: 8 GPUs x 6 videos x 4 clips of each = 192 clips a step. With fewer
GPUs keep the batch size with optim_wrapper.accumulative_counts, or let
--auto-scale-lr adapt the learning rate.
Time: not measured by us; see tools/analysis/describe.py.
Command:
    bash tools/dist_train.sh configs/motionmae/THIS_FILE 8
Data: see tools/data/hmdb51/README.md.

The recipe is that of ViT-B, from which it inherits; nobody has published one
for this size here.
"""

_base_ = ['./motionmae_vit-base-p16_8xb24-16x2x1-amp-4800e_hmdb51-rgb.py']

model = dict(
    backbone=dict(embed_dims=1280, depth=32, num_heads=16),
    neck=dict(embed_dims=640, depth=12, num_heads=8),
)
