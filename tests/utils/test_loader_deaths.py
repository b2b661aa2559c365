# Copyright (c) MotionMAE contributors. All rights reserved.
"""Processes of a data loader that die, each in its own way."""

import os
import signal
from types import SimpleNamespace

import pytest
import torch

from mmmotionmae.cli.data_errors import explain_data_errors
from mmmotionmae.datasets.bad_video_list import BadVideos
from mmmotionmae.utils import loader_deaths
from mmmotionmae.utils.errors import UsageError
from mmmotionmae.utils.loader_deaths import (
    LoaderDeath,
    explain_killed,
    find_loader_death,
)


class Deadly(torch.utils.data.Dataset):
    """Ends the process that reads number 3."""

    def __init__(self, number):
        self.number, self.bad_videos = number, BadVideos()

    def __len__(self):
        return 8

    def __getitem__(self, index):
        with self.bad_videos.loading(f'{index}.mp4'):
            if index == 3 and self.number > 0:
                os.kill(os.getpid(), self.number)
            if index == 3:
                os._exit(-self.number)
            return index


def load(number, tmp_path):
    """What is said of a loader whose process ends; the work dir's list."""
    dataset = Deadly(number)
    loader = torch.utils.data.DataLoader(
        dataset, num_workers=2, multiprocessing_context='fork'
    )
    runner = SimpleNamespace(
        work_dir=tmp_path,
        train_loop=SimpleNamespace(dataloader=loader),
        val_loop=None,
        test_loop=None,
    )
    with pytest.raises(UsageError) as caught:
        with explain_data_errors(runner):
            list(loader)
    path = tmp_path / 'bad_videos.txt'
    assert '\n' not in str(caught.value)
    return str(caught.value), path.read_text() if path.exists() else ''


@pytest.mark.parametrize(
    ('number', 'message'),
    [
        (signal.SIGKILL, 'SIGKILL; .*memory ran out .*num_workers'),
        (signal.SIGBUS, 'SIGBUS; .*shared memory ran out .*/dev/shm, .*GB'),
        (signal.SIGTERM, 'SIGTERM; .*somebody, or the batch system'),
    ],
)
def test_no_video_is_blamed_for_what_comes_from_outside(
    number, message, tmp_path
):
    text, listed = load(number, tmp_path)
    assert listed == ''
    assert 'A process of the data loader has failed' in text
    assert "it was reading '3.mp4'" in text and '--resume' in text
    with pytest.raises(UsageError, match=message):
        raise UsageError(text)


@pytest.mark.parametrize('number', [signal.SIGSEGV, signal.SIGABRT, -3])
def test_a_decoder_that_crashes_is_the_videos_fault(number, tmp_path):
    text, listed = load(number, tmp_path)
    assert 'has died (' in text and "while reading '3.mp4'" in text
    assert listed.startswith('3.mp4\tcrash: its loader process died (')


def test_what_pytorch_says():
    """Its message names the signal, or the processes alone."""

    def find(text):
        return find_loader_death(RuntimeError(text))

    death = find('DataLoader worker (pid 7) is killed by signal: Killed. ')
    assert death.pids == {7} and death.killed_by == signal.SIGKILL
    death = find(
        'DataLoader worker (pid 7) is killed by signal: Bus error. It is '
        "possible that dataloader's workers are out of shared memory."
    )
    assert death.killed_by == signal.SIGBUS
    death = find('DataLoader worker (pid 7) is killed by signal: Aborted.')
    assert death.killed_by is None
    death = find('DataLoader worker (pid(s) 7, 8) exited unexpectedly')
    assert death == LoaderDeath({7, 8}, 'exited unexpectedly')
    death = find(
        'Caught RuntimeError in DataLoader worker process 0.\nTraceback...\n'
        'RuntimeError: unable to allocate shared memory(shm) for file '
        '</torch_7_8_0>: No space left on device (28)\n'
    )
    assert death.killed_by == signal.SIGBUS and death.pids is None
    assert '\n' not in death.end
    assert '/dev/shm' in explain_killed(death)
    assert find('something else') is None
    assert find_loader_death(ValueError('x')) is None
    assert find_loader_death(EOFError()) == LoaderDeath(
        None, 'its connection broke off'
    )


def test_the_kernel_is_a_witness(tmp_path, monkeypatch):
    death = LoaderDeath({7}, 'killed by signal: Killed', signal.SIGKILL)
    assert 'if nobody else has killed it' in explain_killed(death)
    text = explain_killed(death, ['a.mp4'], oom_kills=2)
    assert "it was reading 'a.mp4'" in text
    assert '2 such since the start, the kernel says' in text
    counts = tmp_path / 'vmstat'
    counts.write_text('nr_free_pages 12\noom_kill 41\noom_kill_x 3\n')
    monkeypatch.setattr(loader_deaths, 'Path', lambda path: counts)
    assert loader_deaths.count_oom_kills() == 41
    counts.write_text('nr_free_pages 12\n')
    assert loader_deaths.count_oom_kills() == 0
    counts.unlink()
    assert loader_deaths.count_oom_kills() == 0
