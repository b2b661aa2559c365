"""Kinetics-400: clips for pre-training, as of any videos.

Data: data/kinetics400/videos and the list data/kinetics400/train.txt;
how to get there is told in tools/data/kinetics400/README.md. Labels are not needed.

Stride 4, VideoMAE's (scripts/kinetics).
"""

_base_ = ['./videos_pretrain.py']

data_root = 'data/kinetics400'
train_dataloader = dict(
    dataset=dict(
        ann_file=f'{data_root}/train.txt',
        data_prefix=dict(video=f'{data_root}/videos'),
    ),
)
