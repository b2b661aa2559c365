"""MotionMAE with ViT-H/16 on 16 frames of 224x224 pixels, 1568 tokens.

Decoder: 12 blocks of width 640, 8 heads, VideoMAE's for this size. The paper
has no ViT-H.
"""

_base_ = ['./motionmae_vit-base-p16.py']

model = dict(
    backbone=dict(embed_dims=1280, depth=32, num_heads=16),
    neck=dict(embed_dims=640, depth=12, num_heads=8),
)
