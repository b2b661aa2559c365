"""Supervised training of the study's larger setting, sized for one GPU.

As the small one, with ViT-S on clips of 16 frames of 112x112 pixels. See
docs/study.

Expected result: not run by us.
Hardware and time: one GPU; not measured by us.
Command: STUDY_DATA=DIR python tools/train.py THIS_FILE
"""

_base_ = ['./vit-tiny-p8_scratch_1xb32-8x4x1-12e_study.py']

cache_dir = '{{$STUDY_CACHE:work_dirs/study/frames}}'
num_frames, img_size = 16, 112

model = dict(
    backbone=dict(
        img_size=img_size,
        patch_size=16,
        num_frames=num_frames,
        embed_dims=384,
        depth=12,
        num_heads=6,
    ),
    cls_head=dict(in_channels=384),
)

decode = dict(
    type='DecodeToMemory', short_side=img_size * 9 // 8, cache_dir=cache_dir
)
train_pipeline = [
    dict(type='SeedSample'),
    decode,
    dict(type='SampleFrames', clip_len=num_frames, frame_interval=2),
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
        frame_interval=2,
        test_mode=True,
    ),
    dict(type='ArrayDecode'),
    dict(type='CenterCrop', crop_size=img_size),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
train_dataloader = dict(
    batch_size=64, num_workers=8, dataset=dict(pipeline=train_pipeline)
)
test_dataloader = dict(num_workers=8, dataset=dict(pipeline=test_pipeline))

optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    loss_scale=dict(enabled=False),
    paramwise_cfg=dict(num_layers=12),
)
auto_scale_lr = dict(base_batch_size=64)
