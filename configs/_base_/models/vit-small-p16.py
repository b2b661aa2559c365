"""MMAction2's recognizer with ViT-S/16 on 16 frames of 224x224 pixels."""

_base_ = ['./vit-base-p16.py']

model = dict(
    backbone=dict(embed_dims=384, depth=12, num_heads=6),
    cls_head=dict(in_channels=384),
)
