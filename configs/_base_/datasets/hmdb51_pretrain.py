"""HMDB51: clips for pre-training, as of any videos.

Data: data/hmdb51/videos and the list data/hmdb51/train_splitN.txt;
how to get there is told in tools/data/hmdb51/README.md. Labels are not needed.

Split 1 of the three official ones, or that which the environment variable
SPLIT names; tools/run_splits.py runs all three.

Stride 2, EVEREST's (scripts/hmdb51); VideoMAE has published no script.
"""

_base_ = ['./videos_pretrain.py']

data_root = 'data/hmdb51'
split = '{{$SPLIT:1}}'
train_pipeline = _base_.train_pipeline
train_pipeline[2]['frame_interval'] = 2
train_dataloader = dict(
    dataset=dict(
        ann_file=f'{data_root}/train_split{split}.txt',
        data_prefix=dict(video=f'{data_root}/videos'),
        pipeline=train_pipeline,
    ),
)
