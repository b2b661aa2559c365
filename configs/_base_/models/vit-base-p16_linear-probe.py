"""A linear probe of a frozen ViT-B/16: MAE's head on the mean of all tokens.

The encoder keeps the final norm that it was pre-trained with, and gives all
tokens, a feature map.
"""

_base_ = ['./vit-base-p16.py']

model = dict(
    backbone=dict(
        type='FusedVisionTransformer',
        frozen_stages=12,  # all
        use_mean_pooling=False,
        return_feat_map=True,
        init_cfg=dict(type='Pretrained', prefix='backbone.'),
    ),
    cls_head=dict(
        _delete_=True,
        type='LinearProbeHead',
        in_channels=768,
        average_clips='prob',
    ),
)
