"""Any folder of videos: clips for pre-training, with VideoMAE's augmentation.

Data: all videos below the folder that the environment variable VIDEOS names,
else data/videos. Labels are not needed.

Every video is decoded once and gives `num_repeats` clips, each with a crop
and a mask of its own; so an epoch over the videos is worth `num_repeats`
epochs. VideoMAE itself decodes a video for every clip; MGMAE, VideoMAE V2 and
MAE-ST repeat as here.
Clips: 16 frames, stride 4 (VideoMAE's for Kinetics-400); a video that is
shorter repeats its last frame, as VideoMAE's do, where MMAction2 by default
begins anew: a jump that would become a motion target. Multi-scale crop, no
flip. `decoder` may be 'pyav', 'decord' or 'opencv'; they give the same frames.
"""

data_root = '{{$VIDEOS:data/videos}}'
decoder = 'pyav'
num_repeats = 4

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
    # From here on once for each clip.
    dict(
        type='MultiScaleCrop',
        input_size=224,
        scales=(1, 0.875, 0.75, 0.66),
        max_wh_scale_gap=1,
        random_crop=False,
        num_fixed_crops=13,
    ),
    dict(type='FormatClip', size=224),
    dict(type='TubeMasking', mask_ratio=0.9, patch_size=16, tubelet_size=2),
    dict(type='PackActionInputs', algorithm_keys=('mask',)),
]
train_dataloader = dict(
    batch_size=64 // num_repeats,  # videos; 64 clips
    num_workers=10,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='SeededSampler', shuffle=True),
    collate_fn=dict(type='repeat_pseudo_collate'),
    dataset=dict(
        type='RobustVideoDataset',
        data_prefix=dict(video=data_root),
        num_repeats=num_repeats,
        pipeline=train_pipeline,
    ),
)
