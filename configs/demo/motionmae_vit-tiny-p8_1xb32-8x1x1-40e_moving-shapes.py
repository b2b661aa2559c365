"""MotionMAE pre-training on the generated videos of `make demo`.

Result: see the table that `make demo` prints.
Hardware and time: one CPU core, a few minutes.
Command: python tools/train.py THIS_FILE

A tiny network on tiny clips (8 frames of 32x32 pixels, 64 tokens), sized for
a CPU. It differs from the configs for real data in two more points, each of
which lets it learn in minutes instead of hours: half of the tokens are
masked, not 90 %, which would leave one of 16 places visible; and the targets
are normalised over the clip, not over each tubelet, because the backgrounds of
half of the videos are so smooth that the latter would blow up the noise of the
video codec.
"""

_base_ = ['../_base_/default_runtime.py']

data_root = '{{$DEMO_DATA:work_dirs/demo_data}}'
num_frames, img_size, patch_size, tubelet_size = 8, 32, 8, 2

model = dict(
    type='MotionMAE',
    data_preprocessor=dict(type='MotionMAEDataPreprocessor'),
    backbone=dict(
        type='MotionMAEViT',
        img_size=img_size,
        patch_size=patch_size,
        num_frames=num_frames,
        tubelet_size=tubelet_size,
        embed_dims=64,
        depth=4,
        num_heads=4,
    ),
    neck=dict(type='MotionMAEDecoder', embed_dims=64, depth=2, num_heads=4),
    head=dict(
        type='MotionMAEHead',
        pixel_weight=1.0,
        motion_weight=1.0,
        pixel_norm='clip',
        motion_norm='clip',
    ),
)

train_pipeline = [
    dict(type='SeedSample'),
    dict(type='DecodeToMemory'),
    dict(type='SampleFrames', clip_len=num_frames, frame_interval=1),
    dict(type='ArrayDecode'),
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
    batch_size=32,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='SeededSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='RobustVideoDataset',
        ann_file=f'{data_root}/pretrain.txt',
        data_prefix=dict(video=data_root),
        pipeline=train_pipeline,
    ),
)

max_epochs = 40
train_cfg = dict(type='ResumableEpochLoop', max_epochs=max_epochs)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW',
        lr=2e-3,
        betas=(0.9, 0.95),
        weight_decay=0.05,
        fused=True,
    ),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={'mask_token': dict(decay_mult=0.0)},
    ),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        begin=0,
        end=2,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=2,
        end=max_epochs,
        eta_min_ratio=0.01,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(checkpoint=dict(interval=10, max_keep_ckpts=2))
auto_scale_lr = dict(base_batch_size=32)
