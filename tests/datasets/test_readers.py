# Copyright (c) MotionMAE contributors. All rights reserved.
"""Every decoder reads the frames that a plain loop reads."""

import gc
import multiprocessing
import os
import re
import struct
import sys
import threading
import zlib
from types import SimpleNamespace

import av
import cv2
import decord
import numpy as np
import pytest
from helpers.processes import HUNG, hang, wait_until
from helpers.video_files import (
    B_FRAMES,
    DECODERS,
    READ_BY_SOME,
    REFUSED,
    SIZE,
    VPX,
    change_size,
    cut,
    encode,
    packets_of,
    picture,
    write_good,
    write_hostile,
)

from mmmotionmae.datasets.readers import (
    READERS,
    FrameFolderReader,
    PyAVReader,
    list_frames,
    open_video,
)
from mmmotionmae.datasets.readers.base import Deadline
from mmmotionmae.utils.errors import VideoError, VideoTimeoutError

# Quarter turns, against the clock, that put a video upright.
TURNS = {'turned_90.mp4': -1, 'turned_180.mp4': 2, 'turned_270.mp4': 1}

# By how many levels colours may be off, at most and on the average. The
# inverse cosine transform of MPEG-4 is not exact.
MPEG4 = dict.fromkeys(
    [
        'mpeg4.avi',
        'mpeg4_b.avi',
        'mpeg4_b.mp4',
        'mpeg4_vfr.avi',
        'packed.avi',
    ],
    (1, 0.1),
)
OFF = {
    'pyav': {},
    'decord': {
        **MPEG4,
        '10bit.mp4': (20, 2.5),
        'interlaced.mp4': (40, 4),
        'odd_420.mkv': (20, 2),
    },
    'opencv': {
        **MPEG4,
        '10bit.mp4': (20, 2),
        'bt709.mp4': (40, 6),
        'interlaced.mp4': (40, 4),
    },
}


@pytest.fixture(scope='session')
def good_videos(tmp_path_factory):
    return write_good(tmp_path_factory.getbasetemp() / 'good_videos')


@pytest.fixture(scope='module')
def plain(good_videos):
    """All frames of all videos, decoded in order by a plain loop."""
    return {name: decode(path) for name, path in good_videos.items()}


@pytest.fixture(scope='module')
def pictures():
    """What was encoded."""
    return [picture(t) for t in range(96)]


def decode(path):
    turns = TURNS.get(path.name, 0)
    frames = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            array = frame.to_ndarray(format='rgb24', interpolation='BICUBIC')
            frames.append(np.rot90(array, turns))
    return frames


def read(path, decoder, indices=None, **kwargs):
    with open_video(str(path), decoder, **kwargs) as video:
        if indices is None:
            indices = range(video.num_frames)
        return list(video.frames(indices))


def distance(frame, other):
    return np.abs(frame.astype(int) - other).mean()


def nearest(frame, candidates):
    """The number of the frame that is most alike, by every third pixel."""
    rough = [image[::3, ::3].astype(int) for image in (frame, *candidates)]
    return int(np.argmin([distance(rough[0], c) for c in rough[1:]]))


