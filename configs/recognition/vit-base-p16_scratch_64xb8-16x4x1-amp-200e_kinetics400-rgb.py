"""Supervised training of ViT-B from scratch on Kinetics-400.

The supervised baseline: the data and augmentation of fine-tuning, random first
weights.

Expected result: not run by us; nobody has published a figure for this recipe.
Hardware: 64 GPUs x 8 videos a step. With others use --auto-scale-lr.
Time: not measured by us; see tools/analysis/describe.py.
Command:
    GPUS=64 bash tools/slurm_train.sh PARTITION JOB \
        configs/recognition/THIS_FILE

The recipe is ours and not tuned, since neither the paper nor VideoMAE states
its own: that of fine-tuning without layer decay, drop path 0.1, 20 of 200
epochs of warm-up, learning rate 5e-4 * 512 / 256.
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/models/vit-base-p16.py',
    '../_base_/datasets/kinetics400_finetune.py',
    '../_base_/schedules/scratch.py',
]

model = dict(
    data_preprocessor=dict(_delete_=True, **_base_.augmentation),
    backbone=dict(drop_path_rate=0.1),
    cls_head=dict(num_classes=_base_.num_classes, label_smooth_eps=0.1),
)

max_epochs, warmup_epochs = 200, 20
num_videos, base_lr, min_lr = 512, 5e-4, 1e-6  # a step
train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=base_lr * num_videos / 256))
param_scheduler = _base_.param_scheduler
param_scheduler[0]['end'] = param_scheduler[1]['begin'] = warmup_epochs
param_scheduler[1].update(end=max_epochs, eta_min_ratio=min_lr / base_lr)
auto_scale_lr = dict(base_batch_size=num_videos)
