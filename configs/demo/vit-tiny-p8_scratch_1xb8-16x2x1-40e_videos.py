"""Supervised training from scratch on labelled videos, sized for a CPU.

Data: DATA_ROOT/train_list.txt and DATA_ROOT/val_list.txt in MMAction2's
format, `path label` on each line, paths relative to DATA_ROOT.
Result: depends on the data; see docs/user_guides/finetune.md.
Hardware and time: two CPU cores, some minutes.
Command: DATA_ROOT=DIR python tools/train.py THIS_FILE --cfg-options \
    model.cls_head.num_classes=N
"""

_base_ = ['../_base_/default_runtime.py']

data_root = '{{$DATA_ROOT:data}}'
num_frames, img_size, patch_size, tubelet_size = 16, 64, 8, 2

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
        embed_dims=96,
        depth=4,
        num_heads=4,
    ),
    cls_head=dict(
        type='TimeSformerHead',
        num_classes=7,
        in_channels=96,
        average_clips='prob',
    ),
)

train_pipeline = [
    dict(type='SeedSample'),
    dict(type='VideoInit'),
    dict(
        type='SampleFrames',
        clip_len=num_frames,
        frame_interval=2,
        num_clips=1,
        out_of_bound_opt='repeat_last',
    ),
    dict(type='VideoDecode'),
    dict(type='Resize', scale=(-1, img_size * 9 // 8)),
    dict(type='RandomResizedCrop', area_range=(0.5, 1.0)),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatClip', size=img_size),
    dict(type='PackActionInputs'),
]
test_pipeline = [
    dict(type='VideoInit'),
    dict(
        type='SampleFrames',
        clip_len=num_frames,
        frame_interval=2,
        num_clips=3,
        out_of_bound_opt='repeat_last',
        test_mode=True,
    ),
    dict(type='VideoDecode'),
    dict(type='Resize', scale=(-1, img_size)),
    dict(type='CenterCrop', crop_size=img_size),
    dict(type='FormatClip', size=img_size),
    dict(type='PackActionInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='SeededSampler', shuffle=True),
    dataset=dict(
        type='RobustVideoDataset',
        ann_file=f'{data_root}/train_list.txt',
        data_prefix=dict(video=data_root),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='RobustVideoDataset',
        ann_file=f'{data_root}/val_list.txt',
        data_prefix=dict(video=data_root),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='AccMetric')
test_evaluator = dict(type='AccReportMetric')

max_epochs = 40
train_cfg = dict(
    type='ResumableEpochLoop', max_epochs=max_epochs, val_interval=10
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
        end=5,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=5,
        end=max_epochs,
        eta_min_ratio=0.01,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(checkpoint=dict(interval=10), logger=dict(interval=5))
auto_scale_lr = dict(base_batch_size=8)
