"""V-JEPA's schedule of attentive probing.

facebookresearch/jepa, configs/evals/vitl16_{k400_16x8x3,ssv2_16x2x3}.yaml and
evals/video_classification_frozen/eval.py: 20 epochs, 256 clips a step, AdamW,
learning rate 1e-3 to 0 by a cosine, no warm-up, weight decay 0.01 to 1e-6 by a
cosine (none on biases and norms), gradients clipped to norm 1. Mixed precision
is bfloat16 instead of float16.
"""

train_cfg = dict(type='ResumableEpochLoop', max_epochs=20, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    loss_scale=dict(enabled=False),
    paramwise_cfg=dict(flat_decay_mult=0),
    optimizer=dict(
        type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.01
    ),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=20,
        eta_min=0,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingParamScheduler',
        param_name='weight_decay',
        by_epoch=True,
        begin=0,
        end=20,
        # A ratio: what has no weight decay gets none.
        eta_min_ratio=1e-6 / 0.01,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=256)
