"""The pixels of each patch as features, on DAVIS-2017 val: a floor.

Expected result: not run by us.
Hardware: a CPU.
Command: python tools/test.py THIS_FILE
Any encoder must beat it, by DINO's protocol.
"""

_base_ = ['../_base_/vos/davis2017_dino.py']

model = dict(backbone=dict(type='RawPixels', patch_size=16))
