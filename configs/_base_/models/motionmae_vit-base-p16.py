"""MotionMAE with ViT-B/16 on 16 frames of 224x224 pixels, 1568 tokens.

Decoder: 4 blocks of width 384, the paper's best; 6 heads as in VideoMAE.
"""

model = dict(
    type='MotionMAE',
    data_preprocessor=dict(
        type='MotionMAEDataPreprocessor',
        frame_difference=dict(
            type='FrameDifference', mode='signed', gap=1, first='repeat'
        ),
    ),
    backbone=dict(
        type='MotionMAEViT',
        img_size=224,
        patch_size=16,
        num_frames=16,
        tubelet_size=2,
        embed_dims=768,
        depth=12,
        num_heads=12,
    ),
    neck=dict(
        type='MotionMAEDecoder',
        sharing='shared',
        embed_dims=384,
        depth=4,
        num_heads=6,
    ),
    head=dict(
        type='MotionMAEHead',
        pixel_weight=1.0,
        motion_weight=1.0,
        pixel_norm='tubelet',
        motion_norm='tubelet',
        loss=dict(type='MaskedReconstructionLoss', criterion='L2'),
    ),
)
