"""ViT-B, MotionMAE on SSv2, fine-tuned on SSv2.

The domain-specific setting of the paper, with MMAction2's own recognizer and
ViT.

Expected result: not run by us; VideoMAE reports 69.6 % top-1.
Hardware: 64 GPUs x 8 videos a step. With others use --auto-scale-lr.
Time: not measured by us; see tools/analysis/describe.py.
Command:
    GPUS=64 bash tools/slurm_train.sh PARTITION JOB \
        configs/recognition/THIS_FILE \
        --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT

The recipe is VideoMAE's
(scripts/ssv2/*vit_base*ratio_0.9_epoch_800/finetune.sh): learning rate 5e-4 *
512 / 256, layer decay 0.75, drop path 0.1, 5 of 50 epochs of warm-up, cosine
to 1e-6 * 512 / 256, weight decay 0.05; label smoothing 0.1 is in the head.
Mixed precision is bfloat16 instead of float16.
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/models/vit-base-p16_finetune.py',
    '../_base_/datasets/sthv2_finetune.py',
    '../_base_/schedules/finetune.py',
]

model = dict(
    data_preprocessor=dict(_delete_=True, **_base_.augmentation),
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/motionmae_vit-base-p16_32xb64-16x2x1-amp'
            '-800e_sthv2-rgb/epoch_200.pth'
        )
    ),
    cls_head=dict(num_classes=_base_.num_classes),
)

max_epochs = 50
num_videos, base_lr, min_lr = 512, 5e-4, 1e-6  # a step
train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(
    optimizer=dict(lr=base_lr * num_videos / 256),
    paramwise_cfg=dict(decay_rate=0.75, num_layers=12),
)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_epochs, eta_min_ratio=min_lr / base_lr)
auto_scale_lr = dict(base_batch_size=num_videos)
