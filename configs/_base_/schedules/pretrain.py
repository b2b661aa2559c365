"""VideoMAE's schedule of pre-training, without its numbers.

AdamW (0.9, 0.95), weight decay 0.05 except on biases, norms and the mask
token; warm-up, then cosine (run_mae_pretraining.py, its defaults and scripts).
Mixed precision is bfloat16 instead of float16, so that there is no loss scale.

A config that takes this says how long, for how large a batch, and how fast:
`train_cfg.max_epochs`, the learning rate, `end` and `begin` of the two
schedulers, `eta_min_ratio` and `base_batch_size`.
"""

train_cfg = dict(type='EpochBasedTrainLoop')
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    loss_scale=dict(enabled=False),
    optimizer=dict(
        type='AdamW', betas=(0.9, 0.95), weight_decay=0.05, fused=True
    ),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={'mask_token': dict(decay_mult=0.0)},
    ),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6,
        by_epoch=True,
        begin=0,
        convert_to_iter_based=True,
    ),
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True),
]
