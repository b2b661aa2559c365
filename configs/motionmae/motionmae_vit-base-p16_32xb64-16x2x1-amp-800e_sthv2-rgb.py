"""MotionMAE pre-training of ViT-B on Something-Something V2.

Expected result: not run by us. The paper's claim is for the fine-tuned
network: +1.2 % top-1 over the best before it.
Hardware: 32 GPUs x 16 videos x 4 clips of each = 2048 clips a step; VideoMAE's
is 64 x 32. With fewer GPUs use --auto-scale-lr, and
optim_wrapper.accumulative_counts to keep the batch size.
Command:
    bash tools/dist_train.sh configs/motionmae/THIS_FILE 8 \
        --auto-scale-lr --cfg-options optim_wrapper.accumulative_counts=4
Data: see tools/data/sthv2/README.md.

The paper does not state its optimiser, batch size and augmentation. These
are VideoMAE's for the same data (scripts/ssv2/videomae_vit_base_patch16_224_
tubemasking_ratio_0.9_epoch_800/pretrain.sh): learning rate 1.5e-4 * 2048 /
256, 40 epochs of warm-up, cosine to 1e-5 * 2048 / 256, AdamW (0.9, 0.95),
weight decay 0.05 except on biases and norms, tube masking 0.9, stride 2,
multi-scale crop, no flip. Mixed precision is bfloat16 instead of float16.
Repeated sampling is not VideoMAE's: an epoch over the videos gives 4 clips of
each, so 200 of them make the 800 epochs, and 10 the 40 of warm-up.
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/sthv2_pretrain.py',
    '../_base_/models/motionmae_vit-base-p16.py',
]

num_repeats = 4  # as in the data set
max_epochs, warmup_epochs = 800 // num_repeats, 40 // num_repeats
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
batch_size = 2048
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    loss_scale=dict(enabled=False),
    optimizer=dict(
        type='AdamW',
        lr=1.5e-4 * batch_size / 256,
        betas=(0.9, 0.95),
        weight_decay=0.05,
        fused=True,
    ),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={'mask_token': dict(decay_mult=0.0)},
    ),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6,
        by_epoch=True,
        begin=0,
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=warmup_epochs,
        end=max_epochs,
        eta_min_ratio=1e-5 / 1.5e-4,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(checkpoint=dict(interval=5))
auto_scale_lr = dict(base_batch_size=batch_size)
