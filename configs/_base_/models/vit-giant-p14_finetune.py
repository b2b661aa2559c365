"""A pre-trained ViT-g/14, to be fine-tuned as VideoMAE V2 does it.

With `FusedVisionTransformer`, as ViT-H.
"""

_base_ = ['./vit-base-p16_finetune.py']

model = dict(
    backbone=dict(
        type='FusedVisionTransformer',
        patch_size=14,
        embed_dims=1408,
        depth=40,
        num_heads=16,
        mlp_ratio=48 / 11,
    ),
    cls_head=dict(in_channels=1408),
)
