# Copyright (c) MotionMAE contributors. All rights reserved.
"""Opening of lists: a file beside a long one is its index."""

import fcntl
import functools
import hashlib
import io
import json
import os
import os.path as osp
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ...utils.errors import AnnotationError
from . import building, lines, tables, texts
from . import layout as layouts
from .building import Builder, read_batches
from .index import VideoList
from .layout import Layout

INDEX_FROM = 2**20
"""Bytes of a list from which on its index is kept in a file."""

_SETTLED = 2 * 10**9  # ns after which a change shows in a file's time


def open_list(
    ann_file: str, layout: Layout, num_classes: int | None = None
) -> VideoList:
    """Open a list of any form, see ``docs/user_guides/lists.md``.

    The index of a long list is a file beside it, ``.<name>.<key>.index``; or
    in ``$XDG_CACHE_HOME/mmmotionmae`` (``~/.cache/mmmotionmae``) or a
    temporary folder where that cannot be written. It is mapped into memory,
    so that all processes of a machine share it, and made anew when the list
    has changed.

    Args:
        ann_file: The list.
        layout: What is on its lines.
        num_classes: See :meth:`VideoList.check_classes`.

    Raises:
        FileNotFoundError: If there is no such file.
        AnnotationError: If the list is not as it should be.
    """
    if not osp.isfile(ann_file):
        raise FileNotFoundError(f'There is no annotation file {ann_file!r}.')
    if osp.getsize(ann_file) < INDEX_FROM:
        found = _build(ann_file, layout, None)
    else:
        found = _find(ann_file, layout) or _make(ann_file, layout)
    found.check_classes(ann_file, layout, num_classes)
    return found


def _candidates(ann_file: str, layout: Layout) -> list[Path]:
    """List where an index may be, or go."""
    list_path = Path(osp.realpath(ann_file))
    extension = osp.splitext(ann_file)[1].lower()  # which tells the form
    text = json.dumps([layout.as_dict(), extension, _parser()], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:8]
    name = f'.{list_path.name}.{key}.index'
    origin = hashlib.sha256(os.fsencode(list_path)).hexdigest()[:16]
    cache = os.environ.get('XDG_CACHE_HOME') or osp.expanduser('~/.cache')
    own = osp.join(tempfile.gettempdir(), f'mmmotionmae-{os.getuid()}')
    return [
        list_path.with_name(name),
        Path(cache, 'mmmotionmae', f'{origin}{name}'),
        Path(own, f'{origin}{name}'),
    ]


@functools.cache
def _parser() -> str:
    """Digest of the code that reads lists: another makes other indexes."""
    digest = hashlib.sha256()
    for module in (building, layouts, lines, tables, texts):
        path = module.__file__
        if path is not None and osp.isfile(path):
            digest.update(Path(path).read_bytes())
    return digest.hexdigest()


def _find(ann_file: str, layout: Layout) -> VideoList | None:
    """The index of the list as it is now, if there is one."""
    digest = ''
    for path in _candidates(ann_file, layout):
        try:
            found = VideoList.open(str(path))
            status = os.stat(path)
            made = [int(x) for x in found.source['stamp']]
            size, _, _ = made
            of = str(found.source['digest'])
        except Exception:  # not there, or damaged in whatever way
            continue
        if status.st_uid not in (os.getuid(), os.stat(ann_file).st_uid, 0):
            continue  # anybody's, in a folder for all
        if found.layout != json.loads(json.dumps(layout.as_dict())):
            continue
        stamp = _stamp(ann_file)
        settled = status.st_mtime_ns - max(stamp[1:3]) > _SETTLED
        if made == stamp and settled:
            return found
        if size != stamp[0]:
            continue  # another size
        digest = digest or _digest(ann_file)
        if of == digest:
            return found
    return None


def _make(ann_file: str, layout: Layout) -> VideoList:
    """Make an index, unless another process has just done so."""
    with _alone(ann_file):
        found = _find(ann_file, layout)
        if found is not None:
            return found
        for path in _candidates(ann_file, layout):
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _build(ann_file, layout, path)
                return VideoList.open(str(path))
            except OSError:  # nothing can be written there
                continue
        return _build(ann_file, layout, None)


@contextmanager
def _alone(ann_file: str) -> Iterator[None]:
    """Let others wait who open the same list, where files can be locked."""
    with open(ann_file, 'rb') as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(ann_file: str, layout: Layout, path: Path | None) -> VideoList:
    """Read the list, and write its index.

    Raises:
        AnnotationError: If it is not as it should be.
        OSError: If the index cannot be written.
    """
    before = _stamp(ann_file)
    folder = None if path is None else str(path.parent)
    with Builder(ann_file, layout, folder) as builder:
        if path is not None:  # found out before the list is read
            tempfile.TemporaryFile(dir=folder).close()
        for batch in read_batches(ann_file, layout):
            builder.add(batch)
        if path is None:
            memory = io.BytesIO()
            builder.write(memory, {})
            return VideoList(memory.getvalue())
        source: dict[str, Any] = dict(stamp=before, digest=_digest(ann_file))
        if _stamp(ann_file) != before:
            raise AnnotationError(f'{ann_file} changed while it was read.')
        # The name is this process's own.
        with tempfile.NamedTemporaryFile(
            dir=folder, prefix=path.name, suffix='.tmp', delete=False
        ) as file:
            try:
                builder.write(file, source)
                file.flush()
                os.fchmod(file.fileno(), os.stat(ann_file).st_mode & 0o666)
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    return VideoList.open(str(path))


def _stamp(ann_file: str) -> list[int]:
    """Size and times: another one as soon as the list is written to."""
    status = os.stat(ann_file)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _digest(ann_file: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with open(ann_file, 'rb') as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()
