"""MotionMAE pre-training of the study's larger setting, sized for one GPU.

ViT-S on clips of 16 frames of 112x112 pixels, ten times as many clips as in the
small one; else as there, the same masks, norms and data. See docs/study.

Expected result: not run by us.
Hardware and time: one GPU; 10,000 steps of 256 clips, not measured by us.
Command: STUDY_DATA=DIR python tools/train.py THIS_FILE
"""

_base_ = ['./motionmae_vit-tiny-p8_1xb64-8x4x1-400e_study.py']

cache_dir = '{{$STUDY_CACHE:work_dirs/study/frames}}'
num_frames, img_size, patch_size, tubelet_size = 16, 112, 16, 2

model = dict(
    backbone=dict(
        img_size=img_size,
        patch_size=patch_size,
        num_frames=num_frames,
        embed_dims=384,
        depth=12,
        num_heads=6,
    ),
    neck=dict(embed_dims=192, depth=4, num_heads=3),
)

train_pipeline = [
    dict(type='SeedSample'),
    dict(
        type='DecodeToMemory',
        short_side=img_size * 9 // 8,
        cache_dir=cache_dir,
    ),
    dict(
        type='RandomChoice',
        transforms=[
            [
                dict(
                    type='SampleFrames',
                    clip_len=num_frames,
                    frame_interval=interval,
                )
            ]
            for interval in (1, 2)
        ],
    ),
    dict(type='ArrayDecode'),
    dict(type='CenterCrop', crop_size=img_size * 9 // 8),
    dict(type='RandomCrop', size=img_size),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(
        type='TubeMasking',
        mask_ratio=0.5,
        patch_size=patch_size,
        tubelet_size=tubelet_size,
    ),
    dict(type='PackActionInputs', algorithm_keys=('mask',)),
]
train_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    dataset=dict(pipeline=train_pipeline),
)

max_epochs = 5000
train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    loss_scale=dict(enabled=False),
    optimizer=dict(lr=6e-4),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        begin=0,
        end=max_epochs // 40,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=max_epochs // 40,
        end=max_epochs,
        eta_min_ratio=0.01,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(checkpoint=dict(interval=max_epochs // 8))
auto_scale_lr = dict(base_batch_size=256)
