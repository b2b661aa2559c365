# Copyright (c) MotionMAE contributors. All rights reserved.
"""No step of training waits for the GPU, and it computes what the CPU does.

All paths run once, in one process, on a GPU that is not there; see
``paths.py`` and ``tools/dev/mock_device.py``. Where that has recorded a wait,
``where`` tells.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import mock_device
import pytest
from conftest import ROOT
from gpu.paths import FINETUNING, FROZEN, PATHS, PRETRAINING
from helpers.processes import HUNG

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(
    not mock_device.AVAILABLE, reason='PyTorch takes devices since 2.9'
)
RUNS = [name for name in PATHS if ': a run ' in name]
TRAINING = [
    name
    for name in PATHS
    if name.startswith(('pre-training', 'fine-tuning')) and name not in RUNS
]
# The video is brought at once, then each mask is fetched.
MASKS = [name for name in PATHS if name.startswith('frozen: masks')]
FLAT = 'frozen: masks, raw pixels of flat colours'


@pytest.fixture(scope='module')
def found():
    process = subprocess.run(
        [
            sys.executable,
            '-W',
            'ignore',
            str(HERE / 'host_waits.py'),
            '--json',
        ],
        env=dict(os.environ, OMP_NUM_THREADS='1'),
        capture_output=True,
        text=True,
        timeout=HUNG,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def test_all_is_there(found):
    assert [*found] == [*PATHS]
    assert len(PRETRAINING) > 9 and len(FINETUNING) > 9 and len(FROZEN) > 9
    assert all(path['values'] for path in found.values())


@pytest.mark.parametrize('name', PATHS)
def test_values_are_the_cpus(found, name):
    assert found[name]['difference'] <= 1e-6


@pytest.mark.parametrize('name', TRAINING)
def test_no_step_waits(found, name):
    assert not any(found[name]['waits']), found[name]['where']


@pytest.mark.parametrize('name', RUNS)
def test_a_run_waits_where_it_logs(found, name):
    """And in its first iteration, for the order of the log's columns."""
    first, *later = found[name]['waits']
    assert 0 < first < 10
    assert later == [0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1], found[name]['where']


@pytest.mark.parametrize('name', [name for name in MASKS if name != FLAT])
def test_a_frame_waits_for_its_mask_alone(found, name):
    assert found[name]['waits'] == [1] * 7, found[name]['where']


def test_where_many_patches_are_alike_a_frame_is_done_again(found):
    """The mask, how many are alike, how many at most, the mask."""
    assert found[FLAT]['waits'] == [1, 1, 4, 4, 4, 4, 4]


def test_the_table_of_the_docs_is_true(found):
    text = (ROOT / 'docs/notes/gpu.md').read_text(encoding='utf-8')
    rows = [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in text.splitlines()
        if line.startswith('| ')
    ]
    now = {name: waits for name, _, waits in rows[1:]}
    assert now == {
        name: ', '.join(map(str, dict.fromkeys(path['waits'])))
        for name, path in found.items()
    }


def test_other_waits(found):
    assert found['frozen: testing a classifier']['waits'] == [0]
    assert found['frozen: features']['waits'] == [1, 1, 1]
    (waits,) = found['frozen: inferencer']['waits']
    assert waits <= 18, found['frozen: inferencer']['where']
