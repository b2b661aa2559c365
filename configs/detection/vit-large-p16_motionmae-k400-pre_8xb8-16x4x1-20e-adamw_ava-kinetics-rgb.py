"""ViT-L, MotionMAE on Kinetics-400, fine-tuned there, then on AVA-Kinetics.

MMAction2's config for VideoMAE with other initial weights.

Expected result: not run by us; MMAction2 reports 38.7 mAP for VideoMAE.
Hardware: 8 GPUs x 8 clips a step. With others use --auto-scale-lr.
Time: not measured by us.
Needs: mmdet and the full mmcv, see configs/detection/README.md.
Data: see configs/_base_/datasets/ava_kinetics.py.
Command:
    bash tools/dist_train.sh configs/detection/THIS_FILE 8 \
        --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT

CHECKPOINT is the fine-tuned recognizer, as in MMAction2; one of pre-training
can be taken as well.

MMAction2 states 32 GPUs and 128 clips a step for its result; its config says
8 x 8, and so does this one.
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/models/vit-large-p16_fast-rcnn.py',
    '../_base_/datasets/ava_kinetics.py',
    '../_base_/schedules/ava.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/vit-large-p16_motionmae-k400-pre_64xb4-16x4x1-amp'
            '-35e_kinetics400-rgb/epoch_35.pth',
            prefix='backbone.',
        ),
    ),
)
optim_wrapper = dict(
    optimizer=dict(lr=2.5e-4),
    paramwise_cfg=dict(decay_rate=0.8, num_layers=24),
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2, save_best='auto'))
