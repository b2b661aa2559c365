"""Segmentation of the generated sequences of `make demo` by raw pixels.

Result: see the table that `make demo` prints.
Hardware and time: one CPU core, some seconds.
Command: python tools/test.py THIS_FILE
"""

_base_ = ['./vit-tiny-p8_label-propagation_moving-shapes.py']

model = dict(backbone=dict(_delete_=True, type='RawPixels', patch_size=8))
