"""Supervised training from scratch on the labelled videos of `make demo`.

Only stock parts of MMAction2: Recognizer3D, VisionTransformer,
TimeSformerHead, AccMetric.

Result: see the table that `make demo` prints.
Hardware and time: one CPU core, some seconds.
Command: python tools/train.py THIS_FILE
"""

_base_ = ['../_base_/default_runtime.py']

data_root = '{{$DEMO_DATA:work_dirs/demo_data}}'
num_frames, img_size, patch_size, tubelet_size = 8, 32, 8, 2

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
        img_size=img_size,
        patch_size=patch_size,
        num_frames=num_frames,
        tubelet_size=tubelet_size,
        embed_dims=64,
        depth=4,
        num_heads=4,
        drop_path_rate=0.05,
    ),
    cls_head=dict(
        type='TimeSformerHead',
        num_classes=8,
        in_channels=64,
        average_clips='prob',
    ),
)

train_pipeline = [
    dict(type='SeedSample'),
    dict(type='DecodeToMemory'),
    dict(type='SampleFrames', clip_len=num_frames, frame_interval=1),
    dict(type='ArrayDecode'),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
test_pipeline = [
    dict(type='DecodeToMemory'),
    dict(
        type='SampleFrames',
        clip_len=num_frames,
        frame_interval=1,
        test_mode=True,
    ),
    dict(type='ArrayDecode'),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='SeededSampler', shuffle=True),
    dataset=dict(
        type='RobustVideoDataset',
        ann_file=f'{data_root}/train.txt',
        data_prefix=dict(video=data_root),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='RobustVideoDataset',
        ann_file=f'{data_root}/val.txt',
        data_prefix=dict(video=data_root),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='AccMetric')
test_evaluator = val_evaluator

max_epochs = 15
train_cfg = dict(
    type='ResumableEpochLoop', max_epochs=max_epochs, val_interval=max_epochs
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05, fused=True),
    paramwise_cfg=dict(
        norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0
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
default_hooks = dict(
    checkpoint=dict(interval=max_epochs, save_optimizer=False),
    logger=dict(interval=5),
)
auto_scale_lr = dict(base_batch_size=32)
