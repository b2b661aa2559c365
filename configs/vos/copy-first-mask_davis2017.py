"""The first mask for every frame of DAVIS-2017 val: the floor of tables.

Expected result: not run by us.
Hardware: a CPU.
Command: python tools/test.py THIS_FILE
"""

_base_ = ['../_base_/vos/davis2017_dino.py']

model = dict(_delete_=True, type='CopyFirstMask')
