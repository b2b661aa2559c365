"""A pre-trained ViT-S/16, to be fine-tuned as VideoMAE does it."""

_base_ = ['./vit-base-p16_finetune.py']

model = dict(
    backbone=dict(embed_dims=384, depth=12, num_heads=6),
    cls_head=dict(in_channels=384),
)
