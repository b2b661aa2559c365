"""MotionMAE ViT-L, frozen, on JHMDB split 1 by the protocol of SiamMAE and CropMAE.

Expected result: not run by us; the paper has none.
Hardware: one GPU, or a CPU and patience.
Command: python tools/test.py THIS_FILE CHECKPOINT, one of pre-training
(configs/motionmae).

Each frame is repeated to fill a tubelet. Other features: --cfg-options
model.features.temporal=pair (or window), model.features.block=8, ... (see
ViTFeatures). Numbers of different features cannot be compared;
results/card.json tells which they are.
"""

_base_ = ['../_base_/vos/jhmdb.py']

model = dict(
    backbone=dict(
        type='MotionMAEViT',
        img_size=224,  # of pre-training
        patch_size=16,
        num_frames=16,
        tubelet_size=2,
        embed_dims=1024,
        depth=24,
        num_heads=16,
    ),
    features=dict(temporal='repeat', block=-1, final_norm=True, facet='token'),
)
