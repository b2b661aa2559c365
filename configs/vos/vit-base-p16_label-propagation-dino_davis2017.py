"""ViT-B, frozen, on DAVIS-2017 val by DINO's protocol.

Expected result: not run by us. MotionMAE's paper claims over 3 J&F more
than other masked autoencoders; its figures and protocol are not public.
Hardware: one GPU, or a CPU and patience.
Command: python tools/test.py THIS_FILE CHECKPOINT, one of any
pre-training (configs/motionmae, configs/videomae).
"""

_base_ = ['./vit-small-p16_label-propagation-dino_davis2017.py']

model = dict(backbone=dict(embed_dims=768, depth=12, num_heads=12))
