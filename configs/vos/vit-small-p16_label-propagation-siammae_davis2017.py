"""ViT-S, frozen, on DAVIS-2017 val by the protocol of SiamMAE and CropMAE.

Expected result: not run by us. MotionMAE's paper claims over 3 J&F more
than other masked autoencoders; its figures and protocol are not public.
VideoMAC's table has 39.3 J&F (39.7 J, 38.9 F) for VideoMAE ViT-S of
Kinetics-400, 1600 epochs; how it turns a frame into a tubelet is not told.
Hardware: one GPU, or a CPU and patience.
Command: python tools/test.py THIS_FILE CHECKPOINT, one of any
pre-training (configs/motionmae, configs/videomae).

Each frame is repeated to fill a tubelet. Other features: --cfg-options
model.features.temporal=pair (or window), model.features.block=8, ... (see
ViTFeatures). Numbers of different features cannot be compared;
results/card.json tells which they are.
"""

_base_ = ['../_base_/vos/davis2017_siammae.py']

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
