"""Fine-tuning of ViT-B, pre-trained with MotionMAE, on any labelled videos.

Expected result: depends on the videos.
Hardware: 8 GPUs x 16 videos a step. With others use --auto-scale-lr.
Time: see tools/analysis/describe.py, whose --videos is the number of yours.
Command:
    VIDEOS=DIR LISTS=DIR NUM_CLASSES=N \
        bash tools/dist_train.sh configs/recognition/THIS_FILE 8 \
        --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT

Lists: see tools/data/build_file_list.py. The recipe is VideoMAE's for UCF101
with one clip of each video and tested with 5 x 3 views; few labels want few
epochs.
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/models/vit-base-p16_finetune.py',
    '../_base_/datasets/videos_finetune.py',
    '../_base_/schedules/finetune.py',
]

model = dict(
    data_preprocessor=dict(_delete_=True, **_base_.augmentation),
    backbone=dict(
        drop_path_rate=0.2,
        init_cfg=dict(
            checkpoint='work_dirs/motionmae_vit-base-p16_8xb64-16x4x1-amp-'
            '800e_videos-rgb/epoch_200.pth',
        ),
    ),
    cls_head=dict(num_classes=_base_.num_classes, dropout_ratio=0.5),
)

max_epochs = 100
num_videos, base_lr, min_lr = 128, 5e-4, 1e-5  # a step
train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(
    optimizer=dict(lr=base_lr * num_videos / 256),
    paramwise_cfg=dict(decay_rate=0.7, num_layers=12),
)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_epochs, eta_min_ratio=min_lr / base_lr)
train_dataloader = dict(batch_size=16)
auto_scale_lr = dict(base_batch_size=num_videos)
