"""MotionMAE pre-training of ViT-S on any folder of videos, 800 epochs.

Expected result: depends on the videos.
Hardware: 8 GPUs x 16 videos x 4 clips of each = 512 clips a step. With others
use --auto-scale-lr.
Time: see tools/analysis/describe.py, whose --videos is the number of yours.
Command:
    VIDEOS=DIR bash tools/dist_train.sh configs/motionmae/THIS_FILE 8

The recipe is that of ViT-B, from which it inherits.
"""

_base_ = ['./motionmae_vit-base-p16_8xb64-16x4x1-amp-800e_videos-rgb.py']

model = dict(
    backbone=dict(embed_dims=384, depth=12, num_heads=6),
    neck=dict(embed_dims=192, depth=4, num_heads=3),
)
