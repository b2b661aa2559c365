# Copyright (c) MotionMAE contributors. All rights reserved.
"""Files of stores: what is read, what is refused, what is tried again."""

import errno
import io
import multiprocessing
import os
import tarfile

import aiohttp
import numpy as np
import pytest
from helpers.processes import HUNG
from helpers.stores import FaultyServer, pack
from mmengine.fileio import BaseStorageBackend
from mmengine.fileio.backends.registry_utils import backends

from mmmotionmae.utils.deadlines import Deadline
from mmmotionmae.utils.errors import (
    StorageError,
    StorageTimeoutError,
    UsageError,
    VideoError,
)
from mmmotionmae.utils.stores import (
    files,
    find_member,
    find_store,
    is_plain,
    join_name,
    open_file,
    read_file,
    stamp_of,
)
from mmmotionmae.utils.stores.files import BlockFile

PATIENT = dict(retry_delays=(0,) * 50, request_timeout=HUNG)
NO_RETRY = dict(retry_delays=(), request_timeout=HUNG)


@pytest.fixture
def folder(tmp_path):
    """Three files, and a shard with two of them."""
    rng = np.random.default_rng(0)
    for name, size in dict(a=3000, b=1, c=512).items():
        (tmp_path / f'{name}.bin').write_bytes(rng.bytes(size))
    members = pack(
        tmp_path / 's.tar',
        {'x/a.bin': tmp_path / 'a.bin', 'c.bin': tmp_path / 'c.bin'},
    )
    (tmp_path / 'members.txt').write_text('\n'.join(members))
    return tmp_path


@pytest.fixture
def serve(folder):
    """Start a server with faults; all end with the test."""
    running = []

    def start(**kwargs):
        server = FaultyServer(folder, **kwargs)
        context = server.running()
        context.__enter__()
        running.append(context)
        return server

    yield start
    for context in running:
        context.__exit__(None, None, None)


def members_of(folder):
    return (folder / 'members.txt').read_text().split('\n')


@pytest.mark.parametrize(
    'name,plain',
    [
        ('a.mp4', True),
        ('/a b/c:d.mp4', True),
        ('a@1@2.mp4', True),
        ('a.tar', True),
        ('a.tar@1@x', True),
        ('a.tar@1@2', False),
        ('s3://bucket/a.mp4', False),
        ('simplecache::https://host/a.mp4', False),
        ('C:\\a.mp4', True),
    ],
)
def test_names(name, plain):
    assert is_plain(name) == plain


@pytest.mark.parametrize('remote', [False, True])
def test_files_and_members(folder, serve, remote):
    prefix = serve().url if remote else str(folder)
    for name in 'abc':
        path = join_name(prefix, f'{name}.bin')
        assert read_file(path) == (folder / f'{name}.bin').read_bytes()
    for member, name in zip(members_of(folder), 'ac', strict=True):
        with open_file(join_name(prefix, member)) as file:
            assert file.read() == (folder / f'{name}.bin').read_bytes()
            assert file.name == dict(a='x/a.bin', c='c.bin')[name]
            file.seek(-7, io.SEEK_END)
            assert len(file.read()) == 7


@pytest.mark.parametrize('remote', [False, True])
def test_what_is_not_there(folder, serve, remote):
    prefix = serve().url if remote else str(folder)
    (folder / 'empty.bin').touch()
    first, second = members_of(folder)
    offset, size = find_member(first)[1:]
    shard = join_name(prefix, 's.tar')
    total = (folder / 's.tar').stat().st_size
    for name, reason in {
        f'{prefix}/no.bin': 'no such file',
        f'{prefix}/no.tar@512@9': 'no such file',
        f'{prefix}/empty.bin': 'empty',
        f'{shard}@512@{total}': f'since it has {total} bytes',
        f'{shard}@0@9': 'no such member',
        f'{shard}@{offset}@{size - 1}': f'{size} bytes, not {size - 1}',
        f'{shard}@{offset + 5}@{size}': 'packed anew',
    }.items():
        with pytest.raises(VideoError, match=reason) as caught:
            open_file(name, NO_RETRY)
        assert not isinstance(caught.value, StorageError), name


def test_a_stamp_changes_with_the_file(folder):
    path = folder / 's.tar'
    member = f'{folder}/{members_of(folder)[0]}'
    before = stamp_of(member)
    assert before == stamp_of(str(path))
    os.utime(path, ns=(1, 1))
    assert stamp_of(member) != before


FAULTS = ['error', 'cut', 'short', 'hang up']


@pytest.mark.parametrize('fault', FAULTS)
@pytest.mark.parametrize('name', ['a.bin', 'member'])
def test_a_fault_is_the_stores_and_passes(folder, serve, fault, name):
    """Twice for the size and twice for the content, or all the time."""
    if name == 'member':
        name = members_of(folder)[0]
    server = serve(first=[None, fault, fault])
    assert (
        read_file(f'{server.url}/{name}', PATIENT)
        == (folder / 'a.bin').read_bytes()
    )
    assert server.counts == {fault: 2, None: 2}
    server = serve(shares={fault: 1.1})
    if fault != 'short':  # else a HEAD tells half of the truth
        with pytest.raises(StorageError):
            open_file(f'{server.url}/{name}', NO_RETRY)


