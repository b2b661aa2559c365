"""MotionMAE with ViT-S/16 on 16 frames of 224x224 pixels, 1568 tokens.

Decoder: 4 blocks of width 192, 3 heads, VideoMAE's for this size.
"""

_base_ = ['./motionmae_vit-base-p16.py']

model = dict(
    backbone=dict(embed_dims=384, depth=12, num_heads=6),
    neck=dict(embed_dims=192, depth=4, num_heads=3),
)