def index_sets(num_frames, rng):
    """What is read of a video: all kinds of ascending indices."""
    yield range(num_frames)
    yield [num_frames - 1]
    yield [num_frames // 2]
    yield range(0, num_frames, 4)
    for _ in range(2):
        start = rng.integers(num_frames)
        length = rng.integers(1, 14)
        yield range(start, num_frames, rng.integers(1, 5))[:length]
        count = min(num_frames, rng.integers(1, 6))
        yield np.sort(rng.choice(num_frames, count, replace=False))


# ------------------------------------------------------------ right frames


@pytest.mark.parametrize('decoder', DECODERS)
def test_any_frames_are_those_of_a_plain_loop(good_videos, plain, decoder):
    for name, path in good_videos.items():
        expected = plain[name]
        if name in REFUSED[decoder]:
            with pytest.raises(VideoError, match=REFUSED[decoder][name]):
                read(path, decoder)
            continue
        if name in READ_BY_SOME[decoder]:
            try:
                read(path, decoder, [0])
            except VideoError as error:
                assert re.search(READ_BY_SOME[decoder][name], str(error))
                continue
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        with open_video(str(path), decoder) as kept:
            assert kept.num_frames == len(expected), name
            for i, indices in enumerate(index_sets(len(expected), rng)):
                video = kept if i % 3 else open_video(str(path), decoder)
                where = f'{name}, {list(indices)}'
                frames = video.frames(indices)
                for index, frame in zip(indices, frames, strict=True):
                    assert frame.dtype == np.uint8
                    assert frame.shape == expected[index].shape, where
                    if name in OFF[decoder]:
                        at_most, mean = OFF[decoder][name]
                        off = np.abs(frame.astype(int) - expected[index])
                        assert off.max() <= at_most, where
                        assert off.mean() <= mean, where
                        assert nearest(frame, expected) == index, where
                    else:
                        same = np.array_equal(frame, expected[index])
                        assert same, f'{where}: {index}'
                    frame[:] = 0  # must not matter to the next ones
                    if i % 3 == 2:
                        break  # the rest is never asked for
                if video is not kept:
                    video.close()


# The rest of the plain loop's frames is checked against what was encoded.
@pytest.mark.parametrize(
    ('name', 'shown'),
    [
        ('h264.mp4', range(48)),
        ('h264.avi', range(48)),
        ('no_times.mp4', range(48)),
        ('packed.avi', range(48)),
        ('open_gop.mkv', range(48)),
        ('hevc_open_gop.mkv', range(48)),
        ('intra_refresh.mp4', range(48)),
        ('vp9_hidden.webm', range(48)),
        ('vfr.mp4', range(48)),
        ('overflow.ts', range(48)),
        ('one_frame.mp4', range(1)),
        ('edit_list.mp4', range(17, 48)),
        ('shortened.mp4', range(30)),
        ('middle.mp4', range(12, 48)),
        ('middle.ts', range(12, 48)),
        ('middle_hevc.mp4', range(12, 48)),
        ('open_cut.mkv', range(12, 48)),
        ('joined.ts', [*range(48), *range(48)]),
        ('joined_late.ts', [*range(48, 96), *range(48)]),
    ],
)
def test_frames_are_those_that_were_encoded(
    good_videos, plain, pictures, name, shown
):
    if name not in good_videos:
        pytest.skip('FFmpeg was built without the encoder')
    frames = plain[name]
    assert [nearest(frame, pictures) for frame in frames] == list(shown)


@pytest.mark.parametrize(
    'name',
    ['mpeg4.avi', 'mpeg4_b.avi', 'mpeg4_b.mp4', 'packed.avi', 'h264.avi'],
)
def test_a_start_that_cannot_be_decoded_is_left_out(
    tmp_path, good_videos, name
):
    """Also where a plain loop shows it in grey, or there are no times."""
    whole = decode(good_videos[name])
    keys = [p[3] for p in packets_of(good_videos[name])]
    for first in (5, keys.index(True, 1), keys.index(True, 1) - 1):
        path = tmp_path / name
        cut(path, good_videos[name], first)
        frames = read(path, 'pyav')
        assert np.array_equal(frames, whole[12:]), first
        assert np.array_equal(read(path, 'pyav', [0, 35]), whole[12::35])
        (frame,) = read(path, 'pyav', [30])
        assert np.array_equal(frame, whole[42])


@pytest.mark.parametrize('decoder', DECODERS)
def test_turned_videos_are_upright(good_videos, decoder):
    unturned = read(good_videos['h264.mkv'], decoder)
    assert unturned[0].shape == (96, 128, 3)
    for name, turns in TURNS.items():
        frames = read(good_videos[name], decoder)
        for frame, other in zip(frames, unturned, strict=True):
            assert np.array_equal(frame, np.rot90(other, turns)), name
            assert frame.flags.c_contiguous


@pytest.mark.parametrize('decoder', DECODERS)
def test_frame_rates(good_videos, decoder):
    rates = {
        'h264.mp4': 12,
        'h264.mkv': 12,
        'mpeg4_b.avi': 12,
        'vp9.webm': 12,
        'mpeg2.mpg': 25,
        'vfr.mp4': 48 / 3.34,
    }
    for name in rates.keys() - REFUSED[decoder].keys():
        rate = rates[name]
        with open_video(str(good_videos[name]), decoder) as video:
            assert video.fps == pytest.approx(rate), name


@pytest.mark.parametrize('decoder', ['pyav', 'decord'])
@pytest.mark.parametrize('sizes', [(SIZE, (96, 64)), ((96, 64), SIZE)])
def test_where_the_size_changes_frames_are_scaled(tmp_path, decoder, sizes):
    path = tmp_path / 'sizes.webm'
    change_size(path, sizes, codec='libvpx-vp9', **VPX)
    assert {frame.shape for frame in decode(path)} == {
        (height, width, 3) for width, height in sizes
    }
    frames = read(path, decoder)
    for i, frame in enumerate(frames):
        other = picture(i % 10, sizes[i // 10])
        assert frame.shape == (sizes[0][1], sizes[0][0], 3)
        assert distance(frame, cv2.resize(other, sizes[0])) < 6
    assert len(frames) == 20
    (frame,) = read(path, 'pyav', [15])  # by itself it keeps its size
    assert frame.shape == (sizes[1][1], sizes[1][0], 3)


@pytest.mark.parametrize('decoder', DECODERS)
def test_colours_that_ffmpeg_cannot_convert(tmp_path, good_videos, decoder):
    """They are taken for those that nearly all videos have."""
    encode(
        tmp_path / 'colours.mp4',
        **B_FRAMES | {'x264-params': 'colormatrix=YCgCo'},
    )
    try:
        decode(tmp_path / 'colours.mp4')
        pytest.skip('this FFmpeg can convert them')
    except OSError as error:
        assert 'not supported' in str(error)
    if decoder == 'opencv':  # some versions give what is left in memory
        with pytest.raises(VideoError, match="colours .matrix 8.*'pyav' does"):
            read(tmp_path / 'colours.mp4', decoder)
        return
    frames = read(tmp_path / 'colours.mp4', decoder)
    assert np.array_equal(frames, read(good_videos['h264.mp4'], decoder))


def test_which_times_can_be_trusted(good_videos):
    for name in ('h264.mp4', 'open_gop.mkv', 'h264.ts', 'mpeg4.avi'):
        with PyAVReader(str(good_videos[name])) as video:
            assert video.index.timed, name
    for name in ('joined.ts', 'joined_late.ts', 'no_times.mp4', 'h264.avi'):
        with PyAVReader(str(good_videos[name])) as video:
            assert not video.index.timed, name


def test_an_error_of_opencv_itself(good_videos, monkeypatch):
    def fail(*args):
        cv2.resize(np.empty((0, 0)), (1, 1))

    with open_video(str(good_videos['h264.mp4']), 'opencv') as video:
        monkeypatch.setattr(cv2, 'cvtColor', fail)
        with pytest.raises(VideoError, match='^frame 3 of 48 .*ssize.empty'):
            list(video.frames([3]))


class Stand:
    """Stands in for an object of PyAV."""

    def __init__(self, real):
        vars(self)['real'] = real

    def __getattr__(self, name):
        return getattr(self.real, name)

    def __setattr__(self, name, value):
        setattr(self.real, name, value)


class Stream(Stand):
    """Counts the frames that come out of the decoder."""

    count = [0]

    def decode(self, packet):
        frames = self.real.decode(packet)
        self.count[0] += len(frames)
        return frames


class Container(Stand):
    """At its end PyAV looks for new streams in a list without them."""

    @property
    def streams(self):
        return SimpleNamespace(video=[*map(Stream, self.real.streams.video)])

    def seek(self, time, stream):
        self.real.seek(time, stream=stream.real)

    def demux(self, stream):
        yield from self.real.demux(stream.real)
        raise IndexError('list index out of range')


@pytest.fixture
def stand_in(monkeypatch):
    """Let files be opened as :class:`Container`."""
    real = av.open
    monkeypatch.setattr(av, 'open', lambda *a, **k: Container(real(*a, **k)))
    monkeypatch.setattr(Stream, 'count', [0])


def test_streams_that_are_found_late(good_videos, plain, stand_in):
    for name in ('h264.mp4', 'packed.avi'):
        assert np.array_equal(read(good_videos[name], 'pyav'), plain[name])


def test_a_relative_path_that_looks_like_an_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encode(tmp_path / 'a.mp4', num_frames=3)
    os.rename('a.mp4', 'http:b.mp4')
    for decoder in DECODERS:
        assert len(read('http:b.mp4', decoder)) == 3


# ---------------------------------------------------------------- seeking


def count_decoded(path, indices):
    """How many frames come out of the decoder."""
    Stream.count[0] = 0
    read(path, 'pyav', indices)
    return Stream.count[0]


def test_frames_before_the_last_key_frame_are_not_decoded(
    good_videos, stand_in
):
    path = good_videos['h264.mp4']  # key frames: 0, 12, 24, 36
    assert count_decoded(path, [36]) == 1
    assert count_decoded(path, [47]) <= 12
    assert count_decoded(path, [30, 41]) <= 18
    assert count_decoded(good_videos['intra.mp4'], [40]) == 1
    # Here the key frames cannot be trusted.
    assert count_decoded(good_videos['packed.avi'], [40]) > 40


def test_frames_that_no_one_refers_to_are_not_decoded(good_videos, stand_in):
    path = good_videos['h264.mp4']  # every third frame, or second, is one
    assert count_decoded(path, range(12)) >= 12
    assert count_decoded(path, [11]) <= 9
    every_fourth = count_decoded(path, range(0, 48, 4))
    assert every_fourth < 40


# ------------------------------------------------------------------ limits


@pytest.mark.parametrize('decoder', DECODERS)
def test_bad_indices(good_videos, decoder):
    with open_video(str(good_videos['h264.mp4']), decoder) as video:
        for indices in ([48], [-1], [-1, 5], [47, 48], range(0, 50, 7)):
            with pytest.raises(IndexError, match='but there are 48'):
                list(video.frames(indices))
        for indices in ([5, 4], [3, 3], [0, 5, 5, 6]):
            with pytest.raises(ValueError, match='must ascend'):
                list(video.frames(indices))
        assert list(video.frames([])) == []
        assert len(list(video.frames(np.array([0, 47])))) == 2


def test_an_unknown_decoder(good_videos):
    assert tuple(READERS) == DECODERS
    with pytest.raises(ValueError, match="opencv, not 'gstreamer'"):
        open_video(str(good_videos['h264.mp4']), 'gstreamer')


def test_without_decord(good_videos, monkeypatch):
    monkeypatch.setitem(sys.modules, 'decord', None)
    with pytest.raises(ImportError, match="'decord' needs.*'pyav'"):
        open_video(str(good_videos['h264.mp4']), 'decord')
    assert len(read(good_videos['h264.mp4'], 'pyav')) == 48


@pytest.mark.parametrize('decoder', DECODERS)
def test_the_time_limit(good_videos, decoder):
    path = str(good_videos['h264.mp4'])
    with pytest.raises(VideoTimeoutError, match='takes more than -1 s$'):
        open_video(path, decoder, -1)  # it is over before it begins
    # The time is over between opening and reading.
    with open_video(path, decoder, HUNG) as video:
        video.deadline.end = 0.0
        with pytest.raises(VideoTimeoutError, match=f'more than {HUNG} s'):
            list(video.frames([40]))
    # And in the middle, in a video that is decoded from its start.
    path = str(good_videos['packed.avi'])
    with open_video(path, decoder, HUNG) as video:
        frames = video.frames(range(48))
        next(frames)
        video.deadline.end = 0.0
        with pytest.raises(VideoTimeoutError):
            list(frames)
    assert len(read(path, decoder, time_limit=HUNG)) == 48
    assert issubclass(VideoTimeoutError, VideoError)


def test_the_time_left():
    now = 100.0
    deadline = Deadline(8, clock=lambda: now, work_clock=lambda: now)
    assert deadline.left() == 8
    now = 107.5
    assert deadline.left() == 0.5
    now = 108.0
    deadline.check()
    now = 108.5
    assert deadline.left() == 0
    with pytest.raises(VideoTimeoutError, match='takes more than 8 s$'):
        deadline.check()
    unlimited = Deadline(None)
    unlimited.check()
    assert unlimited.left() is None


def test_the_time_limit_of_images(tmp_path):
    cv2.imwrite(str(tmp_path / '1.png'), picture(0))
    with FrameFolderReader(str(tmp_path), time_limit=-1) as video:
        with pytest.raises(VideoTimeoutError):
            list(video.frames([0]))


class Decord:
    """Stands in for decord's reader."""

    def __init__(self, path, num_threads):
        self.calls = []

    def __len__(self):
        return 48

    def get_batch(self, indices):
        self.calls.append(indices)
        return decord.nd.array(np.zeros((len(indices), 2, 2, 3), np.uint8))


def test_no_call_of_decord_once_the_time_is_over(good_videos, monkeypatch):
    stand_in = Decord('', 1)
    monkeypatch.setattr(decord, 'VideoReader', lambda *a, **k: stand_in)
    before = threading.enumerate()
    path = str(good_videos['intra.mp4'])
    with open_video(path, 'decord', HUNG) as video:
        list(video.frames([1]))
        video.deadline.end = 0.0
        with pytest.raises(VideoTimeoutError):
            list(video.frames([0]))
    for thread in set(threading.enumerate()) - set(before):
        thread.join(HUNG)
    assert stand_in.calls == [[1]]


def read_what_hangs(path):
    called = threading.Event()

    class Hanging(Decord):
        def get_batch(self, indices):
            called.set()
            hang()

    decord.VideoReader = Hanging
    with open_video(path, 'decord', HUNG) as video:
        # For decord there is half a second, before which nothing is late.
        video.deadline = Deadline(0.5, clock=lambda: 0.0)
        with pytest.raises(VideoTimeoutError, match=r'more than 0\.5 s'):
            list(video.frames([0]))
        assert called.wait(HUNG)


def test_a_call_of_decord_that_hangs_is_left_behind(good_videos):
    """And does not keep the process from ending."""
    process = multiprocessing.get_context('fork').Process(
        target=read_what_hangs, args=[str(good_videos['intra.mp4'])]
    )
    process.start()
    process.join(HUNG)
    try:
        assert process.exitcode == 0
    finally:
        process.kill()


# ------------------------------------------------------------ what is left


def in_use():
    gc.collect()
    return len(os.listdir('/proc/self/fd')), len(os.listdir('/proc/self/task'))


@pytest.mark.parametrize('decoder', DECODERS)
def test_no_files_and_threads_are_left_open(tmp_path, good_videos, decoder):
    bad = write_hostile(tmp_path / 'bad')
    good = str(good_videos['three_frames.mp4'])
    other = str(good_videos['h264.avi'])  # read from its start

    def use():
        with open_video(good, decoder, HUNG) as video:
            list(video.frames([0, 2]))
        with open_video(other, decoder) as video:
            next(video.frames([1, 20]))
        open_video(good, decoder).close()
        for name in ('bitrot.mp4', 'truncated.mp4', 'audio_only.mp4'):
            with pytest.raises(VideoError):
                read(bad[name], decoder, time_limit=HUNG)
        with pytest.raises(VideoError):
            read(good_videos['middle.mkv'], decoder, [40])
        with open_video(good, decoder, HUNG) as video:
            video.deadline.end = 0.0
            with pytest.raises(VideoTimeoutError):
                list(video.frames([0]))

    if decoder == 'pyav':
        good_videos = dict(good_videos, **{'middle.mkv': bad['no_frames.mp4']})
    for _ in range(3):
        use()
    files, threads = in_use()
    for _ in range(15):
        use()

    def nothing_is_left():
        now = in_use()
        return now[0] <= files and now[1] <= threads

    wait_until(nothing_is_left)  # the last thread may be about to end


# ----------------------------------------------------------- frame folders


@pytest.fixture
def frames12(tmp_path):
    """A folder of twelve images, and the images."""
    images = [picture(t, (32, 24)) for t in range(12)]
    for t, image in enumerate(images):
        path = tmp_path / f'img_{t + 1:05}.png'
        cv2.imwrite(str(path), image[..., ::-1])
    return tmp_path, images


def test_a_folder_of_frames(frames12):
    folder, images = frames12
    (folder / 'readme.txt').write_text('no image')
    with FrameFolderReader(str(folder)) as video:
        assert video.num_frames == 12
        assert video.fps == 0
        for indices in (range(12), [0], [11], [2, 3, 9], []):
            frames = list(video.frames(indices))
            assert len(frames) == len(indices)
            for index, frame in zip(indices, frames, strict=True):
                assert np.array_equal(frame, images[index])
        with pytest.raises(IndexError, match='there are 12'):
            list(video.frames([12]))


def test_names_and_numbers_of_frames(frames12):
    folder, images = frames12
    for start, count in [(1, 12), (1, 5), (4, 9), (12, 1)]:
        video = FrameFolderReader(
            str(folder),
            filename_tmpl='img_{:05}.png',
            start_index=start,
            num_frames=count,
        )
        assert video.num_frames == count
        frames = list(video.frames(range(count)))
        assert np.array_equal(frames, images[start - 1 :][:count])
    # Without names only the number counts.
    video = FrameFolderReader(str(folder), num_frames=7)
    assert video.num_frames == 7
    assert np.array_equal(list(video.frames([6]))[0], images[6])


def test_frames_come_in_the_order_of_their_numbers(tmp_path):
    names = ['1.jpg', '2.JPEG', '9.png', '10.jpg', '100.bmp']
    names += ['a2b10.webp', 'a10b2.jpg', 'a10b11.jpg', 'b.jpg']
    for name in [*reversed(names), '11.txt', 'jpg']:
        (tmp_path / name).touch()
    assert list_frames(str(tmp_path)) == names


def test_missing_and_broken_frames_are_named(frames12):
    folder, images = frames12
    (folder / 'img_00004.png').write_bytes(b'no image')
    (folder / 'img_00005.png').write_bytes(b'')
    data = bytearray((folder / 'img_00001.png').read_bytes())
    data[16:24] = struct.pack('>II', 10**5, 10**5)  # 40 GB of memory
    data[29:33] = struct.pack('>I', zlib.crc32(data[12:29]))
    (folder / 'img_00006.png').write_bytes(data)
    (folder / 'img_00008.png').unlink()

    def open_frames(**kwargs):
        return FrameFolderReader(
            str(folder), filename_tmpl='img_{:05}.png', **kwargs
        )

    with open_frames(num_frames=20) as video:
        assert np.array_equal(list(video.frames([2]))[0], images[2])
        for index in (3, 4, 7, 12):
            name = f'img_{index + 1:05}.png'
            with pytest.raises(
                VideoError,
                match=f"^frame {index} of 20 .*: '{name}' is missing or no",
            ):
                list(video.frames([1, index]))
        with pytest.raises(
            VideoError, match="^frame 5 of 20.*'img_00006.png'"
        ):
            list(video.frames([5]))
    with pytest.raises(VideoError, match='no frames in it'):
        open_frames(num_frames=0)


def test_folders_without_frames(tmp_path):
    with pytest.raises(VideoError, match='no frames in it'):
        FrameFolderReader(str(tmp_path))
    with pytest.raises(VideoError, match='no such folder'):
        FrameFolderReader(str(tmp_path / 'nowhere'))
    video = FrameFolderReader(
        str(tmp_path / 'nowhere'),
        filename_tmpl='{}.jpg',
        num_frames=3,
    )
    with pytest.raises(VideoError, match="'2.jpg' is missing"):
        list(video.frames([1]))


def test_reading_parts_of_videos_leaks_no_memory(shapes_dir):
    """An unfinished `demux` of PyAV, if not closed, leaks 2 kB."""
    (path, *_) = sorted((shapes_dir / 'videos/pretrain').iterdir())

    def read(times):
        for i in range(times):
            with open_video(str(path)) as video:
                next(video.frames([i % 8, 9]))
        with open('/proc/self/statm') as file:
            return int(file.read().split()[1]) * 4  # kB

    before = read(500)
    assert read(2000) - before < 1500
