"""Any labelled videos: clips for fine-tuning, with VideoMAE's augmentation.

Data: the lists train.txt and val.txt in the folder that the environment
variable LISTS names (else data/videos), with paths relative to VIDEOS, as
tools/data/build_file_list.py writes them; NUM_CLASSES classes.

Training: 16 frames with stride 4 from a random start (shorter videos repeat
their last frame, also in testing, as VideoMAE's do), random resized crop,
flip, and on the device, through `augmentation`, RandAugment
rand-m7-n4-mstd0.5, random erasing 0.25, mixup 0.8 and CutMix 1.0, each drawn
once for all frames of a clip (VideoMAE's run_class_finetuning.py and
scripts/kinetics). RandAugment needs kornia:
pip install 'mmmotionmae[augment]'.
Testing: 5 x 3 views, all of a video in one batch.
"""

data_root = '{{$LISTS:data/videos}}'
num_classes = int('{{$NUM_CLASSES:10}}')
decoder = 'pyav'

augmentation = dict(
    type='AugmentingDataPreprocessor',
    rand_augment=dict(num_ops=4, magnitude=7, magnitude_std=0.5, prob=0.5),
    random_erasing=dict(prob=0.25),
    blending=dict(
        type='RandomBatchAugment',
        augments=[
            dict(type='MixupBlending', alpha=0.8, num_classes=num_classes),
            dict(type='CutmixBlending', alpha=1.0, num_classes=num_classes),
        ],
    ),
)
train_pipeline = [
    dict(type='SeedSample'),
    dict(type='VideoInit', decoder=decoder),
    dict(
        type='SampleFrames',
        clip_len=16,
        frame_interval=4,
        num_clips=1,
        out_of_bound_opt='repeat_last',
    ),
    dict(type='VideoDecode'),
    dict(
        type='RandomResizedCrop',
        area_range=(0.08, 1.0),
        aspect_ratio_range=(3 / 4, 4 / 3),
    ),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatClip', size=224),
    dict(type='PackActionInputs'),
]
val_pipeline = [
    dict(type='VideoInit', decoder=decoder),
    dict(
        type='SampleFrames',
        clip_len=16,
        frame_interval=4,
        num_clips=1,
        out_of_bound_opt='repeat_last',
        test_mode=True,
    ),
    dict(type='VideoDecode'),
    dict(type='Resize', scale=(-1, 224)),
    dict(type='CenterCrop', crop_size=224),
    dict(type='FormatClip', size=224),
    dict(type='PackActionInputs'),
]
test_pipeline = [
    dict(type='VideoInit', decoder=decoder),
    dict(
        type='SampleFrames',
        clip_len=16,
        frame_interval=4,
        num_clips=5,
        out_of_bound_opt='repeat_last',
        test_mode=True,
    ),
    dict(type='VideoDecode'),
    dict(type='Resize', scale=(-1, 224)),
    dict(type='ThreeCrop', crop_size=224),
    dict(type='FormatClip', size=224),
    dict(type='PackActionInputs'),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='SeededSampler', shuffle=True),
    dataset=dict(
        type='RobustVideoDataset',
        ann_file=f'{data_root}/train.txt',
        data_prefix=dict(video='{{$VIDEOS:data/videos}}'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='RobustVideoDataset',
        ann_file=f'{data_root}/val.txt',
        data_prefix=dict(video='{{$VIDEOS:data/videos}}'),
        pipeline=val_pipeline,
        test_mode=True,
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='RobustVideoDataset',
        ann_file=f'{data_root}/val.txt',
        data_prefix=dict(video='{{$VIDEOS:data/videos}}'),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
val_evaluator = dict(type='AccMetric')
test_evaluator = dict(type='AccReportMetric')
