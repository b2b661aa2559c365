"""ViT-S, frozen, on VIP val by the protocol of SiamMAE and CropMAE.

Expected result: not run by us; MotionMAE's paper has none. VideoMAC's
table has 22.3 mIoU for VideoMAE ViT-S of Kinetics-400, 1600 epochs.
Hardware: one GPU, or a CPU and patience.
Command: python tools/test.py THIS_FILE CHECKPOINT, one of any
pre-training (configs/motionmae, configs/videomae).

Each frame is repeated to fill a tubelet. Other features: --cfg-options
model.features.temporal=pair (or window), model.features.block=8, ... (see
ViTFeatures). Numbers of different features cannot be compared;
results/card.json tells which they are.
"""

_base_ = ['../_base_/vos/vip.py']

model = dict(
    backbone=dict(
        type='MotionMAEViT',
        img_size=224,  # of pre-training
        patch_size=16,
        num_frames=16,
        tubelet_size=2,
        embed_dims=384,
        depth=12,
        num_heads=6,
    ),
    features=dict(temporal='repeat', block=-1, final_norm=True, facet='token'),
)
