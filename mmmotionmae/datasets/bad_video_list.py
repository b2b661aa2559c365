# Copyright (c) MotionMAE contributors. All rights reserved.
import fcntl
import json
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

_EXITING = 4  # PF_EXITING, one of the flags in /proc/<pid>/stat


class BadVideos:
    """The bad videos of a data set, as all its loader processes find them.

    The processes of one training process share a temporary folder: a file to
    which each appends what it finds, and for each a file that says what it is
    loading. The latter tells which video a process died of.
    """

    def __init__(self) -> None:
        folder = tempfile.mkdtemp(prefix='mmmotionmae-')
        self.folder = Path(folder)
        self._owner = os.getpid()
        self._seen: set[str] = set()
        self._notes: dict[int, int] = {}
        weakref.finalize(self, _remove, folder, self._owner)

    def __getstate__(self) -> dict:
        return dict(self.__dict__, _notes={})  # file handles stay here

    def add(self, filename: str, reason: str) -> bool:
        """Note a bad video.

        Args:
            filename: The video.
            reason: What is wrong with it, one line.

        Returns:
            Whether it is new, for all processes together.
        """
        if filename in self._seen:
            return False
        self._seen.add(filename)
        self.folder.mkdir(exist_ok=True)  # a copy may outlive the original
        with open(self.folder / 'bad.jsonl', 'a+', encoding='utf-8') as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            if any(json.loads(line)[0] == filename for line in file):
                return False
            file.write(json.dumps([filename, reason]) + '\n')
            return True

    def read(self) -> dict[str, str]:
        """All bad videos so far, with the reasons, in the order found."""
        try:
            with open(self.folder / 'bad.jsonl', encoding='utf-8') as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                return dict(json.loads(line) for line in file)
        except FileNotFoundError:
            return {}

    @contextmanager
    def loading(self, filename: str) -> Iterator[None]:
        """Note what this process is loading, while it does."""
        pid = os.getpid()
        if pid not in self._notes:
            self.folder.mkdir(exist_ok=True)
            flags = os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC
            self._notes[pid] = os.open(self.folder / f'{pid}.txt', flags)
        note = self._notes[pid]
        os.pwrite(note, os.fsencode(filename), 0)
        try:
            yield
        finally:
            os.ftruncate(note, 0)

    def died_of(self) -> dict[int, str]:
        """Videos that dead processes were loading, by process id."""
        return self._left_by('dead')

    def await_ends(self) -> None:
        """Wait for the processes that are about to end while they load.

        One that dies closes its connections first: who reads from them may
        learn of it before :meth:`died_of` does. In the meantime PyTorch may
        raise a RuntimeError, as always when it learns of such a death.
        """
        ending = True
        while ending:
            ending = bool(self._left_by('ending'))
            time.sleep(0.01)

    def _left_by(self, state: Literal['ending', 'dead']) -> dict[int, str]:
        found = {}
        for path in self.folder.glob('*.txt'):
            # The note is read after that: one that was read before may have
            # been withdrawn by the time of a regular end.
            if _state(int(path.stem)) == state:
                filename = os.fsdecode(path.read_bytes())
                if filename:
                    found[int(path.stem)] = filename
        return found


def _state(pid: int) -> Literal['alive', 'ending', 'dead']:
    try:
        text = Path(f'/proc/{pid}/stat').read_text(encoding='utf-8')
    except (FileNotFoundError, ProcessLookupError):  # gone before, or just now
        return 'dead'
    fields = text.rpartition(')')[2].split()
    if fields[0] in 'ZX':
        return 'dead'
    return 'ending' if int(fields[6]) & _EXITING else 'alive'


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # not in forked processes
        shutil.rmtree(folder, ignore_errors=True)
