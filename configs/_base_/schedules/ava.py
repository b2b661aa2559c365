"""MMAction2's schedule of VideoMAE on AVA: 20 epochs, 64 clips a step.

AdamW, weight decay 0.05 except on biases and norms, layer decay, 5 epochs of
warm-up, then cosine to 0. A config that takes this says how fast: the learning
rate and its layer decay.
"""

train_cfg = dict(
    type='ResumableEpochLoop', max_epochs=20, val_begin=1, val_interval=1
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    optimizer=dict(type='AdamW', weight_decay=0.05),
    constructor='LearningRateDecayOptimizerConstructor',
    paramwise_cfg=dict(decay_type='layer_wise'),
    clip_grad=dict(max_norm=40, norm_type=2),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.1,
        by_epoch=True,
        begin=0,
        end=5,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        T_max=15,
        eta_min=0,
        by_epoch=True,
        begin=5,
        end=20,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=64)
