# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/data/make_shards.py`."""

import errno
import importlib.util
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from helpers.processes import HUNG
from helpers.stores import FaultyServer

from mmmotionmae.apis import UsageError
from mmmotionmae.datasets.annotation import (
    Layout,
    open_list,
    read_video_list,
)
from mmmotionmae.utils.stores import find_member, read_file

TOOL = Path(__file__).parents[3] / 'tools/data/make_shards.py'


def load_tool():
    spec = importlib.util.spec_from_file_location('shards_tool', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SHARDS = load_tool()
NAMES = ['b/1.mp4', 'a b,c.mp4', 'ü.mkv', 'b/2.mp4', '"q".mp4']
SIZES = [3000, 1, 512, 70_000, 20_000]


def pack(*argv):
    argv = ['--time-limit', HUNG, *argv]
    SHARDS.pack(SHARDS.parse_args([str(a) for a in argv]))


@pytest.fixture
def folder(tmp_path):
    """Files of any content: nothing is decoded."""
    root, rng = tmp_path / 'videos', np.random.default_rng(0)
    for name, size in zip(NAMES, SIZES, strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(rng.bytes(size))
    return root


@pytest.fixture
def listed(folder, tmp_path):
    path = tmp_path / 'train.txt'
    path.write_text(
        'b/1.mp4 3\na b,c.mp4,5\n"ü.mkv"  1\n\nb/2.mp4 0\n'
        '"""q"".mp4" 2\nb/1.mp4 4\n'
    )
    return path


def contents(out):
    """What the files of a folder hold."""
    return {p.name: p.read_bytes() for p in out.iterdir()}


def test_lines_keep_their_order_and_labels(folder, listed, tmp_path, capsys):
    out = tmp_path / 'out'
    pack(listed, out, '--prefix', folder, '--shard-size', 0.03)
    assert sorted(p.name for p in out.iterdir()) == [
        *['00000.tar', '00001.tar', '00002.tar', 'list.txt'],
        'make_shards.json',
    ]
    assert '6 videos in 3 shards' in capsys.readouterr().out
    text = (out / 'list.txt').read_text()
    tails = [line[line.index('@') :] for line in text.splitlines()]
    assert [t.lstrip('@0123456789') for t in tails] == [
        *[' 3', ',5', '  1', ' 0', ' 2', ' 4']
    ]
    before = read_video_list(str(listed))
    after = read_video_list(str(out / 'list.txt'))
    assert [label for _, label in after] == [label for _, label in before]
    for (path, _), (place, _) in zip(before, after, strict=True):
        assert read_file(f'{out}/{place}') == (folder / path).read_bytes()
    assert after[0][0] == after[-1][0]  # packed once


def test_tar_itself_finds_the_same(folder, tmp_path):
    out = tmp_path / 'out'
    pack(folder, out)
    (tmp_path / 'unpacked').mkdir()
    command = ['tar', '-xf', out / '00000.tar', '-C', tmp_path / 'unpacked']
    subprocess.run(command, check=True)
    for name in NAMES:
        there = (tmp_path / 'unpacked' / name).read_bytes()
        assert there == (folder / name).read_bytes()
    with tarfile.open(out / '00000.tar') as shard:
        places = [f'00000.tar@{m.offset_data}@{m.size}' for m in shard]
    assert (out / 'list.txt').read_text().splitlines() == places


def test_shards_are_full_but_not_fuller(folder, tmp_path):
    out = tmp_path / 'out'
    pack(folder, out, '--shard-size', 0.03)
    members = []
    for path in sorted(out.glob('*.tar')):
        with tarfile.open(path) as shard:
            members.append([m.size for m in shard])
        total = sum(512 + -(-size // 512) * 512 for size in members[-1])
        assert total <= 30_000 or len(members[-1]) == 1
    assert sum(map(len, members)) == 5
    assert len(members) == 3


@pytest.mark.parametrize('column', [' 0 -1', ' 1 2 3', ''])
def test_other_columns_stay(folder, tmp_path, column):
    listed = tmp_path / 'list.txt'
    names = NAMES[:3]
    listed.write_text(''.join(f'{name}{column}\n' for name in names))
    pack(listed, tmp_path / 'out', '--prefix', folder)
    lines = (tmp_path / 'out/list.txt').read_text().splitlines()
    for line, size in zip(lines, SIZES, strict=False):
        assert line.endswith(f'@{size}{column}')


@pytest.mark.parametrize(
    ('column', 'options'),
    [
        (' 0.2 1.0 3', {}),
        (',0.2,1.0', {}),
        (' 0 -1', {}),
        (' 1 2 3', dict(multi_class=True)),
        (' 3', {}),
    ],
)
def test_the_list_is_read_as_the_one_that_was_packed(
    folder, tmp_path, column, options
):
    """Also of files without an extension."""
    (folder / 'noext').write_bytes(b'a')
    listed, layout = tmp_path / 'list.txt', Layout.of(**options)
    names = [*NAMES[:2], 'noext'] if column != ' 0 -1' else NAMES[:2]
    listed.write_text(''.join(f'{name}{column}\n' for name in names))
    pack(listed, tmp_path / 'out', '--prefix', folder)
    before = list(open_list(str(listed), layout).entries())
    after = list(open_list(str(tmp_path / 'out/list.txt'), layout).entries())
    assert [x.pop('path') for x in before] == names
    places = [x.pop('path') for x in after]
    assert after == before
    for place, name in zip(places, names, strict=True):
        data = read_file(f'{tmp_path}/out/{place}')
        assert data == (folder / name).read_bytes()


@pytest.mark.parametrize('bad', [' 0.5 1.5 3', ' x', ''])
def test_a_list_that_would_be_read_otherwise(
    folder, listed, tmp_path, monkeypatch, bad
):
    """Nothing is packed."""
    make = SHARDS.list_of
    monkeypatch.setattr(
        SHARDS, 'list_of', lambda *args: make(*args).replace(' 3', bad)
    )
    with pytest.raises(UsageError, match='would not be read.*'):
        pack(listed, tmp_path / 'out', '--prefix', folder)
    assert not (tmp_path / 'out').exists()


def test_the_list_is_read_back_before_it_appears(
    folder, listed, tmp_path, monkeypatch
):
    check, paths = SHARDS.check_list, []

    def second_fails(path, *args):
        paths.append(path)
        if len(paths) == 2:
            path.write_text('a.mp4 3\n')
        check(path, *args)

    monkeypatch.setattr(SHARDS, 'check_list', second_fails)
    with pytest.raises(UsageError, match='would not be read'):
        pack(listed, tmp_path / 'out', '--prefix', folder)
    assert set(contents(tmp_path / 'out')) == {
        *['00000.tar', 'make_shards.json']
    }


@pytest.mark.parametrize(
    ('name', 'text', 'kind'),
    [
        ('a.csv', 'path,label\nb/1.mp4,3\n', 'CSV with names'),
        ('a.txt', '{"path": "b/1.mp4", "label": 3}\n', 'JSON Lines'),
        ('a.json', '["b/1.mp4"]', 'JSON'),
    ],
)
def test_forms_without_lines_say_what_to_do(
    folder, tmp_path, name, text, kind
):
    (tmp_path / name).write_text(text)
    reason = f'{kind}; .*"path start end label".*: write it so'
    with pytest.raises(UsageError, match=reason):
        pack(tmp_path / name, tmp_path / 'out', '--prefix', folder)


def test_separators_of_windows(folder, tmp_path):
    listed, out = tmp_path / 'train.txt', tmp_path / 'out'
    (folder / 'c\\d.mp4').write_bytes(b'so it is called')
    listed.write_text('b\\1.mp4 3\nc\\d.mp4 1\n')
    pack(listed, out, '--prefix', folder)
    with tarfile.open(out / '00000.tar') as shard:
        assert shard.getnames() == ['b/1.mp4', 'c\\d.mp4']
    places = [place for place, _ in read_video_list(str(out / 'list.txt'))]
    for place, name in zip(places, ('b/1.mp4', 'c\\d.mp4'), strict=True):
        assert read_file(f'{out}/{place}') == (folder / name).read_bytes()


def test_an_interrupted_call_goes_on(folder, tmp_path, monkeypatch):
    """With the bytes of one that was not; no list before the end."""
    whole, out = tmp_path / 'whole', tmp_path / 'out'
    argv = ['--shard-size', 0.03, '--num-workers', 1]
    pack(folder, whole, *argv)
    write = SHARDS.write_shard

    def broken(shard):
        if shard.path.name == '00001.tar':
            raise OSError(errno.EIO, 'the disk')
        write(shard)

    with monkeypatch.context() as patch:
        patch.setattr(SHARDS, 'write_shard', broken)
        with pytest.raises(UsageError, match='1 of 3 shards.*00001.*disk'):
            pack(folder, out, *argv)
    assert set(contents(out)) == {
        *['00000.tar', '00002.tar', 'make_shards.json']
    }
    kept = (out / '00000.tar').stat().st_mtime_ns
    pack(folder, out, *argv)
    assert contents(out) == contents(whole)
    assert (out / '00000.tar').stat().st_mtime_ns == kept


def test_nothing_is_overwritten_unasked(folder, listed, tmp_path):
    out = tmp_path / 'out'
    pack(listed, out, '--prefix', folder)
    before = contents(out)
    pack(listed, out, '--prefix', folder)
    assert contents(out) == before
    listed.write_text(listed.read_text().replace(' 3', ' 7'))
    with pytest.raises(UsageError, match='list.txt.* with other lines'):
        pack(listed, out, '--prefix', folder)
    with pytest.raises(UsageError, match='00000.tar.* of other videos'):
        pack(folder, out)
    assert contents(out) == before
    pack(folder, out, '--overwrite')
    assert len((out / 'list.txt').read_text().splitlines()) == 5


def test_a_video_that_has_changed(folder, tmp_path):
    out = tmp_path / 'out'
    pack(folder, out)
    (folder / 'b/1.mp4').write_bytes(bytes(3000))  # as many
    with pytest.raises(UsageError, match='of other videos'):
        pack(folder, out)


def test_a_video_that_changes_meanwhile(folder, tmp_path, monkeypatch):
    prepare = SHARDS.prepare

    def late(*args):
        prepare(*args)
        (folder / 'b/1.mp4').write_bytes(bytes(2999))

    monkeypatch.setattr(SHARDS, 'prepare', late)
    with pytest.raises(UsageError, match='1.mp4.* from 3000 to 2999'):
        pack(folder, tmp_path / 'out')
    assert set(contents(tmp_path / 'out')) == {'make_shards.json'}


def test_a_damaged_shard(folder, tmp_path):
    out = tmp_path / 'out'
    pack(folder, out)
    data = (out / '00000.tar').read_bytes()
    (out / '00000.tar').write_bytes(data[:-1])
    with pytest.raises(UsageError, match='has not the .* bytes'):
        pack(folder, out)


@pytest.mark.parametrize(
    'line,reason',
    [
        ('../a.mp4', 'leads out of the folder'),
        ('x' * 101, 'too long'),
        ('no.mp4', "1 of 1 videos are missing or empty, such as '.*no.mp4'"),
        ('empty.mp4', 'missing or empty'),
        ('b', 'missing or empty'),
        ('b/1.mp4\n./b/1.mp4', "would have one name, 'b/1.mp4'"),
    ],
)
def test_what_cannot_be_packed(folder, tmp_path, line, reason):
    (tmp_path / 'a.mp4').write_bytes(b'a')
    (folder / ('x' * 101)).write_bytes(b'a')
    (folder / 'empty.mp4').touch()
    (tmp_path / 'train.txt').write_text(line)
    with pytest.raises(UsageError, match=reason) as caught:
        pack(tmp_path / 'train.txt', tmp_path / 'out', '--prefix', folder)
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'out').exists()


def test_videos_of_a_store_and_of_shards(folder, listed, tmp_path):
    out, again = tmp_path / 'out', tmp_path / 'again'
    with FaultyServer(folder).running() as url:
        listed.write_text('b/1.mp4 3\nb/2.mp4 0\n')
        pack(listed, out, '--prefix', url)
    pack(out / 'list.txt', again, '--prefix', out)
    places = read_video_list(str(again / 'list.txt'))
    assert [label for _, label in places] == [3, 0]
    for (place, _), name in zip(places, ('b/1.mp4', 'b/2.mp4'), strict=True):
        assert read_file(f'{again}/{place}') == (folder / name).read_bytes()
        assert find_member(place)


def test_one_line_for_a_mistake(tmp_path, monkeypatch, capsys):
    argv = ['make_shards.py', str(tmp_path / 'no.txt'), str(tmp_path / 'out')]
    monkeypatch.setattr(sys, 'argv', argv)
    assert SHARDS.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: ') and 'no.txt' in line
