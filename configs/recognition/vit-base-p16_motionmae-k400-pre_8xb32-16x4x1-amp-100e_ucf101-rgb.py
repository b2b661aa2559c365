"""ViT-B pre-trained with MotionMAE on Kinetics-400, fine-tuned on UCF101.

The domain-generic setting of the paper, with MMAction2's own recognizer and
our drop-in for its ViT.

Expected result: not run by us; a survey (Maddy12/SSL4VideoSurvey) lists 96.3 %
top-1 for MotionMAE with ViT-B; VideoMAE reports 96.1 % top-1.
Hardware: 8 GPUs x 16 videos x 2 clips of each a step. With others use
--auto-scale-lr.
Time: not measured by us; see tools/analysis/describe.py.
Command:
    bash tools/dist_train.sh configs/recognition/THIS_FILE 8 \
        --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
All three splits:
    python tools/run_splits.py configs/recognition/THIS_FILE --gpus 8 \
        --checkpoint CHECKPOINT

The recipe is MME's for VideoMAE's setting (XinyuSun/MME,
scripts/finetune/ucf101/k400pt-1600epo.sh), whose batch size is not stated;
here it is that of VideoMAE's own recipe for UCF101: learning rate 1e-3 * 128 /
256 (videos, not clips), layer decay 0.75, drop path 0.1, 5 of 100 epochs of
warm-up, cosine to 1e-6 * 128 / 256, crops of at least 0.25 of the frame,
weight decay 0.05; label smoothing 0.1 is in the head. Mixed precision is
bfloat16 instead of float16.
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/models/vit-base-p16_finetune.py',
    '../_base_/datasets/ucf101_finetune.py',
    '../_base_/schedules/finetune.py',
]

model = dict(
    data_preprocessor=dict(_delete_=True, **_base_.augmentation),
    backbone=dict(
        type='FusedVisionTransformer',  # the stock one needs 94 GB
        init_cfg=dict(
            checkpoint='work_dirs/motionmae_vit-base-p16_32xb64-16x4x1-amp'
            '-800e_kinetics400-rgb/epoch_200.pth',
        ),
    ),
    cls_head=dict(num_classes=_base_.num_classes),
)

max_epochs = 100
num_videos, base_lr, min_lr = 128, 1e-3, 1e-6  # a step
train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(
    optimizer=dict(lr=base_lr * num_videos / 256),
    paramwise_cfg=dict(decay_rate=0.75, num_layers=12),
)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_epochs, eta_min_ratio=min_lr / base_lr)
train_pipeline = _base_.train_pipeline
train_pipeline[4]['area_range'] = (0.25, 1.0)
train_dataloader = dict(
    batch_size=16,
    collate_fn=dict(type='repeat_pseudo_collate'),
    dataset=dict(num_repeats=2, pipeline=train_pipeline),
)
auto_scale_lr = dict(base_batch_size=num_videos * 2)
