"""MotionMAE ViT-B, frozen, on VIP val by the protocol of SiamMAE and CropMAE.

Expected result: not run by us; the paper has none.
Hardware: one GPU, or a CPU and patience.
Command: python tools/test.py THIS_FILE CHECKPOINT, one of pre-training
(configs/motionmae).
"""

_base_ = ['./motionmae_vit-small-p16_label-propagation-siammae_vip.py']

model = dict(backbone=dict(embed_dims=768, depth=12, num_heads=12))
