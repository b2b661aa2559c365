"""A pre-trained ViT-B/16, to be fine-tuned as VideoMAE does it.

A config that takes this says which checkpoint, the number of classes, and the
data preprocessor, that of its data set. Drop path is 0.1 unless it says other.
"""

_base_ = ['./vit-base-p16.py']

model = dict(
    backbone=dict(
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', prefix='backbone.'),
    ),
    cls_head=dict(
        label_smooth_eps=0.1,
        init_std=0.001 * 0.02,  # VideoMAE's init_scale of the head
    ),
)
