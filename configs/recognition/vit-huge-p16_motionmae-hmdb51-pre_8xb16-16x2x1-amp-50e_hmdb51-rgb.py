"""ViT-H pre-trained with MotionMAE on HMDB51, fine-tuned on HMDB51.

The domain-specific setting of the paper, with MMAction2's own recognizer and
our drop-in for its ViT.

Expected result: not run by us; nobody has published a figure for this setting.
Hardware: 8 GPUs x 16 videos a step. With others use --auto-scale-lr.
Time: not measured by us; see tools/analysis/describe.py.
Command:
    bash tools/dist_train.sh configs/recognition/THIS_FILE 8 \
        --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
All three splits:
    python tools/run_splits.py configs/recognition/THIS_FILE --gpus 8 \
        --checkpoint CHECKPOINT

The recipe is that of ViT-B, from which it inherits; nobody has published one
for this size here.
"""

_base_ = [
    './vit-base-p16_motionmae-hmdb51-pre_8xb16-16x2x1-amp-50e_hmdb51-rgb.py'
]

model = dict(
    backbone=dict(
        type='FusedVisionTransformer',
        embed_dims=1280,
        depth=32,
        num_heads=16,
        init_cfg=dict(
            checkpoint='work_dirs/motionmae_vit-huge-p16_8xb24-16x2x1-amp-'
            '4800e_hmdb51-rgb/epoch_1200.pth',
        ),
    ),
    cls_head=dict(in_channels=1280),
)
optim_wrapper = dict(paramwise_cfg=dict(num_layers=32))
