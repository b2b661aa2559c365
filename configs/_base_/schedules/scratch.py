"""The schedule of fine-tuning, for training from scratch: no layer decay.

AdamW, weight decay 0.05 except on biases and norms, warm-up, cosine.

A config that takes this says how long, for how large a batch, and how fast, as
for fine-tuning, and how long the warm-up is.
"""

_base_ = ['./finetune.py']

optim_wrapper = dict(
    constructor='DefaultOptimWrapperConstructor',
    paramwise_cfg=dict(
        _delete_=True,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
    ),
)
