"""Larger setting of the study, for GPUs: ten times the clips; see docs/study.

What `make study` runs where there is a GPU. ViT-S, clips of 16 frames of
112x112 pixels. Not run by us.
"""

_base_ = ['./small.py']

configs = dict(
    pretrain='configs/study/motionmae_vit-small-p16_1xb256-16x2x1-amp-5000e_study.py',
    finetune='configs/study/vit-small-p16_scratch_1xb64-16x2x1-amp-12e_study.py',
    vos='configs/study/vit-small-p16_label-propagation_davis2017.py',
)
pretrain_steps = 10_000
