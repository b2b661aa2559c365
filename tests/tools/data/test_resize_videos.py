# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/data/resize_videos.py`."""

import importlib.util
import multiprocessing
import os
import shutil
import signal
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers.video_files import cut, encode, encode_sound, turn

from mmmotionmae.apis import UsageError
from mmmotionmae.datasets.annotation import find_videos
from mmmotionmae.datasets.readers import READERS, open_video

TOOL = Path(__file__).parents[3] / 'tools/data/resize_videos.py'


def load_tool():
    spec = importlib.util.spec_from_file_location('resize_tool', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RESIZE = load_tool()


def resize(*argv):
    RESIZE.resize(RESIZE.parse_args([str(a) for a in argv]))


def frames_of(path, decoder='pyav'):
    with open_video(str(path), decoder) as video:
        return list(video.frames(range(video.num_frames)))


def times_of(path):
    """Times at which frames are shown, in seconds from the first."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = sorted(p.pts for p in container.demux(stream) if p.size)
        return [(t - times[0]) * stream.time_base for t in times]


def psnr(frame, reference):
    difference = frame.astype(float) - reference
    return 10 * np.log10(255**2 / ((difference**2).mean() + 1e-9))


def assert_same_video(copy, source, size, decoder='pyav'):
    """The same frames, but for the size (width, height)."""
    expected = [
        cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        for frame in frames_of(source)
    ]
    frames = frames_of(copy, decoder)
    assert len(frames) == len(expected)
    for frame, reference in zip(frames, expected, strict=True):
        assert frame.shape == reference.shape
        assert psnr(frame, reference) > 31
    # None is closer to the place of another one.
    middle = len(frames) // 2
    others = [psnr(frames[middle], reference) for reference in expected]
    assert others[middle] == max(others)


VFR = [7 * t + t * t % 5 for t in range(48)]
B_FRAMES = {'g': '12', 'bf': '2'}
BT709 = 'colorprim=bt709:transfer=bt709:colormatrix=bt709'
SOURCES = {
    'plain.mp4': dict(audio=True, **B_FRAMES),
    'vfr.mkv': dict(rate=100, times=VFR, **B_FRAMES),
    'late.ts': dict(container_options={'output_ts_offset': '5'}),
    'b.avi': dict(codec='mpeg4', **B_FRAMES),
    'vp9.webm': {'codec': 'libvpx-vp9', 'cpu-used': '8'},
    '444.mp4': dict(pix_fmt='yuv444p', size=(127, 95)),
    'gray.mp4': dict(pix_fmt='gray'),
    '10bit.mp4': dict(pix_fmt='yuv420p10le'),
    'full.mp4': dict(pix_fmt='yuvj420p'),
    '709.mp4': {'x264-params': BT709},
    'rgb.mov': dict(codec='qtrle', pix_fmt='rgb24'),
    'gbr.mkv': dict(codec='libx264rgb', pix_fmt='rgb24'),
    # Small enough to be copied without resizing.
    'intra.mp4': dict(size=(86, 64), g='1'),
    'one.mp4': dict(num_frames=1),
    'p.avi': dict(codec='mpeg4', g='12'),
}


@pytest.fixture(scope='module')
def resized(tmp_path_factory):
    """Sources of many kinds, and the copies of them."""
    root = tmp_path_factory.mktemp('resized')
    (root / 'videos/deep/er').mkdir(parents=True)
    for name, kwargs in SOURCES.items():
        folder = root / 'videos' / ('deep/er' if name == 'b.avi' else '')
        encode(folder / name, **dict(num_frames=48) | kwargs)
    for degrees in (90, 180, 270):
        path = root / f'videos/turned {degrees}, é.mp4'
        encode(path, num_frames=48)
        turn(path, degrees)
    # One starts between key frames; the clock of the other starts anew.
    cut(root / 'videos/cut.avi', root / 'videos/p.avi', 5)
    joined = (root / 'videos/late.ts').read_bytes() * 2
    (root / 'videos/joined.ts').write_bytes(joined)
    odd = dict(num_frames=20, size=(51, 33), pix_fmt='yuv444p')
    encode(root / 'videos/small.mkv', **odd)
    argv = ['--short-side', '64', '--crf', '12', '--keyframe-interval', '16']
    resize(root / 'videos', root / 'copies', *argv)
    return root


NAMES = [
    *SOURCES,
    'cut.avi',
    'joined.ts',
    *(f'turned {d}, é.mp4' for d in (90, 180, 270)),
]


def pair_of(root, name):
    (source,) = (root / 'videos').rglob(name)
    copy = root / 'copies' / source.relative_to(root / 'videos')
    return source, copy.with_suffix('.mp4')


@pytest.mark.parametrize('name', NAMES)
def test_the_frames_stay(resized, name):
    source, copy = pair_of(resized, name)
    size = (86, 64)
    if name in ('turned 90, é.mp4', 'turned 270, é.mp4'):
        size = (64, 86)
    assert_same_video(copy, source, size)
    # OpenCV takes everything for BT.601.
    decoders = [d for d in READERS if (name, d) != ('709.mp4', 'opencv')]
    for decoder in decoders:
        assert_same_video(copy, source, size, decoder)


@pytest.mark.parametrize('name', NAMES)
def test_the_times_stay(resized, name):
    source, copy = pair_of(resized, name)
    times = times_of(copy)
    if name in (
        'b.avi',
        'cut.avi',
        'joined.ts',
    ):  # these have none that can be used
        assert times == [Fraction(t, 12) for t in range(len(times))]
    else:
        expected = times_of(source)[-len(times) :]
        assert times == [time - expected[0] for time in expected]
    if name == 'vfr.mkv':
        assert times == [Fraction(t, 100) for t in VFR]
    elif name != 'one.mp4':
        with open_video(str(copy)) as video:
            assert video.fps == pytest.approx(12, rel=1e-3)


@pytest.mark.parametrize('name', NAMES)
def test_the_format(resized, name):
    _, copy = pair_of(resized, name)
    data = copy.read_bytes()
    assert data.index(b'moov') < data.index(b'mdat')
    with av.open(str(copy)) as container:
        (stream,) = container.streams
        assert stream.codec_context.name == 'h264'
        assert stream.pix_fmt == 'yuv420p' or name == 'full.mp4'
        packets = [p for p in container.demux(stream) if p.size]
    order = sorted(packets, key=lambda p: p.pts)
    keys = [i for i, packet in enumerate(order) if packet.is_keyframe]
    distances = np.diff([*keys, len(packets)])
    assert keys[0] == 0 and distances.max() <= 16
    assert len(keys) <= len(packets) / 16 + 1  # not those of the source
    assert order[0].pts == 0


def test_small_videos_are_not_enlarged(resized):
    source, copy = pair_of(resized, 'small.mkv')
    assert_same_video(copy, source, (50, 32))


def test_the_tree_and_the_sources_stay(resized):
    expected = [
        str(Path(path).with_suffix('.mp4'))
        for path in find_videos(str(resized / 'videos'))
    ]
    files = (p for p in (resized / 'copies').rglob('*') if p.is_file())
    names = sorted(str(p.relative_to(resized / 'copies')) for p in files)
    assert names == sorted([*expected, 'resize_videos.json'])
    source, _ = pair_of(resized, 'plain.mp4')
    again = resized / 'again.mp4'
    encode(again, num_frames=48, **SOURCES['plain.mp4'])
    assert again.read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    'size,short_side,expected',
    [
        ((1920, 1080), 320, (568, 320)),
        ((1080, 1920), 320, (320, 568)),
        ((640, 480), 320, (426, 320)),
        ((320, 240), 320, (320, 240)),
        ((427, 320), 320, (426, 320)),
        ((1, 1000), 320, (2, 1000)),
        ((3841, 2161), 256, (456, 256)),
    ],
)
def test_sides(size, short_side, expected):
    assert RESIZE.small_size(*size, short_side) == expected


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / 'videos'
    (folder / 'sub').mkdir(parents=True)
    encode(folder / 'a.mp4', num_frames=6)
    for name in ('b.mkv', 'sub/c.mp4'):
        shutil.copy(folder / 'a.mp4', folder / name)
    return folder


SMALL = ('--short-side', '32', '--preset', 'ultrafast')


def snapshot(folder):
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob('*')
        if path.is_file()
    }


def test_bad_videos_are_named_and_the_others_go_on(videos, tmp_path, capsys):
    out = tmp_path / 'out'
    data = (videos / 'a.mp4').read_bytes()
    (videos / 'sub/cut.mp4').write_bytes(data[: len(data) // 2])
    (videos / 'empty.avi').touch()
    (videos / 'text.mp4').write_text('<html>404</html>' * 20)
    encode_sound(videos / 'sound.mp4')
    # One frame cannot be decoded.
    encode(videos / 'rot.mp4', num_frames=6, g='1')
    with av.open(str(videos / 'rot.mp4')) as container:
        start = [p.pos for p in container.demux(video=0) if p.size][3]
    data = bytearray((videos / 'rot.mp4').read_bytes())
    data[start : start + 40] = b'\xff' * 40
    (videos / 'rot.mp4').write_bytes(data)
    resize(videos, out, *SMALL)
    lines = (out / 'failed.txt').read_text().splitlines()
    failed = dict(line.split('\t') for line in lines)
    assert list(failed) == [
        *['empty.avi', 'rot.mp4', 'sound.mp4', 'sub/cut.mp4', 'text.mp4']
    ]
    assert failed['sound.mp4'] == 'there is no video in it'
    assert failed['rot.mp4'].startswith('frame 3 of 6 cannot be decoded: ')
    assert find_videos(str(out)) == ['a.mp4', 'b.mp4', 'sub/c.mp4']
    printed = capsys.readouterr().out.strip()
    assert printed == (
        f'{out}: 3 copies made, 0 were there, 5 failed (see {out}/failed.txt)'
    )
    # Once they are mended, nothing is said of them.
    for name in failed:
        shutil.copy(videos / 'a.mp4', videos / name)
    resize(videos, out, *SMALL)
    assert not (out / 'failed.txt').exists()
    assert len(find_videos(str(out))) == 8


def test_copies_that_exist_are_left(videos, tmp_path, capsys):
    out = tmp_path / 'out'
    resize(videos, out, *SMALL)
    before = snapshot(out)
    (out / 'sub/c.mp4').unlink()
    (out / 'sub/c.mp4.tmp').write_text('what an interruption leaves')
    capsys.readouterr()
    resize(videos, out, *SMALL)
    assert '1 copies made, 2 were there, 0 failed' in capsys.readouterr().out
    after = snapshot(out)
    assert after.keys() == before.keys()
    assert all(after[n] == before[n] for n in ('a.mp4', 'b.mp4'))
    assert_same_video(out / 'sub/c.mp4', videos / 'sub/c.mp4', (42, 32))


def test_other_settings_need_another_folder(videos, tmp_path):
    out = tmp_path / 'out'
    resize(videos, out, *SMALL)
    (out / 'mine.mp4').write_text('mine')
    before = snapshot(out)
    with pytest.raises(UsageError, match="'short_side': 32.*--overwrite"):
        resize(videos, out, '--short-side', '48')
    assert snapshot(out) == before
    resize(videos, out, *SMALL, '--short-side', '48', '--overwrite')
    assert frames_of(out / 'b.mp4')[0].shape == (48, 64, 3)
    resize(videos, out, *SMALL, '--short-side', '48')
    assert (out / 'mine.mp4').read_text() == 'mine'


def test_nothing_of_others_is_overwritten(videos, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'b.mp4').write_text('mine')
    with pytest.raises(UsageError, match='not as a copy of this tool'):
        resize(videos, out, *SMALL)
    assert (out / 'b.mp4').read_text() == 'mine'


@pytest.mark.parametrize('dst', ['videos', 'videos/copies', '.', 'link/a'])
def test_copies_stay_apart_from_the_sources(videos, dst, monkeypatch):
    monkeypatch.chdir(videos.parent)
    Path('link').symlink_to('videos')
    before = snapshot(videos)
    with pytest.raises(UsageError, match='may lie in the other'):
        resize('videos', dst, *SMALL)
    assert snapshot(videos) == before


def test_two_videos_with_one_name(videos, tmp_path):
    shutil.copy(videos / 'b.mkv', videos / 'a.mkv')
    with pytest.raises(UsageError, match=r"'a.mkv' and 'a.mp4' would both"):
        resize(videos, tmp_path / 'out', *SMALL)
    assert not (tmp_path / 'out').exists()


def test_usage(videos, tmp_path):
    with pytest.raises(UsageError, match='--short-side must be even, not 33'):
        resize(videos, tmp_path / 'out', '--short-side', 33)
    with pytest.raises(FileNotFoundError, match='no folder'):
        resize(tmp_path / 'none', tmp_path / 'out')


@pytest.fixture
def misbehave(monkeypatch):
    """Have something happen half way through the copy of one video."""

    def install(name, action):
        resized = RESIZE.Source.resized

        def stub(self, short_side):
            for number, frame in enumerate(resized(self, short_side)):
                yield frame
                if number == 3 and Path(self.path).name == name:
                    action()

        monkeypatch.setattr(RESIZE.Source, 'resized', stub)

    return install


@pytest.mark.parametrize(
    'action,reason',
    [
        (
            lambda: os.kill(os.getpid(), signal.SIGSEGV),
            'the decoder crashed (SIGSEGV)',
        ),
        (lambda: time.sleep(60), 'takes more than 1 s'),
    ],
)
def test_crashes_and_hangs(videos, tmp_path, misbehave, action, reason):
    out = tmp_path / 'out'
    misbehave('b.mkv', action)
    resize(videos, out, *SMALL, '--time-limit', 1)
    assert (out / 'failed.txt').read_text() == f'b.mkv\t{reason}\n'
    assert sorted(snapshot(out)) == [
        *['a.mp4', 'failed.txt', 'resize_videos.json', 'sub/c.mp4']
    ]
    assert multiprocessing.active_children() == []


def test_an_interruption(videos, tmp_path, misbehave, monkeypatch):
    out = tmp_path / 'out'

    def interrupt():
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(60)

    argv = [videos, out, *SMALL, '--num-workers', 1]
    monkeypatch.setattr(sys, 'argv', ['resize', *map(str, argv)])
    with monkeypatch.context():
        misbehave('b.mkv', interrupt)
        assert RESIZE.main() == 130
    assert sorted(snapshot(out)) == ['a.mp4', 'resize_videos.json']
    before = snapshot(out)
    misbehave('b.mkv', lambda: None)
    monkeypatch.undo()
    monkeypatch.setattr(sys, 'argv', ['resize', *map(str, argv)])
    assert RESIZE.main() == 0
    assert snapshot(out)['a.mp4'] == before['a.mp4']
    assert find_videos(str(out)) == ['a.mp4', 'b.mp4', 'sub/c.mp4']
