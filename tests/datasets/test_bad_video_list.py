# Copyright (c) MotionMAE contributors. All rights reserved.
import copy
import gc
import os
import pickle
import signal
from multiprocessing import get_context

import pytest
from helpers.processes import HUNG, hang, wait_until

from mmmotionmae.datasets import bad_video_list
from mmmotionmae.datasets.bad_video_list import BadVideos

FORK = get_context('fork')


def _add(bad, names, queue, together):
    if isinstance(bad, bytes):
        bad = pickle.loads(bad)
    together.wait(HUNG)
    queue.put([bad.add(name, f'by {os.getpid()}') for name in names])


@pytest.mark.parametrize('pickled', [False, True])
def test_a_video_is_new_once_for_all_processes(pickled):
    """Whether they inherit it, or get it as spawned processes do."""
    bad = BadVideos()
    names = [f'{i} ü\n"x".mp4' for i in range(40)]
    queue, together = FORK.Queue(), FORK.Barrier(3)
    given = pickle.dumps(bad) if pickled else bad
    processes = [
        FORK.Process(
            target=_add, args=(given, names, queue, together), daemon=True
        )
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    found = [queue.get(timeout=HUNG) for _ in processes]
    for process in processes:
        process.join(HUNG)
    for answers in zip(*found, strict=True):
        assert sorted(answers) == [False, False, True]
    assert sorted(bad.read()) == sorted(names)
    assert not bad.add(names[3], 'again')
    assert bad.add('another.mp4', 'one more')
    assert list(bad.read().items())[-1] == ('another.mp4', 'one more')


def test_nothing_bad():
    assert BadVideos().read() == {}


def _die_while_loading(bad):
    with bad.loading('good.mp4'):
        pass
    with bad.loading('a long name.mp4'):
        pass
    with bad.loading('bad.mp4'):
        os.kill(os.getpid(), signal.SIGKILL)


def _load_and_leave(bad):
    with bad.loading('fine.mp4'):
        pass
    try:
        with bad.loading('broken.mp4'):
            raise ValueError
    except ValueError:
        pass


def _load_for_long(bad, started):
    with bad.loading('long.mp4'):
        started.set()
        hang()


def test_what_a_dead_process_was_loading():
    bad, started = BadVideos(), FORK.Event()
    processes = [
        FORK.Process(target=_die_while_loading, args=(bad,)),
        FORK.Process(target=_load_and_leave, args=(bad,)),
        FORK.Process(target=_load_for_long, args=(bad, started), daemon=True),
    ]
    for process in processes:
        process.start()
    assert started.wait(HUNG)
    for process in processes[:2]:
        process.join(HUNG)
    with bad.loading('this.mp4'):  # this process lives
        assert bad.died_of() == {processes[0].pid: 'bad.mp4'}
    processes[2].kill()
    processes[2].join(HUNG)
    assert bad.died_of() == {
        processes[0].pid: 'bad.mp4',
        processes[2].pid: 'long.mp4',
    }


def test_states_of_processes(monkeypatch):
    assert bad_video_list._state(os.getpid()) == 'alive'
    pid = os.fork()
    if not pid:
        os._exit(0)
    wait_until(lambda: bad_video_list._state(pid) == 'dead')  # a zombie
    os.waitpid(pid, 0)
    assert bad_video_list._state(pid) == 'dead'

    def vanish(*args, **kwargs):
        raise ProcessLookupError

    with monkeypatch.context() as patch:
        patch.setattr(bad_video_list.Path, 'read_text', vanish)
        assert bad_video_list._state(os.getpid()) == 'dead'
    for flags, state in ((0x400140, 'alive'), (0x400144, 'ending')):
        text = f'7 (a (b) c) R 1 7 7 0 -1 {flags} 101 0'
        with monkeypatch.context() as patch:
            patch.setattr(
                bad_video_list.Path, 'read_text', lambda *_, t=text, **k: t
            )
            assert bad_video_list._state(7) == state


def test_a_process_that_ends_is_waited_for(monkeypatch):
    bad, states = BadVideos(), ['dead', 'ending', 'ending', 'alive']
    monkeypatch.setattr(bad_video_list, '_state', lambda pid: states.pop())
    with bad.loading('this.mp4'):
        bad.await_ends()  # it is alive: no reason to wait
        assert states == ['dead', 'ending', 'ending']
        bad.await_ends()
        assert states == []
        states.append('ending')
    bad.await_ends()  # nor if it loads nothing
    assert states == []


def test_a_connection_that_breaks_off_comes_before_the_end():
    bad, pids = BadVideos(), []
    for _ in range(10):
        ours, theirs = os.pipe()
        pids.append(os.fork())
        if not pids[-1]:
            with bad.loading('bad.mp4'):
                os.kill(os.getpid(), signal.SIGKILL)
        os.close(theirs)
        assert os.read(ours, 1) == b''
        os.close(ours)
        bad.await_ends()
        assert bad.died_of() == dict.fromkeys(pids, 'bad.mp4')
    for pid in pids:
        os.waitpid(pid, 0)


def test_a_regular_end_while_the_notes_are_read(monkeypatch):
    bad = BadVideos()
    loading = bad.loading('good.mp4')
    loading.__enter__()

    def end(pid):
        loading.__exit__(None, None, None)
        return 'dead'

    monkeypatch.setattr(bad_video_list, '_state', end)
    assert bad.died_of() == {}


def test_the_folder_goes_with_its_owner():
    bad = BadVideos()
    bad.add('a.mp4', 'b')
    folder = bad.folder
    process = FORK.Process(target=_load_and_leave, args=(bad,))
    process.start()
    process.join(HUNG)
    assert folder.is_dir()
    del bad
    gc.collect()
    assert not folder.exists()


def test_copies_work_on_when_the_original_is_gone():
    bad = BadVideos()
    bad.add('a.mp4', 'x')
    copies = [copy.deepcopy(bad), pickle.loads(pickle.dumps(bad))]
    assert copies[0].read() == {'a.mp4': 'x'}
    del bad
    gc.collect()
    for i, other in enumerate(copies):
        with other.loading('c.mp4'):
            assert other.add(f'{i}.mp4', 'y')
    assert set(copies[0].read()) == {'0.mp4', '1.mp4'}
