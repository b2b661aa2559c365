"""VideoMAE pre-training of ViT-B on SSv2, 800 epochs, 8 GPUs.

Expected result: not run by us; see the config that it inherits from, whose
batch size and learning rate it has. One pre-training of ViT-B with VideoMAE on
8 GPUs reached 68.3 % on Something-Something V2 where 64 reached 69.6 (its
author, MCG-NJU/VideoMAE, issue 64).
Hardware: 8 GPUs x 16 videos x 4 clips of each x 4 accumulated batches = 2048
clips a step.
Time: not measured by us; see tools/analysis/describe.py.
Command:
    bash tools/dist_train.sh configs/videomae/THIS_FILE 8
"""

_base_ = [
    '../motionmae/motionmae_vit-base-p16_8xb64-acc4-16x2x1-amp-800e_sthv2-rgb.py'
]

model = dict(head=dict(motion_weight=0.0))
