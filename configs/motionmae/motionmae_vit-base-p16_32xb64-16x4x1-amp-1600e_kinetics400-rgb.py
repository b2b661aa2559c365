"""MotionMAE pre-training of ViT-B on Kinetics-400, 1600 epochs.

Expected result: not run by us; a survey (Maddy12/SSL4VideoSurvey) lists 81.7 %
top-1 for MotionMAE with ViT-B after fine-tuning, epochs not stated; VideoMAE's
is 81.5.
Hardware: 32 GPUs x 16 videos x 4 clips of each = 2048 clips a step. With fewer
GPUs keep the batch size with optim_wrapper.accumulative_counts, or let
--auto-scale-lr adapt the learning rate.
Time: not measured by us; see tools/analysis/describe.py.
Command:
    GPUS=32 bash tools/slurm_train.sh PARTITION JOB \
        configs/motionmae/THIS_FILE
Data: see tools/data/kinetics400/README.md.

The paper does not state its optimiser, batch size and augmentation. These are
VideoMAE's (scripts/kinetics/*vit_base*ratio_0.9_epoch_1600/pretrain.sh):
learning rate 1.5e-4 * 2048 / 256, 40 epochs of warm-up, cosine to 1e-5 * 2048
/ 256, AdamW (0.9, 0.95), weight decay 0.05 except on biases and norms, tube
masking 0.9, stride 4, multi-scale crop, no flip. Mixed precision is bfloat16
instead of float16. Repeated sampling is not VideoMAE's: an epoch over the
videos gives 4 clips of each, so 400 of them make the 1600 epochs, and 10 the
40 of warm-up.
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/models/motionmae_vit-base-p16.py',
    '../_base_/datasets/kinetics400_pretrain.py',
    '../_base_/schedules/pretrain_1600e.py',
]

default_hooks = dict(checkpoint=dict(interval=5))
