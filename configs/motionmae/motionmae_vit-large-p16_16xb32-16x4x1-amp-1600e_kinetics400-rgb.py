"""MotionMAE pre-training of ViT-L on Kinetics-400, 1600 epochs.

Expected result: not run by us; VideoMAE's is 85.2 % top-1 after fine-tuning.
Hardware: 16 GPUs x 8 videos x 4 clips of each = 512 clips a step. For 8 GPUs
see the configs beside this one; else keep the batch size with
optim_wrapper.accumulative_counts, or let --auto-scale-lr adapt the learning
rate.
Time: not measured by us; see tools/analysis/describe.py.
Command:
    GPUS=16 bash tools/slurm_train.sh PARTITION JOB \
        configs/motionmae/THIS_FILE
Data: see tools/data/kinetics400/README.md.

The paper does not state its optimiser, batch size and augmentation. These are
VideoMAE's (scripts/kinetics/*vit_large*ratio_0.9_epoch_1600/pretrain.sh):
learning rate 1.5e-4 * 512 / 256, 40 epochs of warm-up, cosine to 1e-5 * 512 /
256, AdamW (0.9, 0.95), weight decay 0.05 except on biases and norms, tube
masking 0.9, stride 4, multi-scale crop, no flip. Mixed precision is bfloat16
instead of float16. Repeated sampling is not VideoMAE's: an epoch over the
videos gives 4 clips of each, so 400 of them make the 1600 epochs, and 10 the
40 of warm-up.
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/models/motionmae_vit-large-p16.py',
    '../_base_/datasets/kinetics400_pretrain.py',
    '../_base_/schedules/pretrain_1600e.py',
]

batch_size = 512
optim_wrapper = dict(optimizer=dict(lr=_base_.base_lr * batch_size / 256))
train_dataloader = dict(batch_size=32 // _base_.num_repeats)
default_hooks = dict(checkpoint=dict(interval=5))
auto_scale_lr = dict(base_batch_size=batch_size)
