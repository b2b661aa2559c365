"""ViT-B, MotionMAE on Kinetics-400, frozen: attentive probe on HMDB51.

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

Head and schedule are V-JEPA's: see
configs/_base_/schedules/attentive_probe.py. Not ours are its attention across
the segments of a video, each clip is classified by itself here and scores are
averaged over views, and its RandAugment and random erasing; the augmentation
is light, as for the linear probe: random resized crop and flip. V-JEPA does
not evaluate on this data set; the recipe is that of Kinetics-400.
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/models/vit-base-p16_attentive-probe.py',
    '../_base_/datasets/hmdb51_finetune.py',
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

train_dataloader = dict(batch_size=32)
