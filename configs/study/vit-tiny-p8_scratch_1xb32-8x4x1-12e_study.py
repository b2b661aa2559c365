"""Supervised training of the study, from scratch, sized for a CPU.

Pre-trained encoders are fine-tuned by the same file, which then says where
the first weights come from; `tools/study.py` does that. See docs/study.

Result: docs/study/README.md.
Hardware and time: one CPU core, 300 steps in half a minute.
Command: STUDY_DATA=DIR python tools/train.py THIS_FILE
"""

_base_ = ['../demo/vit-tiny-p8_scratch_1xb32-8x1x1-15e_moving-shapes.py']

data_root = '{{$STUDY_DATA:data/study}}'
cache_dir = '{{$STUDY_CACHE:work_dirs/study/frames}}'
num_frames, img_size = 8, 32

model = dict(
    backbone=dict(
        _delete_=True,
        type='VisionTransformer',
        img_size=img_size,
        patch_size=8,
        num_frames=num_frames,
        tubelet_size=2,
        embed_dims=96,
        depth=4,
        num_heads=4,
    ),
    cls_head=dict(
        num_classes=8,  # the study says how many
        in_channels=96,
        label_smooth_eps=0.1,
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
    dataset=dict(
        ann_file=f'{data_root}/train.txt',
        data_prefix=dict(video=data_root),
        pipeline=train_pipeline,
    ),
)
test_dataloader = dict(
    dataset=dict(
        ann_file=f'{data_root}/val.txt',
        data_prefix=dict(video=data_root),
        pipeline=test_pipeline,
    ),
)
val_dataloader = val_evaluator = val_cfg = None

max_epochs = 12
train_cfg = dict(
    _delete_=True, type='ResumableEpochLoop', max_epochs=max_epochs
)
optim_wrapper = dict(
    constructor='LearningRateDecayOptimizerConstructor',
    paramwise_cfg=dict(
        _delete_=True, decay_type='layer_wise', decay_rate=0.75, num_layers=4
    ),
    optimizer=dict(lr=1e-3, betas=(0.9, 0.999)),
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
    checkpoint=dict(interval=max_epochs), logger=dict(interval=20)
)
