"""MMAction2's recognizer with ViT-B/16 on 16 frames of 224x224 pixels.

All tokens are averaged, then normalised (`fc_norm`), then classified, as in
VideoMAE's fine-tuning.
"""

model = dict(
    type='Recognizer3D',
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        format_shape='NCTHW',
    ),
    backbone=dict(
        type='VisionTransformer',
        img_size=224,
        patch_size=16,
        num_frames=16,
        tubelet_size=2,
        embed_dims=768,
        depth=12,
        num_heads=12,
    ),
    cls_head=dict(
        type='TimeSformerHead', in_channels=768, average_clips='prob'
    ),
)
