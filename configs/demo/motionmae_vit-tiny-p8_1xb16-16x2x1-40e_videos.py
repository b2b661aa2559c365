"""MotionMAE pre-training on any folder of videos, sized for a CPU.

This is what `make demo VIDEOS=DIR` runs. For real training see
configs/motionmae/.

Result: a report with losses and reconstructions.
Hardware and time: two CPU cores, some minutes.
Command: VIDEOS=DIR python tools/train.py THIS_FILE

Clips of 16 frames of 64x64 pixels, 8x8x8 = 512 tokens. So that some minutes
on a CPU show something, 75 % of the tokens are masked instead of 90 %, and
the targets are normalised over the clip instead of over each tubelet, which
makes the coarse structure count more than texture and sensor noise.
"""

_base_ = ['../_base_/default_runtime.py']

num_frames, img_size, patch_size, tubelet_size = 16, 64, 8, 2

model = dict(
    type='MotionMAE',
    data_preprocessor=dict(type='MotionMAEDataPreprocessor'),
    backbone=dict(
        type='MotionMAEViT',
        img_size=img_size,
        patch_size=patch_size,
        num_frames=num_frames,
        tubelet_size=tubelet_size,
        embed_dims=96,
        depth=4,
        num_heads=4,
    ),
    neck=dict(type='MotionMAEDecoder', embed_dims=64, depth=2, num_heads=4),
    head=dict(type='MotionMAEHead', pixel_norm='clip', motion_norm='clip'),
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
    # The short side first, so that cropping keeps most of the picture.
    dict(type='Resize', scale=(-1, img_size * 9 // 8)),
    dict(
        type='MultiScaleCrop',
        input_size=img_size,
        scales=(1, 0.875, 0.75, 0.66),
        max_wh_scale_gap=1,
        random_crop=False,
        num_fixed_crops=5,
    ),
    dict(type='FormatClip', size=img_size),
    dict(
        type='TubeMasking',
        mask_ratio=0.75,
        patch_size=patch_size,
        tubelet_size=tubelet_size,
    ),
    dict(type='PackActionInputs', algorithm_keys=('mask',)),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='SeededSampler', shuffle=True),
    dataset=dict(
        type='RobustVideoDataset',
        data_prefix=dict(video='{{$VIDEOS:data/videos}}'),
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
        end=max_epochs // 10,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=max_epochs // 10,
        end=max_epochs,
        eta_min_ratio=0.01,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(
    checkpoint=dict(interval=10, max_keep_ckpts=2), logger=dict(interval=5)
)
auto_scale_lr = dict(base_batch_size=16)
