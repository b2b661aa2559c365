# Copyright (c) MotionMAE contributors. All rights reserved.
"""Which checkpoint a work dir's run goes on from."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from mmmotionmae.utils.errors import CheckpointError
from mmmotionmae.utils.run_folder import (
    choose_checkpoint,
    holds_run,
    last_checkpoint,
    note_last_checkpoint,
    sweep,
)


def save(path, iteration, run=None, **changes):
    info = {} if run is None else dict(export_backbone=dict(run=run))
    content = dict(
        meta=dict(iter=iteration, epoch=0),
        state_dict=dict(w=torch.arange(1000.0)),
        message_hub=dict(runtime_info=info),
        optimizer={},
    )
    content.update(changes)
    path.parent.mkdir(exist_ok=True)
    torch.save({k: v for k, v in content.items() if v is not None}, path)
    return path


@pytest.fixture
def run(tmp_path):
    """A work dir with two checkpoints, of which the second is the last."""
    save(tmp_path / 'a/epoch_1.pth', 4)
    path = save(tmp_path / 'a/epoch_2.pth', 8)
    note_last_checkpoint(tmp_path / 'a', str(path))
    return tmp_path / 'a'


def truncate(path):
    with open(path, 'r+b') as file:
        file.truncate(path.stat().st_size // 2)


def test_name_moves_along(run, monkeypatch):
    assert (run / 'last_checkpoint').read_text() == 'epoch_2.pth'
    assert last_checkpoint(run) == str(run / 'epoch_2.pth')
    copy = shutil.copytree(run, run.parent / 'b')
    assert choose_checkpoint(copy) == (str(copy / 'epoch_2.pth'), [])
    shutil.rmtree(run)
    assert choose_checkpoint(copy) == (str(copy / 'epoch_2.pth'), [])
    monkeypatch.chdir(copy.parent)
    note_last_checkpoint(copy.relative_to(copy.parent), 'b/epoch_2.pth')
    assert (copy / 'last_checkpoint').read_text() == 'epoch_2.pth'


def test_path_of_mmengine_in_a_copied_folder(run):
    (run / 'last_checkpoint').write_text(f'{run}/epoch_2.pth')
    copy = shutil.copytree(run, run.parent / 'b')
    assert last_checkpoint(copy) == str(copy / 'epoch_2.pth')
    # Without such a file of its own: never that of the other run.
    (copy / 'epoch_2.pth').unlink()
    assert last_checkpoint(copy) is None
    assert choose_checkpoint(copy).path == str(copy / 'epoch_1.pth')


def test_checkpoints_outside_of_the_work_dir(run, tmp_path):
    elsewhere = save(tmp_path / 'disk/epoch_9.pth', 9)
    note_last_checkpoint(run, str(elsewhere))
    assert last_checkpoint(run) == str(elsewhere)
    note_last_checkpoint(run, 's3://bucket/epoch_9.pth')
    assert last_checkpoint(run) == 's3://bucket/epoch_9.pth'
    assert choose_checkpoint(run) == ('s3://bucket/epoch_9.pth', [])


@pytest.mark.parametrize('content', [None, '', 'epoch_7.pth', 'x/y/z.pth'])
def test_newest_without_a_name(run, content):
    (run / 'last_checkpoint').unlink()
    if content is not None:
        (run / 'last_checkpoint').write_text(content)
    save(run / 'interim_iter_11.pth', 11)
    save(run / 'backbone.pth', 12)  # an encoder, whatever is in it
    assert choose_checkpoint(run) == (str(run / 'interim_iter_11.pth'), [])
    assert holds_run(run)


def test_truncated_checkpoint_is_passed_over(run):
    truncate(run / 'epoch_2.pth')
    path, passed_over = choose_checkpoint(run)
    assert path == str(run / 'epoch_1.pth')
    assert passed_over == [f'{run}/epoch_2.pth is truncated']
    truncate(run / 'epoch_1.pth')
    with pytest.raises(CheckpointError, match='--overwrite'):
        choose_checkpoint(run)


def test_damaged_and_empty_checkpoints_are_passed_over(run):
    path = run / 'epoch_2.pth'
    content = bytearray(path.read_bytes())
    at = content.index(torch.arange(1000.0).numpy().tobytes())
    content[at + 100] ^= 1
    path.write_bytes(content)
    found = choose_checkpoint(run)
    assert found.path == str(run / 'epoch_1.pth')
    assert 'epoch_2.pth is damaged' in found.passed_over[0]
    path.write_bytes(b'')
    assert choose_checkpoint(run).passed_over == [f'{path} is empty']


def test_best_checkpoint_alone(tmp_path):
    path = save(tmp_path / 'best_acc_epoch_3.pth', 3, optimizer=None)
    assert holds_run(tmp_path)
    assert choose_checkpoint(tmp_path) == (str(path), [])


def test_checkpoints_of_an_earlier_run_are_passed_over(run):
    """Those that a new run in the same folder has not yet replaced."""
    save(run / 'epoch_1.pth', 4, run='new')
    save(run / 'epoch_2.pth', 8, run='new')
    save(run / 'epoch_3.pth', 12, run='old')
    (run / 'backbone.json').write_text(json.dumps(dict(run='new')))
    truncate(run / 'epoch_2.pth')
    path, passed_over = choose_checkpoint(run)
    assert path == str(run / 'epoch_1.pth')
    assert passed_over[1] == f'{run}/epoch_3.pth is of an earlier run'


def test_folder_without_a_run(tmp_path):
    assert not holds_run(tmp_path / 'missing')
    (tmp_path / 'backbone.pth').write_text('')
    assert not holds_run(tmp_path)
    assert choose_checkpoint(tmp_path) == (None, [])


def test_left_overs_of_killed_processes_are_swept(tmp_path):
    ended = subprocess.Popen([sys.executable, '-c', ''])
    ended.wait()
    (tmp_path / 'vis').mkdir()
    left = [
        tmp_path / f'epoch_3.pth.{ended.pid}.tmp',
        tmp_path / f'vis/config.py.{os.getpid()}.tmp',
        tmp_path / 'backbone.pth.tmp',
    ]
    used = tmp_path / f'epoch_4.pth.{os.getppid()}.tmp'
    for path in (*left, used, tmp_path / 'notes.txt'):
        path.write_text('half')
    assert sweep(tmp_path) == sorted(left)
    assert not any(path.exists() for path in left)
    assert used.exists() and (tmp_path / 'notes.txt').exists()
