"""HMDB51: labelled clips for fine-tuning.

Data: data/hmdb51/videos and the lists data/hmdb51/train_splitN.txt and
val_splitN.txt; how to get there is told in tools/data/hmdb51/README.md.

Split 1 of the three official ones, or that which the environment variable
SPLIT names; tools/run_splits.py runs all three.

Stride 4, as UCF101, tested with 10 x 3 views. The paper's recipe for HMDB51 is
not known.
"""

_base_ = ['./videos_finetune.py']

data_root = 'data/hmdb51'
split = '{{$SPLIT:1}}'
num_classes = 51
augmentation = _base_.augmentation
augmentation['blending']['augments'][0]['num_classes'] = num_classes
augmentation['blending']['augments'][1]['num_classes'] = num_classes
test_pipeline = _base_.test_pipeline
test_pipeline[1]['num_clips'] = 10
train_dataloader = dict(
    dataset=dict(
        ann_file=f'{data_root}/train_split{split}.txt',
        data_prefix=dict(video=f'{data_root}/videos'),
    ),
)
val_dataloader = dict(
    dataset=dict(
        ann_file=f'{data_root}/val_split{split}.txt',
        data_prefix=dict(video=f'{data_root}/videos'),
    ),
)
test_dataloader = dict(
    dataset=dict(
        ann_file=f'{data_root}/val_split{split}.txt',
        data_prefix=dict(video=f'{data_root}/videos'),
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(classes=f'{data_root}/classes.txt')
