"""The appearance-only baseline of `make demo`: VideoMAE, same code.

Result, hardware, time: as in the config that it inherits from.
Command: python tools/train.py THIS_FILE
"""

_base_ = ['./motionmae_vit-tiny-p8_1xb32-8x1x1-40e_moving-shapes.py']

model = dict(head=dict(motion_weight=0.0))
