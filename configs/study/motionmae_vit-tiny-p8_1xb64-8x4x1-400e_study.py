"""MotionMAE pre-training of the study, on short clips, sized for a CPU.

What `tools/study.py` pre-trains; the arms and factors of the study are
changes of this file. See docs/study.

Result: docs/study/README.md.
Hardware and time: one CPU core, 4,000 steps in some 15 minutes.
Command: STUDY_DATA=DIR python tools/train.py THIS_FILE

A tiny network on clips of 8 frames of 32x32 pixels, 64 tokens. Half of the
tokens are masked, and targets are normalised over the clip: behind a mask of
90 % motion that is exact to the pixel cannot be told, see docs/study. Frames
are 2 or 4 apart, so that a video of 32 frames gives clips of 0.5 and 1 s.
"""

_base_ = ['../demo/motionmae_vit-tiny-p8_1xb32-8x1x1-40e_moving-shapes.py']

data_root = '{{$STUDY_DATA:data/study}}'
cache_dir = '{{$STUDY_CACHE:work_dirs/study/frames}}'
num_frames, img_size, patch_size, tubelet_size = 8, 32, 8, 2

model = dict(backbone=dict(embed_dims=96))

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
            for interval in (2, 4)
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
    batch_size=64,
    dataset=dict(
        ann_file=f'{data_root}/pretrain.txt',
        data_prefix=dict(video=data_root),
        pipeline=train_pipeline,
    ),
)

max_epochs = 400
train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
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
default_hooks = dict(
    checkpoint=dict(interval=max_epochs // 8, max_keep_ckpts=2),
    logger=dict(interval=50),
)
log_processor = dict(window_size=50)
auto_scale_lr = dict(base_batch_size=64)
