"""Fine-tuning of ViT-B on 1 % of the labels of Something-Something V2.

Pre-trained with MotionMAE on all videos of the training list, without labels.

Expected result: not run by us; nobody has published a figure for this setting.
Hardware: 8 GPUs x 16 videos a step. With others use --auto-scale-lr.
Time: not measured by us; see tools/analysis/describe.py.
Command:
    python tools/data/sample_list.py data/sthv2/train.txt \
        --fraction 0.01 --out data/sthv2/train_1percent.txt
    bash tools/dist_train.sh configs/recognition/THIS_FILE 8 \
        --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT

The recipe is ours and not tuned: that of all labels with a batch of 128 and
200 epochs.
"""

_base_ = ['./vit-base-p16_motionmae-sthv2-pre_64xb8-u16-amp-50e_sthv2-rgb.py']

max_epochs, num_videos = 200, 128
train_cfg = dict(max_epochs=max_epochs, val_interval=20)
train_dataloader = dict(
    batch_size=16,
    dataset=dict(ann_file=f'{_base_.data_root}/train_1percent.txt'),
)
optim_wrapper = dict(optimizer=dict(lr=_base_.base_lr * num_videos / 256))
param_scheduler = _base_.param_scheduler
param_scheduler[1]['end'] = max_epochs
auto_scale_lr = dict(base_batch_size=num_videos)
