"""VideoMAE's schedule of pre-training, 4800 epochs of clips."""

_base_ = ['./pretrain.py']

epochs = 4800
max_epochs = epochs // 4  # of videos
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = _base_.param_scheduler
param_scheduler[1]['end'] = max_epochs
