# Copyright (c) MotionMAE contributors. All rights reserved.
import fcntl
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
            text = (self.folder / 'bad.jsonl').read_text(encoding='utf-8')
        except FileNotFoundError:
            return {}
        return dict(json.loads(line) for line in text.splitlines())

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
        found = {}
        for path in self.folder.glob('*.txt'):
            filename = os.fsdecode(path.read_bytes())
            if filename and not _alive(int(path.stem)):
                found[int(path.stem)] = filename
        return found


def _alive(pid: int) -> bool:
    try:
        with open(f'/proc/{pid}/stat', encoding='utf-8') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # not in forked processes
        shutil.rmtree(folder, ignore_errors=True)
