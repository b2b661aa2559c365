"""VideoMAE ViT-S, frozen, on VIP val by the protocol of SiamMAE and CropMAE.

Expected result: not run by us. VideoMAC's table has 22.3 mIoU for VideoMAE
ViT-S of Kinetics-400, 1600 epochs.
Hardware: one GPU, or a CPU and patience.
Command: python tools/test.py THIS_FILE CHECKPOINT, one of pre-training without
the motion target.
"""

# The same network; only the weights differ.
_base_ = ['./motionmae_vit-small-p16_label-propagation-siammae_vip.py']
