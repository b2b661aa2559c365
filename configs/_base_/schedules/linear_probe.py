"""MAE's schedule of linear probing, as far as it fits; not tuned.

MAE's (arXiv 2111.06377, appendix A.1): base learning rate 0.1 for 256 clips,
no weight decay, momentum 0.9, 10 epochs of warm-up, cosine to 0. Ours: plain
SGD instead of LARS, which PyTorch has not and which MAE needs for its batch of
16384; 100 epochs instead of 90; bfloat16.

The batch normalisation of the head takes its statistics from the clips of all
GPUs: MAE has 512 clips on each, enough by themselves. PyTorch does this on GPUs
only; several processes on CPUs need sync_bn=None.

A config that takes this says for how large a batch, and how fast: the
learning rate and `base_batch_size`.
"""

sync_bn = 'torch'
train_cfg = dict(type='ResumableEpochLoop', max_epochs=100, val_interval=10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    loss_scale=dict(enabled=False),
    optimizer=dict(type='SGD', momentum=0.9, weight_decay=0),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6,
        by_epoch=True,
        begin=0,
        end=10,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=10,
        end=100,
        eta_min=0,
        convert_to_iter_based=True,
    ),
]
