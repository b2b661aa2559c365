"""MotionMAE with ViT-L/16 on 16 frames of 224x224 pixels, 1568 tokens.

Decoder: 12 blocks of width 512, 8 heads, VideoMAE's for this size; the paper
does not state its own.
"""

_base_ = ['./motionmae_vit-base-p16.py']

model = dict(
    backbone=dict(embed_dims=1024, depth=24, num_heads=16),
    neck=dict(embed_dims=512, depth=12, num_heads=8),
)
