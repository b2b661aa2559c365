"""The pixels of each patch as features, on VIP val: a floor.

Expected result: not run by us.
Hardware: a CPU.
Command: python tools/test.py THIS_FILE
Any encoder must beat it, by the protocol of SiamMAE and CropMAE.
"""

_base_ = ['../_base_/vos/vip.py']

model = dict(backbone=dict(type='RawPixels', patch_size=16))
