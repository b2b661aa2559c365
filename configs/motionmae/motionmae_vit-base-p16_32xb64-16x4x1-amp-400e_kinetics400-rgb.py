"""MotionMAE pre-training of ViT-B on Kinetics-400, 400 epochs.

Expected result: not run by us; the paper claims 0.6 points over VideoMAE after
fine-tuning, both at 400 epochs.
Hardware: 32 GPUs x 16 videos x 4 clips of each = 2048 clips a step. With fewer
GPUs keep the batch size with optim_wrapper.accumulative_counts, or let
--auto-scale-lr adapt the learning rate.
Time: not measured by us; see tools/analysis/describe.py.
Command:
    GPUS=32 bash tools/slurm_train.sh PARTITION JOB \
        configs/motionmae/THIS_FILE
Data: see tools/data/kinetics400/README.md.

The paper compares at 400 epochs, too. The paper does not state its optimiser,
batch size and augmentation. These are VideoMAE's
(scripts/kinetics/*vit_base*ratio_0.9_epoch_800/pretrain.sh; but for epochs):
learning rate 1.5e-4 * 2048 / 256, 40 epochs of warm-up, cosine to 1e-5 * 2048
/ 256, AdamW (0.9, 0.95), weight decay 0.05 except on biases and norms, tube
masking 0.9, stride 4, multi-scale crop, no flip. Mixed precision is bfloat16
instead of float16. Repeated sampling is not VideoMAE's: an epoch over the
videos gives 4 clips of each, so 100 of them make the 400 epochs, and 10 the 40
of warm-up.
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/models/motionmae_vit-base-p16.py',
    '../_base_/datasets/kinetics400_pretrain.py',
    '../_base_/schedules/pretrain_400e.py',
]

default_hooks = dict(checkpoint=dict(interval=5))
