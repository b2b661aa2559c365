"""VideoMAE ViT-S, frozen, on JHMDB split 1 by the protocol of SiamMAE and CropMAE.

Expected result: not run by us. VideoMAC's table has 41.0 PCK@0.1 and 67.9
PCK@0.2 for VideoMAE ViT-S of Kinetics-400, 1600 epochs.
Hardware: one GPU, or a CPU and patience.
Command: python tools/test.py THIS_FILE CHECKPOINT, one of pre-training without
the motion target.
"""

# The same network; only the weights differ.
_base_ = ['./motionmae_vit-small-p16_label-propagation-siammae_jhmdb.py']
