# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/dev/gpu_check.py` without a GPU, and what it makes of faults."""

import json
import subprocess
import sys

import fake_cuda
import gpu_check
import gpu_parts
import gpu_steps
import mock_device
import pytest
import torch
from conftest import ROOT
from helpers.processes import HUNG


@pytest.fixture
def files(tmp_path):
    return [
        '--out',
        str(tmp_path / 'a.md'),
        '--json',
        str(tmp_path / 'a.json'),
    ]


def run_code(code, tmp_path, limit=HUNG):
    """The result of a part that is this code, with the file as argument."""
    file = tmp_path / 'figures.json'
    command = [sys.executable, '-c', code, str(file)]
    return gpu_check.run_part('a part', command, file, limit)


def test_a_part_that_works(tmp_path):
    code = 'import sys; open(sys.argv[1], "w").write("{\\"speed\\": 2.5}")'
    result = run_code(code, tmp_path)
    assert (result.state, result.figures) == ('ok', dict(speed=2.5))


@pytest.mark.parametrize(
    'code, state, reason',
    [
        ('raise ValueError("no memory")', 'failed', 'ValueError: no memory'),
        ('import os; os.kill(os.getpid(), 11)', 'failed', 'signal 11'),
        ('import sys; sys.exit("no GPU")', 'failed', 'no GPU (exit code 1)'),
        (
            'import sys; print("no GPU", file=sys.stderr); sys.exit(3)',
            'not here',
            'no GPU',
        ),
        ('pass', 'failed', 'no figures'),
        (
            'import sys; open(sys.argv[1], "w").write("{")',
            'failed',
            'no figures',
        ),
    ],
)
def test_a_part_that_fails(tmp_path, code, state, reason):
    result = run_code(code, tmp_path)
    assert result.state == state and reason in result.reason


def test_a_part_that_hangs(tmp_path):
    code = f'import time; time.sleep({HUNG})'
    assert run_code(code, tmp_path, limit=0.05).state == 'too slow'


def test_faults_are_told_and_the_others_go_on(
    files, tmp_path, monkeypatch, capsys
):
    def command(part, args, file):
        ending = 'raise ValueError("a | b")'
        if part != 'parity':
            ending = f'open({str(file)!r}, "w").write("{{\\"x\\": 0.5}}")'
        return [sys.executable, '-c', ending]

    monkeypatch.setattr(gpu_check, 'command_of', command)
    parts = ['imports', 'parity', 'model']
    assert gpu_check.main([*files, '--parts', *parts]) == 1
    found = json.loads((tmp_path / 'a.json').read_text())
    states = {part['part']: part['state'] for part in found['parts']}
    assert states == dict(imports='ok', parity='failed', model='ok')
    table = (tmp_path / 'a.md').read_text()
    assert table.splitlines()[3].startswith('| parity | failed |')
    assert r'ValueError: a \| b (exit code 1) |' in table
    assert '| x: 0.5 |' in table and table in capsys.readouterr().out

    # Written before: nothing is replaced in silence.
    assert gpu_check.main([*files, '--parts', 'model']) == 2
    assert 'exists already' in capsys.readouterr().err
    again = [*files, '--parts', 'model', '--overwrite', '--minutes', '0']
    assert gpu_check.main(again) == 1
    assert 'no time left' in (tmp_path / 'a.md').read_text()


def test_every_family_has_a_part_and_a_config():
    assert gpu_check.FAMILIES == tuple(gpu_steps.CONFIGS)
    for path in gpu_steps.CONFIGS.values():
        assert (ROOT / 'configs' / f'{path}.py').is_file()


CPU = torch.device('cpu')


@pytest.mark.parametrize('family', gpu_check.FAMILIES)
def test_a_tiny_step(family):
    found = gpu_parts.run(f'step-{family}', 'cpu', tiny=True)
    assert found['waits'] == 0 and found['clips'] == 4
    assert 0 < found['loss'] < 10 and found['estimated_gb'] > 0


def test_other_parts():
    found = gpu_parts.run('imports', 'cpu', tiny=True)
    assert found['torch'] == torch.__version__
    found = gpu_parts.run('parity', 'cpu', tiny=True)
    assert len(found) == 8 and max(found.values()) == 0
    found = gpu_parts.run('segmentation', 'cpu', tiny=True)
    assert found['equal_pixels'] == 1


def test_parity_is_a_comparison(monkeypatch):
    gradients = gpu_steps._gradients
    calls = []

    def differ(network):
        calls.append(1)
        found = gradients(network)
        scale = 1.01 if len(calls) == 2 else 1
        return {name: scale * value for name, value in found.items()}

    monkeypatch.setattr(gpu_steps, '_gradients', differ)
    with pytest.raises(AssertionError, match='both-targets: the loss differs'):
        gpu_parts.run('parity', 'cpu', tiny=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_without_a_gpu():
    with pytest.raises(gpu_parts.NotHereError, match='no GPU'):
        gpu_parts.run('imports', 'cuda', tiny=True)


@pytest.mark.slow
@pytest.mark.skipif(not mock_device.AVAILABLE, reason='PyTorch before 2.9')
def test_dry_run_on_the_mock_device(files, tmp_path):
    """All of it, as it is called."""
    process = subprocess.run(
        [
            *(sys.executable, str(ROOT / 'tools/dev/gpu_check.py'), *files),
            *('--device', 'mock', '--tiny'),
            *('--minutes', '600', '--patience', '100'),
        ],
        capture_output=True,
        text=True,
        timeout=HUNG,
    )
    found = json.loads((tmp_path / 'a.json').read_text())
    states = {p['part']: (p['state'], p['reason']) for p in found['parts']}
    assert states == {part: ('ok', '') for part in gpu_check.PARTS}
    assert process.returncode == 0


# ------------------------------------------------------------- fake tensors


def test_a_fake_step():
    found = fake_cuda.take_step('both-targets', 'cpu')
    assert found['device'] == 'cpu' and found['trained'] > 40


@pytest.mark.skipif(torch.backends.cuda.is_built(), reason='CUDA is built')
def test_fake_tensors_need_cuda_operators(capsys):
    assert fake_cuda.main([]) == 2
    assert 'is not built for CUDA' in capsys.readouterr().err
