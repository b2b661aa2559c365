"""ViT-L pre-trained with MotionMAE on UCF101, fine-tuned on UCF101.

The domain-specific setting of the paper, with MMAction2's own recognizer and
our drop-in for its ViT.

Expected result: not run by us; nobody has published a figure for this setting.
Hardware: 8 GPUs x 16 videos x 2 clips of each a step. With others use
--auto-scale-lr.
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
    './vit-base-p16_motionmae-ucf101-pre_8xb32-16x4x1-amp-100e_ucf101-rgb.py'
]

model = dict(
    backbone=dict(
        embed_dims=1024,
        depth=24,
        num_heads=16,
        init_cfg=dict(
            checkpoint='work_dirs/motionmae_vit-large-p16_8xb24-16x4x1-amp'
            '-3200e_ucf101-rgb/epoch_800.pth',
        ),
    ),
    cls_head=dict(in_channels=1024),
)
optim_wrapper = dict(paramwise_cfg=dict(num_layers=24))
