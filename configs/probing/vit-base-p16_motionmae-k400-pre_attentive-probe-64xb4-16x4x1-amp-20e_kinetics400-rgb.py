"""ViT-B, MotionMAE on Kinetics-400, frozen: attentive probe on Kinetics-400.

Nothing of the encoder is trained, and nothing of it is kept for a backward
pass.

Expected result: not run by us; no published figure for MotionMAE. V-JEPA
reports 80.8 % top-1 for its own ViT-L, with 8 x 3 views and attention across
segments.
Hardware: 64 GPUs x 4 videos a step. With others use --auto-scale-lr.
Time: not measured by us.
Command:
    GPUS=64 bash tools/slurm_train.sh PARTITION JOB \
        configs/probing/THIS_FILE \
        --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT

Head and schedule are V-JEPA's: see
configs/_base_/schedules/attentive_probe.py. Not ours are its attention across
the segments of a video, each clip is classified by itself here and scores are
averaged over views, and its RandAugment and random erasing; the augmentation
is light, as for the linear probe: random resized crop and flip.
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/models/vit-base-p16_attentive-probe.py',
    '../_base_/datasets/kinetics400_finetune.py',
    '../_base_/schedules/attentive_probe.py',
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

train_dataloader = dict(batch_size=4)
