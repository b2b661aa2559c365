"""VideoMAE's schedule of pre-training, all but its length.

AdamW (0.9, 0.95), weight decay 0.05 except on biases, norms and the mask
token; 40 epochs of warm-up to 1.5e-4 for 256 clips, then cosine to 1e-5
(run_mae_pretraining.py, its defaults and scripts); 2048 clips a step. Mixed
precision is bfloat16 instead of float16, so that there is no loss scale.

Epochs are of clips. Every video is decoded once and gives 4 (`num_repeats` in
_base_/datasets/videos_pretrain.py), so the trainer counts a quarter of them.

A config takes one of pretrain_*e.py, and says so where it has another batch
size or learning rate.
"""

warmup_epochs = 40
batch_size, base_lr, min_lr = 2048, 1.5e-4, 1e-5
train_cfg = dict(type='ResumableEpochLoop')
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    loss_scale=dict(enabled=False),
    optimizer=dict(
        type='AdamW',
        lr=base_lr * batch_size / 256,
        betas=(0.9, 0.95),
        weight_decay=0.05,
        fused=True,
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
        end=warmup_epochs // 4,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=warmup_epochs // 4,
        eta_min_ratio=min_lr / base_lr,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=batch_size)
