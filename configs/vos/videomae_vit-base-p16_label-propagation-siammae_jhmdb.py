"""VideoMAE ViT-B, frozen, on JHMDB split 1 by the protocol of SiamMAE and CropMAE.

Expected result: not run by us.
Hardware: one GPU, or a CPU and patience.
Command: python tools/test.py THIS_FILE CHECKPOINT, one of pre-training without
the motion target.
"""

# The same network; only the weights differ.
_base_ = ['./motionmae_vit-base-p16_label-propagation-siammae_jhmdb.py']
