"""MotionMAE with ViT-g/14 on 16 frames of 224x224 pixels, 2048 tokens.

VideoMAE V2's giant (arXiv 2303.16727): tubelets of 2x14x14 pixels, 40 blocks
of width 1408, MLPs of 6144. Decoder: 4 blocks of width 512, 8 heads, on half
of the masked tokens (dual masking). Activations are checkpointed, as there.
The paper has no ViT-g.

The masking transform of the pipeline needs `patch_size=14`, too.
"""

_base_ = ['./motionmae_vit-base-p16.py']

model = dict(
    data_preprocessor=dict(decoder_mask_ratio=0.5),
    backbone=dict(
        patch_size=14,
        embed_dims=1408,
        depth=40,
        num_heads=16,
        mlp_ratio=48 / 11,
        with_cp=True,
    ),
    neck=dict(embed_dims=512, depth=4, num_heads=8),
)
