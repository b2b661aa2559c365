"""The first mask for every frame of VIP val: the floor of tables.

Expected result: not run by us.
Hardware: a CPU.
Command: python tools/test.py THIS_FILE
"""

_base_ = ['../_base_/vos/vip.py']

model = dict(_delete_=True, type='CopyFirstMask')
