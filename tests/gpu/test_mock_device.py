# Copyright (c) MotionMAE contributors. All rights reserved.
"""What the mock device allows, refuses and records is what CUDA does.

It is registered for good, so in processes of their own; here nothing changes.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import mock_device
import pytest
import torch
from helpers.processes import HUNG

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(
    not mock_device.AVAILABLE, reason='PyTorch takes devices since 2.9'
)

WAITS = {
    'item': 1,
    'float': 1,
    'if': 1,
    'tolist': 1,
    'cpu': 1,
    'cpu, not blocking': 0,
    'tensor of tensors': 2,
    'allclose': 1,
    'nonzero': 1,
    'unique': 1,
    'masked_select': 1,
    'index by mask': 1,
    'fill by mask': 0,
    'where': 0,
    'to the device': 1,
    'to the device, not pinned': 1,
    'to the device, pinned but blocking': 1,
    'to the device, pinned': 0,
    'to the device, part of pinned': 0,
    'to the device, pinned from the start': 0,
    'tensor on the device': 1,
    'full on the device': 0,
    'copy_': 1,
    'assign from the host': 1,
    'index by list': 1,
    'index by host tensor': 1,
    'index by device tensor': 0,
    'index by number': 0,
    'slice by host numbers': 0,
    'add number of the host': 0,
}
REFUSED = {
    'numpy': 'RuntimeError',
    'add host': 'devices',
    'cat host': 'devices',
    'stack number of the host': 'devices',
    'index of host by device': 'devices',
    'select by host': 'devices',
    'linear with host weights': 'devices',
    'generator of the host': 'devices',
}


@pytest.fixture(scope='module')
def found():
    process = subprocess.run(
        [sys.executable, str(HERE / 'rules.py')],
        env=dict(os.environ, OMP_NUM_THREADS='1'),
        capture_output=True,
        text=True,
        timeout=HUNG,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_what_waits_and_what_is_refused(found):
    training = found.pop('training')
    assert found == WAITS | REFUSED
    assert training == dict(waits=0, difference=0)


def test_nothing_of_it_is_in_this_process(found):
    assert torch._C._get_privateuse1_backend_name() == 'privateuseone'
    assert not hasattr(torch, mock_device.NAME)
    assert not torch.randn(2).is_pinned()
