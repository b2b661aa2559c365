"""UCF101: clips for pre-training, as of any videos.

Data: data/ucf101/videos and the list data/ucf101/train_splitN.txt;
how to get there is told in tools/data/ucf101/README.md. Labels are not needed.

Split 1 of the three official ones, or that which the environment variable
SPLIT names; tools/run_splits.py runs all three.

Stride 4 and 75 % of the tokens masked, VideoMAE's (scripts/ucf101).
"""

_base_ = ['./videos_pretrain.py']

data_root = 'data/ucf101'
split = '{{$SPLIT:1}}'
train_pipeline = _base_.train_pipeline
train_pipeline[6]['mask_ratio'] = 0.75
train_dataloader = dict(
    dataset=dict(
        ann_file=f'{data_root}/train_split{split}.txt',
        data_prefix=dict(video=f'{data_root}/videos'),
        pipeline=train_pipeline,
    ),
)
