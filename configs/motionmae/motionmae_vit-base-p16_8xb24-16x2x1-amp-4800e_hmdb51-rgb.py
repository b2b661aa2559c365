"""MotionMAE pre-training of ViT-B on HMDB51, 4800 epochs.

Expected result: not run by us; VideoMAE's is 62.6 % top-1, pre-trained and
fine-tuned here.
Hardware: 8 GPUs x 6 videos x 4 clips of each = 192 clips a step. With fewer
GPUs keep the batch size with optim_wrapper.accumulative_counts, or let
--auto-scale-lr adapt the learning rate.
Time: not measured by us; see tools/analysis/describe.py.
Command:
    bash tools/dist_train.sh configs/motionmae/THIS_FILE 8
Data: see tools/data/hmdb51/README.md.

VideoMAE has published no script for this data set; nor is the paper's recipe
known. Stride 2, 4800 epochs, 8 x 24 clips and learning rate 1e-3 * 192 / 256
are EVEREST's (sunilhoho/EVEREST, scripts/hmdb51/pretrain.sh), which masks
otherwise; tube masking 0.9, AdamW (0.9, 0.95), weight decay 0.05 except on
biases and norms, 40 epochs of warm-up, cosine to 1e-5 * 192 / 256, multi-scale
crop, no flip are VideoMAE's. Mixed precision is bfloat16 instead of float16.
Repeated sampling is not VideoMAE's: an epoch over the videos gives 4 clips of
each, so 1200 of them make the 4800 epochs, and 10 the 40 of warm-up.
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/models/motionmae_vit-base-p16.py',
    '../_base_/datasets/hmdb51_pretrain.py',
    '../_base_/schedules/pretrain_4800e.py',
]

batch_size, base_lr = 192, 1e-3
optim_wrapper = dict(optimizer=dict(lr=base_lr * batch_size / 256))
param_scheduler = _base_.param_scheduler
param_scheduler[1]['eta_min_ratio'] = _base_.min_lr / base_lr
train_dataloader = dict(batch_size=24 // _base_.num_repeats)
default_hooks = dict(checkpoint=dict(interval=25))
auto_scale_lr = dict(base_batch_size=batch_size)
