"""MotionMAE pre-training of ViT-S on Something-Something V2, 2400 epochs.

Expected result: not run by us; VideoMAE's is 66.8 % top-1 after fine-tuning.
Hardware: 32 GPUs x 16 videos x 4 clips of each = 2048 clips a step. For 8 GPUs
and for one see the configs beside this one; else keep the batch size with
optim_wrapper.accumulative_counts, or let --auto-scale-lr adapt the learning
rate.
Time: not measured by us; see tools/analysis/describe.py.
Command:
    GPUS=32 bash tools/slurm_train.sh PARTITION JOB \
        configs/motionmae/THIS_FILE
Data: see tools/data/sthv2/README.md.

The paper does not state its optimiser, batch size and augmentation. These are
VideoMAE's (scripts/ssv2/*vit_small*ratio_0.9_epoch_2400/pretrain.sh): learning
rate 1.5e-4 * 2048 / 256, 40 epochs of warm-up, cosine to 1e-5 * 2048 / 256,
AdamW (0.9, 0.95), weight decay 0.05 except on biases and norms, tube masking
0.9, stride 2, multi-scale crop, no flip. Mixed precision is bfloat16 instead
of float16. Repeated sampling is not VideoMAE's: an epoch over the videos gives
4 clips of each, so 600 of them make the 2400 epochs, and 10 the 40 of warm-up.
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/models/motionmae_vit-small-p16.py',
    '../_base_/datasets/sthv2_pretrain.py',
    '../_base_/schedules/pretrain_2400e.py',
]

default_hooks = dict(checkpoint=dict(interval=5))
