"""Fine-tuning of ViT-B, pre-trained with MotionMAE, on Something-Something V2.

The domain-specific setting of the paper, with MMAction2's own recognizer.

Expected result: not run by us. The paper claims +1.2 % top-1 over the best
before it; VideoMAE, which it builds on, reports 69.6 after 800 epochs of
pre-training and 70.8 after 2400.
Hardware: 64 GPUs x 8 clips = 512 clips a step, as VideoMAE's. With fewer GPUs
use --auto-scale-lr.
Command:
    bash tools/dist_train.sh configs/recognition/THIS_FILE 8 --auto-scale-lr \
        --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT

The recipe is VideoMAE's for 800 epochs of pre-training (scripts/ssv2/
videomae_vit_base_patch16_224_tubemasking_ratio_0.9_epoch_800/finetune.sh):
learning rate 5e-4 * 512 / 256, layer decay 0.75, drop path 0.1, 5 of 50 epochs
of warm-up, cosine to 1e-6 * 512 / 256, weight decay 0.05. Mixed precision is
bfloat16 instead of float16.
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/sthv2_finetune.py',
]

num_layers = 12
model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='VisionTransformer',
        img_size=224,
        patch_size=16,
        num_frames=16,
        tubelet_size=2,
        embed_dims=768,
        depth=num_layers,
        num_heads=12,
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/motionmae_vit-base-p16_32xb64-16x2x1-amp-'
            '800e_sthv2-rgb/epoch_200.pth',
            prefix='backbone.',
        ),
    ),
    cls_head=dict(
        type='TimeSformerHead',
        in_channels=768,
        # VideoMAE's initial scale of the head, 0.001, times 0.02.
        init_std=2e-5,
        average_clips='prob',
    ),
)

batch_size, max_epochs, warmup_epochs = 512, 50, 5
train_cfg = dict(
    type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=5
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    loss_scale=dict(enabled=False),
    constructor='LearningRateDecayOptimizerConstructor',
    paramwise_cfg=dict(
        decay_rate=0.75, decay_type='layer_wise', num_layers=num_layers
    ),
    optimizer=dict(
        type='AdamW',
        lr=5e-4 * batch_size / 256,
        betas=(0.9, 0.999),
        weight_decay=0.05,
        fused=True,
    ),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6,
        by_epoch=True,
        begin=0,
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=warmup_epochs,
        end=max_epochs,
        eta_min_ratio=1e-6 / 5e-4,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=batch_size)
