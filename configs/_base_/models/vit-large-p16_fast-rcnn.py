"""Fast R-CNN for actions, with ViT-L/16, as MMAction2 has it for VideoMAE."""

_base_ = ['./vit-base-p16_fast-rcnn.py']

model = dict(
    backbone=dict(embed_dims=1024, depth=24, num_heads=16),
    roi_head=dict(bbox_head=dict(in_channels=1024)),
)
