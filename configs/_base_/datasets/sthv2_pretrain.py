"""Something-Something V2: clips for pre-training, as of any videos.

Data: data/sthv2/videos and the list data/sthv2/train.txt;
how to get there is told in tools/data/sthv2/README.md. Labels are not needed.

Stride 2, VideoMAE's (scripts/ssv2).
"""

_base_ = ['./videos_pretrain.py']

data_root = 'data/sthv2'
train_pipeline = _base_.train_pipeline
train_pipeline[2]['frame_interval'] = 2
train_dataloader = dict(
    dataset=dict(
        ann_file=f'{data_root}/train.txt',
        data_prefix=dict(video=f'{data_root}/videos'),
        pipeline=train_pipeline,
    ),
)
