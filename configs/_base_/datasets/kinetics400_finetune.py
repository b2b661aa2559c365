"""Kinetics-400: labelled clips for fine-tuning.

Data: data/kinetics400/videos and the lists data/kinetics400/train.txt and
val.txt; how to get there is told in tools/data/kinetics400/README.md.

Stride 4; tested with 5 x 3 views, as in the paper.
"""

_base_ = ['./videos_finetune.py']

data_root = 'data/kinetics400'
num_classes = 400
augmentation = _base_.augmentation
augmentation['blending']['augments'][0]['num_classes'] = num_classes
augmentation['blending']['augments'][1]['num_classes'] = num_classes
train_dataloader = dict(
    dataset=dict(
        ann_file=f'{data_root}/train.txt',
        data_prefix=dict(video=f'{data_root}/videos'),
    ),
)
val_dataloader = dict(
    dataset=dict(
        ann_file=f'{data_root}/val.txt',
        data_prefix=dict(video=f'{data_root}/videos'),
    ),
)
test_dataloader = dict(
    dataset=dict(
        ann_file=f'{data_root}/val.txt',
        data_prefix=dict(video=f'{data_root}/videos'),
    ),
)
test_evaluator = dict(classes=f'{data_root}/classes.txt')
