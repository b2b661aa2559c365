"""VideoMAE V2's schedule of pre-training ViT-g, 1200 epochs of clips.

That of VideoMAE but for 120 epochs of warm-up, 8192 clips a step, the last
learning rate, which is 1e-5 for 256 videos of 4 clips each, and gradients
clipped to a norm of 0.02 (OpenGVLab/VideoMAEv2, run_mae_pretraining.py and
scripts/pretrain/vit_g_hybrid_pt.sh).
"""

_base_ = ['./pretrain.py']

epochs = 1200
max_epochs = epochs // 4  # of videos
warmup_epochs = 120
batch_size, min_lr = 8192, 1e-5 / 4
train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(
    optimizer=dict(lr=_base_.base_lr * batch_size / 256),
    clip_grad=dict(max_norm=0.02),
)
param_scheduler = _base_.param_scheduler
param_scheduler[0]['end'] = warmup_epochs // 4
param_scheduler[1].update(
    begin=warmup_epochs // 4,
    end=max_epochs,
    eta_min_ratio=min_lr / _base_.base_lr,
)
auto_scale_lr = dict(base_batch_size=batch_size)
