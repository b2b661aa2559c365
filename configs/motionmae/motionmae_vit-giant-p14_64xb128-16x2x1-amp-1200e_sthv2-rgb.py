"""MotionMAE pre-training of ViT-g on Something-Something V2, 1200 epochs.

Expected result: not run by us; VideoMAE V2's is 77.0 % top-1 after
fine-tuning, pre-trained on 1.35 million videos of many kinds, which are not
public.
Hardware: 64 GPUs x 32 videos x 4 clips of each = 8192 clips a step; weights,
gradients and optimiser are spread over them (FSDP2). For 8 GPUs see the config
beside this one; else keep the batch size with
optim_wrapper.accumulative_counts, or let --auto-scale-lr adapt the learning
rate. What a number of GPUs means: docs/user_guides/clusters.md.
Time: not measured by us; see tools/analysis/describe.py.
Command:
    GPUS=64 bash tools/slurm_train.sh PARTITION JOB \
        configs/motionmae/THIS_FILE
Data: see tools/data/sthv2/README.md.

The paper has no ViT-g. Network and recipe are VideoMAE V2's
(OpenGVLab/VideoMAEv2, scripts/pretrain/vit_g_hybrid_pt.sh): learning rate
1.5e-4 * 8192 / 256, 120 epochs of warm-up, cosine to 2.5e-6 * 8192 / 256,
AdamW (0.9, 0.95), weight decay 0.05 except on biases and norms, gradients
clipped to a norm of 0.02, tube masking 0.9, half of the masked tokens decoded,
4 clips of each video, stride 2, multi-scale crop, no flip. Mixed precision is
bfloat16 instead of float16. An epoch over the videos gives 4 clips of each, so
300 of them make the 1200 epochs, and 30 the 120 of warm-up.
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/fsdp2.py',
    '../_base_/models/motionmae_vit-giant-p14.py',
    '../_base_/datasets/sthv2_pretrain.py',
    '../_base_/schedules/pretrain_1200e.py',
]

train_pipeline = _base_.train_pipeline
train_pipeline[6]['patch_size'] = 14  # TubeMasking
train_dataloader = dict(
    batch_size=128 // _base_.num_repeats,
    dataset=dict(pipeline=train_pipeline),
)
default_hooks = dict(checkpoint=dict(interval=5))
