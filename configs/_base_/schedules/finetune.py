"""VideoMAE's schedule of fine-tuning, without its numbers.

AdamW (0.9, 0.999), weight decay 0.05 except on biases and norms, layer decay,
5 epochs of warm-up, then cosine (run_class_finetuning.py, its defaults and
scripts). Mixed precision is bfloat16 instead of float16.

A config that takes this says how long, for how large a batch, and how fast:
`train_cfg.max_epochs`, the learning rate and its layer decay, `end` and
`eta_min_ratio` of the cosine, and `base_batch_size`.
"""

train_cfg = dict(type='ResumableEpochLoop', val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    loss_scale=dict(enabled=False),
    constructor='LearningRateDecayOptimizerConstructor',
    paramwise_cfg=dict(decay_type='layer_wise'),
    optimizer=dict(
        type='AdamW', betas=(0.9, 0.999), weight_decay=0.05, fused=True
    ),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6,
        by_epoch=True,
        begin=0,
        end=5,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=5,
        convert_to_iter_based=True,
    ),
]
