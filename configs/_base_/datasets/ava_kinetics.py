"""AVA-Kinetics: key frames with boxes of persons, as MMAction2 has it.

Data: frames in data/ava_kinetics/rawframes, lists and proposals in
data/ava_kinetics/annotations; MMAction2's tools/data/ava_kinetics/README.md
tells how to get there. Its train list holds the clips of AVA 2.2 and those of
Kinetics-700; evaluation is on AVA 2.2 val.

Training: 16 frames with stride 4 around the key frame, short side 256 to 320,
random crop of 256, flip. Testing: whole frames of short side 256.
"""

data_root = 'data/ava_kinetics/rawframes'
anno_root = 'data/ava_kinetics/annotations'
label_file = f'{anno_root}/ava_action_list_v2.2_for_activitynet_2019.pbtxt'
ann_file_val = f'{anno_root}/ava_val_v2.2.csv'
exclude_file_val = f'{anno_root}/ava_val_excluded_timestamps_v2.2.csv'

train_pipeline = [
    dict(type='SampleAVAFrames', clip_len=16, frame_interval=4),
    dict(type='RawFrameDecode'),
    dict(type='RandomRescale', scale_range=(256, 320)),
    dict(type='RandomCrop', size=256),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatShape', input_format='NCTHW', collapse=True),
    dict(type='PackActionInputs'),
]
val_pipeline = [
    dict(
        type='SampleAVAFrames', clip_len=16, frame_interval=4, test_mode=True
    ),
    dict(type='RawFrameDecode'),
    dict(type='Resize', scale=(-1, 256)),
    dict(type='FormatShape', input_format='NCTHW', collapse=True),
    dict(type='PackActionInputs'),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='AVAKineticsDataset',
        ann_file=f'{anno_root}/ava_train_v2.2.csv',
        exclude_file=f'{anno_root}/ava_train_excluded_timestamps_v2.2.csv',
        pipeline=train_pipeline,
        label_file=label_file,
        proposal_file=f'{anno_root}/ava_dense_proposals_train.FAIR.'
        'recall_93.9.pkl',
        data_prefix=dict(img=data_root),
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='AVAKineticsDataset',
        ann_file=ann_file_val,
        exclude_file=exclude_file_val,
        pipeline=val_pipeline,
        label_file=label_file,
        proposal_file=f'{anno_root}/ava_dense_proposals_val.FAIR.'
        'recall_93.9.pkl',
        data_prefix=dict(img=data_root),
        test_mode=True,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type='AVAMetric',
    ann_file=ann_file_val,
    label_file=label_file,
    exclude_file=exclude_file_val,
)
test_evaluator = val_evaluator
