"""The first mask for every frame of the generated sequences of `make demo`.

Result: see the table that `make demo` prints.
Hardware and time: one CPU core, some seconds.
Command: python tools/test.py THIS_FILE
"""

_base_ = ['./vit-tiny-p8_label-propagation_moving-shapes.py']

model = dict(_delete_=True, type='CopyFirstMask')
