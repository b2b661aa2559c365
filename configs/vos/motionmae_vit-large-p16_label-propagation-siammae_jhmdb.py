"""MotionMAE ViT-L, frozen, on JHMDB split 1 by the protocol of SiamMAE and CropMAE.

Expected result: not run by us; the paper has none.
Hardware: one GPU, or a CPU and patience.
Command: python tools/test.py THIS_FILE CHECKPOINT, one of pre-training
(configs/motionmae).
"""

_base_ = ['./motionmae_vit-small-p16_label-propagation-siammae_jhmdb.py']

model = dict(backbone=dict(embed_dims=1024, depth=24, num_heads=16))
