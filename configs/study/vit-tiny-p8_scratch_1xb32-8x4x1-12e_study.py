"""Supervised training of the study, from scratch, sized for a CPU.

Pre-trained encoders are fine-tuned by the same file, which then says where
the first weights come from; `tools/study.py` does that. See docs/study.

Result: docs/study/README.md.
Hardware and time: one CPU core, 300 steps in half a minute.
Command: STUDY_DATA=DIR python tools/train.py THIS_FILE
"""

_base_ = ['../_base_/default_runtime.py']

data_root = '{{$STUDY_DATA:data/study}}'
cache_dir = '{{$STUDY_CACHE:work_dirs/study/frames}}'
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
        embed_dims=96,
        depth=4,
        num_heads=4,
    ),
    cls_head=dict(
        type='TimeSformerHead',
        num_classes=8,  # the study says how many
        in_channels=96,
        label_smooth_eps=0.1,
        average_clips='prob',
    ),
)

decode = dict(
    type='DecodeToMemory', short_side=img_size * 9 // 8, cache_dir=cache_dir
)
train_pipeline = [
    dict(type='SeedSample'),
    decode,
    dict(type='SampleFrames', clip_len=num_frames, frame_interval=4),
    dict(type='ArrayDecode'),
    dict(type='CenterCrop', crop_size=img_size * 9 // 8),
    dict(type='RandomCrop', size=img_size),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
test_pipeline = [
    decode,
    dict(
        type='SampleFrames',
        clip_len=num_frames,
        frame_interval=4,
        test_mode=True,
    ),
    dict(type='ArrayDecode'),
    dict(type='CenterCrop', crop_size=img_size),
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
test_dataloader = dict(
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
test_evaluator = dict(type='AccMetric')
test_cfg = dict(type='TestLoop')

max_epochs = 12
train_cfg = dict(type='ResumableEpochLoop', max_epochs=max_epochs)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='LearningRateDecayOptimizerConstructor',
    paramwise_cfg=dict(decay_type='layer_wise', decay_rate=0.75, num_layers=4),
    optimizer=dict(
        type='AdamW',
        lr=1e-3,
        betas=(0.9, 0.999),
        weight_decay=0.05,
        fused=True,
    ),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        begin=0,
        end=1,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=1,
        end=max_epochs,
        eta_min_ratio=0.01,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(
    checkpoint=dict(interval=max_epochs, save_optimizer=False),
    logger=dict(interval=20),
)
auto_scale_lr = dict(base_batch_size=32)
