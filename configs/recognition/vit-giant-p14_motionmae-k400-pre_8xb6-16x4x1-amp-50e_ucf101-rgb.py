"""ViT-g pre-trained with MotionMAE on Kinetics-400, fine-tuned on UCF101.

The domain-generic setting of the paper, with MMAction2's own recognizer and
our drop-in for its ViT.

Expected result: not run by us; VideoMAE V2 reports 99.6 % top-1 after
pre-training on 1.35 million videos and fine-tuning on
Kinetics-710.
Hardware: 8 GPUs x 3 videos x 2 clips of each a step. With others use
--auto-scale-lr; --fsdp spreads weights and optimiser over the GPUs.
Time: not measured by us; see tools/analysis/describe.py.
Command:
    bash tools/dist_train.sh configs/recognition/THIS_FILE 8 \
        --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
All three splits:
    python tools/run_splits.py configs/recognition/THIS_FILE --gpus 8 \
        --checkpoint CHECKPOINT

The recipe is VideoMAE V2's (OpenGVLab/VideoMAEv2,
scripts/finetune/vit_g_k710_it_ucf101_ft.sh), which starts from weights
fine-tuned on Kinetics-710: learning rate 1e-3 * 24 / 256 (videos, not clips),
layer decay 0.9, drop path 0.35, dropout 0.5, 5 of 50 epochs of warm-up, cosine
to 1e-6 * 24 / 256, weight decay 0.05; label smoothing 0.1 is in the head.
Mixed precision is bfloat16 instead of float16. Fused attention takes the place
of DeepSpeed there.
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/models/vit-giant-p14_finetune.py',
    '../_base_/datasets/ucf101_finetune.py',
    '../_base_/schedules/finetune.py',
]

model = dict(
    data_preprocessor=dict(_delete_=True, **_base_.augmentation),
    backbone=dict(
        drop_path_rate=0.35,
        init_cfg=dict(
            checkpoint='work_dirs/motionmae_vit-giant-p14_64xb128-16x4x1-amp'
            '-1200e_kinetics400-rgb/epoch_300.pth',
        ),
    ),
    cls_head=dict(num_classes=_base_.num_classes, dropout_ratio=0.5),
)

max_epochs = 50
num_videos, base_lr, min_lr = 24, 1e-3, 1e-6  # a step
train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(
    optimizer=dict(lr=base_lr * num_videos / 256),
    paramwise_cfg=dict(decay_rate=0.9, num_layers=40),
)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_epochs, eta_min_ratio=min_lr / base_lr)

train_dataloader = dict(
    batch_size=3,
    collate_fn=dict(type='repeat_pseudo_collate'),
    dataset=dict(num_repeats=2),
)
auto_scale_lr = dict(base_batch_size=num_videos * 2)
