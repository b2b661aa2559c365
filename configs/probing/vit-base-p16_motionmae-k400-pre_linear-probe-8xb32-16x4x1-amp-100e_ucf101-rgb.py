"""ViT-B, MotionMAE on Kinetics-400, frozen: linear probe on UCF101.

Nothing of the encoder is trained, and nothing of it is kept for a backward
pass.

Expected result: not run by us; no published figure.
Hardware: 8 GPUs x 32 videos a step. With others use --auto-scale-lr.
Time: not measured by us.
Command:
    bash tools/dist_train.sh configs/probing/THIS_FILE 8 \
        --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
All three splits:
    python tools/run_splits.py configs/probing/THIS_FILE --gpus 8 \
        --checkpoint CHECKPOINT

The head is MAE's on the mean of all tokens; the schedule is MAE's with SGD
instead of LARS, not tuned: see configs/_base_/schedules/linear_probe.py.
Learning rate 0.1 * 256 / 256. The augmentation is as light as MAE's: random
resized crop and flip.
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/models/vit-base-p16_linear-probe.py',
    '../_base_/datasets/ucf101_finetune.py',
    '../_base_/schedules/linear_probe.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/motionmae_vit-base-p16_32xb64-16x4x1-amp'
            '-800e_kinetics400-rgb/epoch_200.pth'
        )
    ),
    cls_head=dict(num_classes=_base_.num_classes),
)

num_videos, base_lr = 256, 0.1  # a step
optim_wrapper = dict(optimizer=dict(lr=base_lr * num_videos / 256))
train_dataloader = dict(batch_size=32)
auto_scale_lr = dict(base_batch_size=num_videos)
