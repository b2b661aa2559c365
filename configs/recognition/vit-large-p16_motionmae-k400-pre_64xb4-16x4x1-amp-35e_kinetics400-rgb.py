"""ViT-L, MotionMAE on Kinetics-400, fine-tuned on Kinetics-400.

The domain-specific setting of the paper, with MMAction2's own recognizer and
our drop-in for its ViT.

Expected result: not run by us; VideoMAE reports 85.2 % top-1.
Hardware: 64 GPUs x 2 videos x 2 clips of each a step. With others use
--auto-scale-lr.
Time: not measured by us; see tools/analysis/describe.py.
Command:
    GPUS=64 bash tools/slurm_train.sh PARTITION JOB \
        configs/recognition/THIS_FILE \
        --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT

The recipe is VideoMAE's
(scripts/kinetics/*vit_large*ratio_0.9_epoch_1600/finetune.sh): learning rate
2e-3 * 128 / 256 (videos, not clips), layer decay 0.75, drop path 0.1, 5 of 35
epochs of warm-up, cosine to 1e-6 * 128 / 256, weight decay 0.05; label
smoothing 0.1 is in the head. Mixed precision is bfloat16 instead of float16.
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/models/vit-large-p16_finetune.py',
    '../_base_/datasets/kinetics400_finetune.py',
    '../_base_/schedules/finetune.py',
]

model = dict(
    data_preprocessor=dict(_delete_=True, **_base_.augmentation),
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/motionmae_vit-large-p16_16xb32-16x4x1-am'
            'p-1600e_kinetics400-rgb/epoch_400.pth'
        )
    ),
    cls_head=dict(num_classes=_base_.num_classes),
)

max_epochs = 35
num_videos, base_lr, min_lr = 128, 2e-3, 1e-6  # a step
train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(
    optimizer=dict(lr=base_lr * num_videos / 256),
    paramwise_cfg=dict(decay_rate=0.75, num_layers=24),
)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_epochs, eta_min_ratio=min_lr / base_lr)
train_dataloader = dict(
    batch_size=2,
    collate_fn=dict(type='repeat_pseudo_collate'),
    dataset=dict(num_repeats=2),
)
auto_scale_lr = dict(base_batch_size=num_videos * 2)
