"""ViT-B pre-trained with MotionMAE on HMDB51, fine-tuned on HMDB51.

The domain-specific setting of the paper, with MMAction2's own recognizer and
ViT.

Expected result: not run by us; VideoMAE reports 62.6 % top-1.
Hardware: 8 GPUs x 16 videos a step. With others use --auto-scale-lr.
Time: not measured by us; see tools/analysis/describe.py.
Command:
    bash tools/dist_train.sh configs/recognition/THIS_FILE 8 \
        --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
All three splits:
    python tools/run_splits.py configs/recognition/THIS_FILE --gpus 8 \
        --checkpoint CHECKPOINT

The paper's recipe is not known, and VideoMAE has published none. The recipe is
EVEREST's (sunilhoho/EVEREST, scripts/hmdb51/finetune.sh), which has neither
mixup nor CutMix; here they are VideoMAE's: learning rate 1e-3 * 128 / 256,
layer decay 0.75, drop path 0.1, 5 of 50 epochs of warm-up, cosine to 1e-6 *
128 / 256, stride 2, weight decay 0.05; label smoothing 0.1 is in the head.
Mixed precision is bfloat16 instead of float16.
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/models/vit-base-p16_finetune.py',
    '../_base_/datasets/hmdb51_finetune.py',
    '../_base_/schedules/finetune.py',
]

model = dict(
    data_preprocessor=dict(_delete_=True, **_base_.augmentation),
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/motionmae_vit-base-p16_8xb24-16x2x1-amp-'
            '4800e_hmdb51-rgb/epoch_1200.pth'
        )
    ),
    cls_head=dict(num_classes=_base_.num_classes),
)

max_epochs = 50
num_videos, base_lr, min_lr = 128, 1e-3, 1e-6  # a step
train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(
    optimizer=dict(lr=base_lr * num_videos / 256),
    paramwise_cfg=dict(decay_rate=0.75, num_layers=12),
)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_epochs, eta_min_ratio=min_lr / base_lr)
train_pipeline = _base_.train_pipeline
val_pipeline, test_pipeline = _base_.val_pipeline, _base_.test_pipeline
train_pipeline[2]['frame_interval'] = 2
val_pipeline[1]['frame_interval'] = 2
test_pipeline[1]['frame_interval'] = 2
train_dataloader = dict(
    batch_size=16,
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
auto_scale_lr = dict(base_batch_size=num_videos)
