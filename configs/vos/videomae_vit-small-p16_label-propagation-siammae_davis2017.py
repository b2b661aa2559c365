"""VideoMAE ViT-S, frozen, on DAVIS-2017 val by the protocol of SiamMAE and CropMAE.

Expected result: not run by us. VideoMAC's table has 39.3 J&F (39.7 J, 38.9 F)
for VideoMAE ViT-S of Kinetics-400, 1600 epochs; how it turns a frame into a
tubelet is not told.
Hardware: one GPU, or a CPU and patience.
Command: python tools/test.py THIS_FILE CHECKPOINT, one of pre-training without
the motion target.
"""

# The same network; only the weights differ.
_base_ = ['./motionmae_vit-small-p16_label-propagation-siammae_davis2017.py']