def test_a_size_that_cannot_be_asked_for_is_not_a_missing_file(serve):
    """fsspec calls all that goes wrong there a missing file."""
    server = serve(first=['error'] * 4)
    with pytest.raises(StorageError, match='503'):
        open_file(f'{server.url}/a.bin', NO_RETRY)
    assert [method for method, _ in server.requests] == ['HEAD', 'GET']
    assert len(read_file(f'{server.url}/a.bin', PATIENT)) == 3000


def test_a_stalled_request_is_given_up(folder, serve):
    server = serve(first=[None, 'stall', 'stall'])
    patient = dict(PATIENT, request_timeout=0.3)
    assert (
        read_file(f'{server.url}/b.bin', patient)
        == (folder / 'b.bin').read_bytes()
    )
    assert server.counts['stall'] == 2


def test_a_deadline_ends_the_patience(serve):
    """Whatever the time-out of a request, and the number of tries."""
    server = serve(shares=dict(stall=1.1))
    with pytest.raises(StorageTimeoutError, match='more than 0.3 s.*waiting'):
        open_file(f'{server.url}/a.bin', PATIENT, Deadline(0.3))


def test_it_waits_longer_from_time_to_time(serve):
    server = serve(shares=dict(error=1.1))
    waits = []
    with pytest.raises(StorageError):
        open_file(
            f'{server.url}/a.bin',
            dict(retry_delays=(1, 10, 100), sleep=waits.append),
        )
    assert len(waits) == 3
    for wait, delay in zip(waits, (1, 10, 100), strict=True):
        assert delay / 2 <= wait <= delay * 1.5


def test_what_no_patience_helps_against(serve):
    server = serve(shares=dict(forbidden=1.1))
    with pytest.raises(VideoError, match='the server answers 403') as caught:
        open_file(f'{server.url}/a.bin', PATIENT)
    assert not isinstance(caught.value, StorageError)
    assert len(server.requests) == 2  # fsspec's two ways to ask for a size


def test_a_server_without_ranges(folder, serve, monkeypatch):
    """Whole files can be had; members of shards are refused."""
    server = serve()
    monkeypatch.setattr('benchmarks.http_server._RANGE', _Nothing())
    assert len(read_file(f'{server.url}/a.bin')) == 3000
    with pytest.raises(UsageError, match='does not answer range requests'):
        open_file(f'{server.url}/{members_of(folder)[0]}')


class _Nothing:
    def fullmatch(self, text):
        return None


def test_shards_are_asked_for_their_size_once(folder, serve):
    server = serve()
    for _ in range(3):
        for member in members_of(folder):
            open_file(f'{server.url}/{member}')
    methods = [method for method, _ in server.requests]
    assert methods == ['HEAD'] + 6 * ['GET']


# ------------------------------------------------------------- in blocks


@pytest.fixture
def blocks():
    """A file in blocks, its content, and what was read of it."""
    content, asked = np.random.default_rng(1).bytes(1003), []

    def read(start, end):
        asked.append((start, end))
        return content[start:end]

    return BlockFile(read, 1003, 'a.bin', 100, 3), content, asked


def test_any_part_in_any_order(blocks):
    file, content, _ = blocks
    plain, rng = io.BytesIO(content), np.random.default_rng(2)
    buffered = io.BufferedReader(file)
    for _ in range(200):
        where, whence = int(rng.integers(-1200, 1200)), int(rng.integers(3))
        try:
            expected = plain.seek(where, whence)
        except (OSError, ValueError):
            continue
        if whence == io.SEEK_CUR and plain.tell() > 2000:
            plain.seek(0), buffered.seek(0)
            continue
        assert buffered.seek(expected) == expected
        size = int(rng.integers(300))
        assert buffered.read(size) == plain.read(size)


def test_memory_is_bounded_and_given_back(blocks):
    file, content, asked = blocks
    assert file.readall() == content
    assert asked == [(i, min(i + 100, 1003)) for i in range(0, 1003, 100)]
    assert sum(map(len, file._blocks.values())) <= 300
    for _ in range(2):  # the last three are at hand
        file.seek(850)
        file.readall()
    assert len(asked) == 11
    file.close()
    assert not file._blocks


@pytest.mark.parametrize('remote', [False, True])
def test_large_files_are_not_held_in_memory(
    folder, serve, remote, monkeypatch
):
    monkeypatch.setattr(files, 'WHOLE', 400)
    prefix = serve().url if remote else str(folder)
    content = (folder / 'a.bin').read_bytes()
    for name in ('a.bin', members_of(folder)[0]):
        with open_file(f'{prefix}/{name}') as file:
            assert isinstance(file, BlockFile)
            assert file.readall() == content
        assert read_file(f'{prefix}/{name}') == content


