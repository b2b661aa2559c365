"""A pre-trained ViT-L/16, to be fine-tuned as VideoMAE does it.

With `FusedVisionTransformer`, which has the arguments, keys and results of
MMAction2's `VisionTransformer`: that one keeps all attention maps, for which a
GPU of 80 GB has no room.
"""

_base_ = ['./vit-base-p16_finetune.py']

model = dict(
    backbone=dict(
        type='FusedVisionTransformer', embed_dims=1024, depth=24, num_heads=16
    ),
    cls_head=dict(in_channels=1024),
)
