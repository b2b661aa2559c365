"""Something-Something V2: labelled clips for fine-tuning.

Data: data/sthv2/videos and the lists data/sthv2/train.txt and
val.txt; how to get there is told in tools/data/sthv2/README.md.

16 frames spread over the whole video, as in TSN, and no flip, since classes
tell left from right (VideoMAE, scripts/ssv2). Tested with 2 x 3 views, as in
the paper.
"""

_base_ = ['./videos_finetune.py']

data_root = 'data/sthv2'
num_classes = 174
augmentation = _base_.augmentation
augmentation['blending']['augments'][0]['num_classes'] = num_classes
augmentation['blending']['augments'][1]['num_classes'] = num_classes
train_pipeline, val_pipeline, test_pipeline = (
    _base_.train_pipeline,
    _base_.val_pipeline,
    _base_.test_pipeline,
)
del train_pipeline[5]  # Flip
train_pipeline[2] = dict(type='UniformSample', clip_len=16, num_clips=1)
val_pipeline[1] = dict(
    type='UniformSample', clip_len=16, num_clips=1, test_mode=True
)
test_pipeline[1] = dict(
    type='UniformSample', clip_len=16, num_clips=2, test_mode=True
)
train_dataloader = dict(
    dataset=dict(
        ann_file=f'{data_root}/train.txt',
        data_prefix=dict(video=f'{data_root}/videos'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        ann_file=f'{data_root}/val.txt',
        data_prefix=dict(video=f'{data_root}/videos'),
        pipeline=val_pipeline,
    ),
)
test_dataloader = dict(
    dataset=dict(
        ann_file=f'{data_root}/val.txt',
        data_prefix=dict(video=f'{data_root}/videos'),
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(classes=f'{data_root}/classes.txt')
