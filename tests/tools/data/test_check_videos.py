# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/data/check_videos.py`."""

import importlib.util
import json
import multiprocessing
import os
import shutil
import signal
import sys
from functools import partial
from pathlib import Path

import av
import cv2
import pytest
from helpers.processes import HUNG, clock_until, hang, wait_until
from helpers.video_files import encode, encode_sound, picture

from mmmotionmae.apis import UsageError
from mmmotionmae.datasets.annotation import read_video_list
from mmmotionmae.datasets.readers import READERS, PyAVReader
from mmmotionmae.utils.processes import run_jobs

TOOL = Path(__file__).parents[3] / 'tools/data/check_videos.py'


def load_tool():
    spec = importlib.util.spec_from_file_location('check_tool', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHECK = load_tool()


def check(*argv):
    argv = ['--time-limit', HUNG, *argv]
    CHECK.check(CHECK.parse_args([str(a) for a in argv]))


def bad(path):
    """A list of bad videos as a dictionary."""
    return dict(line.split('\t') for line in path.read_text().splitlines())


def damage_frame(source, target, index):
    """Spoil one frame of a video so that it cannot be decoded."""
    with av.open(str(source)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        position, size = packets[index].pos, packets[index].size
    data = bytearray(source.read_bytes())
    data[position : position + size] = b'\xff' * size
    target.write_bytes(data)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Good videos and bad ones."""
    root = tmp_path_factory.mktemp('videos')
    good = root / 'good 1, a.mp4'
    encode(good, num_frames=12, size=(64, 48), g='1')
    (root / 'sub').mkdir()
    encode(root / 'sub/b.mkv', num_frames=5, size=(64, 48))
    encode(root / 'sub/ü.avi', 'mpeg4', num_frames=8, size=(64, 48))
    data = good.read_bytes()
    damage_frame(good, root / 'spoilt.mp4', 5)
    (root / 'cut.mp4').write_bytes(data[: len(data) // 2])
    (root / 'empty.mp4').touch()
    (root / 'text.mp4').write_text('<html>404</html>' * 20)
    encode_sound(root / 'sound.mp4')
    return root


GOOD = ['good 1, a.mp4', 'sub/b.mkv', 'sub/ü.avi']
BAD = ['cut.mp4', 'empty.mp4', 'sound.mp4', 'spoilt.mp4', 'text.mp4']


@pytest.fixture
def listed(folder, tmp_path):
    """A list of all of them, some lines written in odd ways."""
    path = tmp_path / 'all.txt'
    path.write_text(
        '\ufeffcut.mp4 3\r\n'
        'good 1, a.mp4   3\r\n'
        '\r\n'
        'missing.mp4 0\r\n'
        'sub/ü.avi,12\r\n'
        '  empty.mp4 4\r\n'
        'spoilt.mp4 1\r\n'
        '"sub/b.mkv",7  \r\n'
        'sound.mp4 2\r\n'
        'good 1, a.mp4   3\r\n'
        'text.mp4 2\r\n',
        encoding='utf-8',
    )
    return path


@pytest.mark.parametrize('decoder', READERS)
def test_a_list_is_cleaned(folder, listed, tmp_path, capsys, decoder):
    out = tmp_path / 'out/clean.txt'
    check(listed, '--prefix', folder, '--out', out, '--decoder', decoder)
    text = (
        'good 1, a.mp4   3\nsub/ü.avi,12\n"sub/b.mkv",7  \ngood 1, a.mp4   3\n'
    )
    assert out.read_text(encoding='utf-8') == text
    assert read_video_list(str(out)) == [
        ('good 1, a.mp4', 3),
        ('sub/ü.avi', 12),
        ('sub/b.mkv', 7),
        ('good 1, a.mp4', 3),
    ]
    reasons = bad(tmp_path / 'out/clean.bad.txt')
    assert list(reasons) == [
        *['cut.mp4', 'missing.mp4', 'empty.mp4'],
        *['spoilt.mp4', 'sound.mp4', 'text.mp4'],
    ]
    assert reasons['missing.mp4'] == 'there is no such file'
    assert reasons['empty.mp4'] == 'the file is empty'
    if decoder == 'pyav':
        assert reasons['sound.mp4'] == 'there is no video in it'
        start = 'frame 5 of 12 cannot be decoded: '
        assert reasons['spoilt.mp4'].startswith(start)
    assert capsys.readouterr().out.splitlines() == [
        f'4 good videos: {out}',
        f'6 bad videos: {tmp_path}/out/clean.bad.txt',
    ]
    assert sorted(path.name for path in out.parent.iterdir()) == [
        'clean.bad.txt',
        'clean.txt',
        'clean.txt.progress.jsonl',
    ]


def test_a_folder_is_cleaned(folder, tmp_path, capsys):
    out = tmp_path / 'clean.txt'
    check(folder, '--out', out)
    assert read_video_list(str(out)) == [(path, -1) for path in GOOD]
    assert list(bad(tmp_path / 'clean.bad.txt')) == BAD
    # A quick look does not find the frame that cannot be decoded.
    check(folder, '--out', tmp_path / 'quick.txt', '--quick')
    assert list(bad(tmp_path / 'quick.bad.txt')) == [
        path for path in BAD if path != 'spoilt.mp4'
    ]
    with pytest.raises(UsageError, match='--prefix is for lists'):
        check(folder, '--out', tmp_path / 'x.txt', '--prefix', 'a')


def test_quick_looks_at_first_middle_and_last_frame(folder, tmp_path):
    videos = tmp_path / 'videos'
    videos.mkdir()
    for i in (1, 6, 10, 11):
        damage_frame(folder / GOOD[0], videos / f'{i:02}.mp4', i)
    check(videos, '--out', tmp_path / 'full.txt')
    check(videos, '--out', tmp_path / 'quick.txt', '--quick')
    assert (tmp_path / 'full.txt').read_text() == ''
    quick = (tmp_path / 'quick.txt').read_text()
    assert quick == '01.mp4\n10.mp4\n'


def test_what_a_decoder_would_read_wrongly_is_bad(tmp_path):
    videos = tmp_path / 'videos'
    videos.mkdir()
    small = dict(num_frames=6, size=(64, 48), rate=25)
    encode(videos / 'palette.avi', 'rawvideo', 'pal8', **small)
    encode(videos / 'program.mpg', 'mpeg2video', **small)
    encode(videos / 'usual.mp4', **small)
    for decoder in ('pyav', 'opencv', 'decord'):
        out = tmp_path / f'{decoder}.txt'
        check(videos, '--out', out, '--decoder', decoder)
        good = out.read_text().split()
        if decoder == 'decord':
            assert good == ['usual.mp4']
            assert bad(tmp_path / 'decord.bad.txt') == {
                'palette.avi': 'decord reads it wrongly, since the file gives '
                'its palette, or the like, only once',
                'program.mpg': 'decord reads mpeg files wrongly',
            }
        else:
            assert good == ['palette.avi', 'program.mpg', 'usual.mp4']


def test_min_frames(folder, tmp_path):
    out = tmp_path / 'clean.txt'
    check(folder, '--out', out, '--min-frames', 8)
    assert read_video_list(str(out)) == [(GOOD[0], -1), (GOOD[2], -1)]
    reason = bad(tmp_path / 'clean.bad.txt')['sub/b.mkv']
    assert reason == 'has 5 frames, fewer than 8'


def test_a_name_that_fits_in_no_list(folder, tmp_path):
    videos = tmp_path / 'videos'
    videos.mkdir()
    for name in ('a.mp4', 'b\nc.mp4', 'd\udcff.mp4', '"e.mp4'):
        shutil.copy(folder / GOOD[0], videos / name)
    check(videos, '--out', tmp_path / 'clean.txt')
    assert (tmp_path / 'clean.txt').read_text() == 'a.mp4\n'
    text = (tmp_path / 'clean.bad.txt').read_text()
    assert text.count('its name cannot be written in a list') == 3


def test_frames(tmp_path):
    for name, count in {'a 1': 3, 'b': 3, 'c': 2}.items():
        folder = tmp_path / 'frames' / name
        folder.mkdir(parents=True)
        for i in range(count):
            cv2.imwrite(str(folder / f'{i}.jpg'), picture(i, (32, 24)))
    (tmp_path / 'frames/b/1.jpg').write_bytes(b'no image')
    listed = tmp_path / 'all.txt'
    listed.write_text('"a 1" 3 0\n"a 1" 2 0\nb 3 1\nb 1 1\nc 3 1\nd 1 1\n')
    argv = ['--frames', '--prefix', tmp_path / 'frames']
    check(listed, '--out', tmp_path / 'clean.txt', *argv)
    assert (tmp_path / 'clean.txt').read_text() == (
        '"a 1" 3 0\n"a 1" 2 0\nb 1 1\n'
    )
    assert bad(tmp_path / 'clean.bad.txt') == {
        'b': "frame 1 of 3 cannot be decoded: '1.jpg' is missing or no image",
        'c': 'there are 2 images, but the list says 3',
        'd': 'there is no such folder',
    }
    with pytest.raises(UsageError, match='--frames needs a list'):
        check(tmp_path / 'frames', '--out', tmp_path / 'x.txt', '--frames')


@pytest.mark.parametrize('first', [0, 1])
def test_parts_of_a_folder(tmp_path, first):
    folder = tmp_path / 'a'
    folder.mkdir()
    for i in range(10):
        path = folder / f'img_{first + i:05}.jpg'
        cv2.imwrite(str(path), picture(i, (32, 24)))
    (folder / f'img_{first + 5:05}.jpg').write_bytes(b'no image')
    listed, out = tmp_path / 'all.txt', tmp_path / 'clean.txt'
    for column, offset in (('start_index', first), ('offset', 0)):
        rows = [
            f'a {start + offset} {count} {label}\n'
            for label, (start, count) in enumerate(
                [(0, 5), (6, 4), (0, 10), (5, 1), (7, 4), (50, 1), (-1, 2)]
            )
        ]
        listed.write_text(''.join(row for row in rows if '-' not in row))
        argv = ['--columns', column, 'total_frames', 'label']
        argv += ['--frames', '--prefix', tmp_path, '--overwrite']
        check(listed, '--out', out, *argv)
        assert out.read_text() == ''.join(rows[:2])
        reasons = out.with_suffix('.bad.txt').read_text()
        assert reasons.count('is missing or no image') == 2
        assert 'the list says 4 from place 7' in reasons
        assert 'the list says 1 from place 50' in reasons


def test_names_that_end_in_numbers(folder, tmp_path):
    videos = tmp_path / 'videos'
    videos.mkdir()
    for name in ('day 1', 'day 2'):
        shutil.copy(folder / 'good 1, a.mp4', videos / name)
    check(videos, '--out', tmp_path / 'clean.txt')
    read = read_video_list(str(tmp_path / 'clean.txt'))
    assert read == [('day 1', -1), ('day 2', -1)]


class Stub(PyAVReader):
    """A decoder that does what the file's name says."""

    def __init__(self, path, time_limit=None):
        name = Path(path).name
        with open(os.environ['DECODED'], 'a') as file:
            file.write(f'{name}\n')
        if 'crash' in name:
            os.kill(os.getpid(), signal.SIGSEGV)
        if 'touch' in name:
            os.utime(path, (0, 0))
        if 'hang' in name:
            Path(os.environ['HANGS']).touch()
            hang()
        if 'interrupt' in name:
            os.kill(os.getppid(), signal.SIGINT)
            hang()
        super().__init__(path, time_limit)


@pytest.fixture
def decoded(tmp_path, monkeypatch):
    """What the stub has decoded since the last call."""
    note = tmp_path / 'decoded.txt'
    monkeypatch.setenv('DECODED', str(note))
    monkeypatch.setitem(READERS, 'pyav', Stub)

    def read():
        text = note.read_text() if note.exists() else ''
        note.unlink(missing_ok=True)
        return sorted(text.split())

    return read


def copies(folder, source, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(source, folder / name)
    return folder


def test_crashes_and_hangs(folder, decoded, tmp_path, monkeypatch):
    names = ['1.mp4', '2-crash.mp4', '3.mp4', '4-hang.mp4', '5-crash.mp4']
    names += ['6.mp4', '7.mp4']
    videos = copies(tmp_path / 'videos', folder / GOOD[0], *names)
    note = tmp_path / 'hangs'
    monkeypatch.setenv('HANGS', str(note))
    # One video at a time: none but the one that hangs is ever late.
    one_process = ['--num-workers', 1, '--time-limit', 0.05]
    monkeypatch.setattr(
        CHECK, 'run_jobs', partial(run_jobs, clock=clock_until(note))
    )
    check(videos, '--out', tmp_path / 'clean.txt', *one_process)
    assert (tmp_path / 'clean.txt').read_text() == (
        '1.mp4\n3.mp4\n6.mp4\n7.mp4\n'
    )
    assert bad(tmp_path / 'clean.bad.txt') == {
        '2-crash.mp4': 'the decoder crashed (SIGSEGV)',
        '4-hang.mp4': 'takes more than 0.05 s',
        '5-crash.mp4': 'the decoder crashed (SIGSEGV)',
    }
    assert decoded() == names
    wait_until(lambda: not multiprocessing.active_children())


def test_an_interrupted_check_goes_on(folder, decoded, tmp_path, monkeypatch):
    names = ['1.mp4', '2-crash.mp4', '3-interrupt.mp4', '4.mp4']
    videos = copies(tmp_path / 'videos', folder / GOOD[0], *names)
    argv = [videos, '--out', tmp_path / 'clean.txt', '--num-workers', 1]
    argv += ['--time-limit', HUNG]
    monkeypatch.setattr(sys, 'argv', ['check', *map(str, argv)])
    # Whatever started the tests may have switched it off.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert CHECK.main() == 130
    assert decoded() == names[:3]
    assert not (tmp_path / 'clean.txt').exists()
    wait_until(lambda: not multiprocessing.active_children())
    progress = tmp_path / 'clean.txt.progress.jsonl'
    records = [json.loads(line) for line in progress.read_text().splitlines()]
    assert [Path(r['path']).name for r in records] == names[:2]
    assert [r['num_frames'] for r in records] == [12, None]
    with open(progress, 'a') as file:
        file.write('{"path": "')  # a line that was cut off
    monkeypatch.setitem(READERS, 'pyav', PyAVReader)
    assert CHECK.main() == 0
    text = (tmp_path / 'clean.txt').read_text()
    assert text == '1.mp4\n3-interrupt.mp4\n4.mp4\n'
    assert bad(tmp_path / 'clean.bad.txt') == {
        '2-crash.mp4': 'the decoder crashed (SIGSEGV)'
    }
    assert progress.read_text().count('\n') == 4


def test_a_video_that_changes_while_it_is_checked(folder, decoded, tmp_path):
    videos = copies(tmp_path / 'videos', folder / GOOD[0], '1-touch.mp4')
    for found in (['1-touch.mp4'], ['1-touch.mp4'], []):
        check(videos, '--out', tmp_path / 'clean.txt', '--overwrite')
        assert decoded() == found


def test_what_is_checked_again(folder, decoded, tmp_path, monkeypatch):
    names = ['1.mp4', '2.mp4', '3-crash.mp4']
    videos = copies(tmp_path / 'videos', folder / GOOD[0], *names)
    out = tmp_path / 'clean.txt'

    def again(*argv):
        out.unlink(missing_ok=True)
        out.with_suffix('.bad.txt').unlink(missing_ok=True)
        check(videos, '--out', out, *argv)
        assert out.read_text() == '1.mp4\n2.mp4\n'
        return decoded()

    assert again() == names
    assert again() == []
    assert again('--min-frames', 3) == []
    assert again('--quick') == names
    assert again('--time-limit', HUNG + 1) == names[2:]
    assert again('--time-limit', HUNG + 1) == []
    assert again('--time-limit', HUNG + 1, '--overwrite') == names[2:]
    assert again() == names[2:]
    os.utime(videos / names[1], (0, 0))
    assert again() == names[1:2]
    copies(videos, folder / GOOD[1], names[0])
    assert again() == names[:1]
    monkeypatch.setitem(READERS, 'opencv', Stub)
    assert again('--decoder', 'opencv') == names


def test_lists_are_not_overwritten(folder, listed, tmp_path, monkeypatch):
    for name in ('clean.txt', 'clean.bad.txt'):
        mine = tmp_path / name
        mine.write_text('mine')
        argv = [listed, '--prefix', folder, '--out', tmp_path / 'clean.txt']
        with pytest.raises(UsageError, match=f'{name}.*--overwrite'):
            check(*argv)
        assert mine.read_text() == 'mine'
        assert not (tmp_path / 'clean.txt.progress.jsonl').exists()
        mine.unlink()
    text = listed.read_bytes()
    with pytest.raises(UsageError, match='must not be the list'):
        check(listed, '--prefix', folder, '--out', listed, '--overwrite')
    assert listed.read_bytes() == text
    (tmp_path / 'clean.bad.txt').write_text('stale')
    listed.write_text('sub/b.mkv 0\n')
    check(*argv, '--overwrite')
    assert (tmp_path / 'clean.txt').read_text() == 'sub/b.mkv 0\n'
    assert not (tmp_path / 'clean.bad.txt').exists()


def test_usage(listed, tmp_path):
    out = ['--out', tmp_path / 'clean.txt']
    with pytest.raises(UsageError, match='None of the 10 .*--prefix'):
        check(listed, *out)
    listed.write_text('a.mp4 1\nb.mp4\n')
    with pytest.raises(UsageError, match='line 2 has no label'):
        check(listed, *out)
    with pytest.raises(FileNotFoundError, match='no-list'):
        check('no-list', *out)
    assert not (tmp_path / 'clean.txt.progress.jsonl').exists()