# --------------------------------------------------------- back ends


class Memory(BaseStorageBackend):
    """A back end of MMEngine's, as Petrel's client is one."""

    def __init__(self, files, fails=()):
        self.files, self.fails = files, list(fails)

    def get(self, filepath):
        if self.fails:
            raise self.fails.pop(0)
        return memoryview(self.files[filepath])

    def get_text(self, filepath, encoding='utf-8'):
        raise NotImplementedError


def test_a_back_end_of_mmengine(monkeypatch):
    monkeypatch.setitem(backends, 'memory', Memory)
    args = dict(backend='memory', files={'s3://a': b'abc'})
    assert read_file('s3://a', args) == b'abc'
    with pytest.raises(UsageError, match="'memory' reads whole files only"):
        open_file('s3://a.tar@512@3', args)
    failing = dict(args, fails=[OSError(errno.ENOENT, 'gone')])
    with pytest.raises(VideoError, match='there is no such file'):
        read_file('s3://a', failing)


def test_local_files_by_mmengine(folder):
    args = dict(backend='local')
    assert (
        read_file(str(folder / 'b.bin'), args)
        == (folder / 'b.bin').read_bytes()
    )


@pytest.mark.parametrize(
    'name,args,said',
    [
        ('a', dict(backend='no such'), "no backend 'no such'"),
        ('nosuch://a', {}, 'Protocol not known: nosuch'),
        ('http://a/b', dict(no_such=1), 'no_such'),
        ('a', dict(backend='petrel'), 'petrel'),
    ],
)
def test_what_cannot_be_used(name, args, said):
    with pytest.raises(UsageError, match=said):
        find_store(name, args)
        open_file(name, args)


def test_a_missing_package_is_named(monkeypatch):
    def no_package(*args, **kwargs):
        raise ImportError('Install s3fs to access S3')

    monkeypatch.setattr('fsspec.core.url_to_fs', no_package)
    with pytest.raises(UsageError, match=r'mmmotionmae\[remote\]') as caught:
        open_file('s3://bucket/a.mp4')
    assert 's3fs' in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'error,kind',
    [
        (aiohttp.ServerTimeoutError(), StorageError),
        (ConnectionResetError(), StorageError),
        (TimeoutError(), StorageError),
        (OSError('what fsspec says of S3'), StorageError),
        (OSError(errno.ESTALE, 'stale'), StorageError),
        (PermissionError('AccessDenied'), VideoError),
        (OSError(errno.ENAMETOOLONG, 'too long'), VideoError),
        (type('NoCredentialsError', (Exception,), {})(), UsageError),
        (OSError(errno.EMFILE, 'too many open files'), OSError),
        (TypeError('a defect'), TypeError),
        (MemoryError(), MemoryError),
    ],
)
def test_whose_fault_it_is(monkeypatch, error, kind):
    monkeypatch.setitem(backends, 'memory', Memory)
    args = dict(backend='memory', files={}, fails=[error] * 9)
    monkeypatch.setattr('mmmotionmae.utils.stores.backends._DELAYS', ())
    with pytest.raises(kind) as caught:
        read_file('s3://a', args)
    assert type(caught.value) is kind or isinstance(error, kind)


# --------------------------------------------------------- processes


def _digest(url, queue):
    queue.put(read_file(url, PATIENT))


@pytest.mark.parametrize(
    'method', ['fork', pytest.param('spawn', marks=pytest.mark.slow)]
)
def test_processes_read_what_their_parent_has_read(folder, serve, method):
    """The thread of fsspec's loop is not copied by a fork."""
    url = f'{serve().url}/{members_of(folder)[0]}'
    expected = read_file(url, PATIENT)
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    processes = [
        context.Process(target=_digest, args=(url, queue)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    assert [queue.get(timeout=HUNG) for _ in processes] == [expected] * 2
    for process in processes:
        process.join()
    assert read_file(url, PATIENT) == expected


def test_long_names_of_members(tmp_path):
    """The header before the content has the beginning of a long name."""
    (tmp_path / 'a').write_bytes(b'abc')
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / f'{form}.tar'
        with tarfile.open(path, 'w', format=form) as shard:
            shard.add(tmp_path / 'a', 'long' * 100)
        with tarfile.open(path) as shard:
            (member,) = shard
        name = f'{path}@{member.offset_data}@{member.size}'
        with open_file(name) as file:
            assert file.read() == b'abc'
            assert file.name.startswith('longlong')


def test_a_file_that_has_been_replaced(folder, serve):
    """Its size is asked for anew, once the old one does not fit."""
    server = serve()
    url = f'{server.url}/a.bin'
    assert len(read_file(url, NO_RETRY)) == 3000
    for size in (2000, 4000):
        server._files['/a.bin'] = bytes(size)
        with pytest.raises(StorageError, match=f'{size} bytes came'):
            read_file(url, NO_RETRY)
        assert read_file(url, NO_RETRY) == bytes(size)
