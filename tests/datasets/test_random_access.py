# Copyright (c) MotionMAE contributors. All rights reserved.
"""Frames right after a jump into a video, of every codec that can be written.

Compared with a plain loop that decodes from the start.
"""

from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.codec import Codec, codecs_available
from helpers.video_files import DECODERS, FPS, encode, half_still, picture

from mmmotionmae.datasets.readers import PyAVReader, open_video
from mmmotionmae.datasets.readers.random_access import (
    SAFE_CODECS,
    seeks_rightly,
)
from mmmotionmae.utils.errors import VideoError

NUM_FRAMES = 24
AT = (0, 1, 9, 10, 11, 17, 23)
SIZES = {
    'dnxhd': (1280, 720),
    'dvvideo': (720, 576),
    'h261': (176, 144),
    'h263': (176, 144),
}
OPTIONS = {
    'dnxhd': {'b': '60M', 'profile': 'dnxhd'},
    # Without, their times are taken for those of decoding.
    **dict.fromkeys(['mpeg1video', 'mpeg2video'], {'bf': '2'}),
    'libsvtav1': {'preset': '12', 'svtav1-params': 'lp=1'},
    'libx265': {'x265-params': 'log-level=none:pools=1'},
    **dict.fromkeys(
        ['libvpx', 'libvpx-vp9'], {'deadline': 'realtime', 'cpu-used': '8'}
    ),
    **dict.fromkeys(
        ['av1', 'libaom-av1'], {'usage': 'realtime', 'cpu-used': '8'}
    ),
}
# Encoder, pixels, container: whether key frames can be decoded by themselves;
# None: that depends on the version of FFmpeg.
SUSPECTS = {
    # A palette, which comes with the first packet.
    ('rawvideo', 'pal8', 'avi'): False,
    ('rawvideo', 'pal8', 'mov'): False,
    ('msrle', 'pal8', 'avi'): False,
    ('msrle', 'pal8', 'mov'): False,
    ('smc', 'pal8', 'mov'): False,
    # Every frame is called a key frame.
    ('h261', 'yuv420p', 'h261'): False,
    ('h263', 'yuv420p', 'avi'): False,
    ('h263', 'yuv420p', 'h263'): False,
    ('rpza', 'rgb555le', 'mov'): False,
    ('flashsv', 'bgr24', 'flv'): False,
    # The first alone is.
    ('apng', 'rgb24', 'apng'): False,
    ('gif', 'pal8', 'gif'): False,
    # Right as they are.
    ('cinepak', 'rgb24', 'avi'): True,
    ('qtrle', 'rgb24', 'mov'): True,
    ('rawvideo', 'yuv420p', 'avi'): True,
    ('snow', 'yuv420p', 'avi'): True,
    ('utvideo', 'yuv420p', 'avi'): True,
    ('zmbv', 'rgb555le', 'avi'): None,
}
SAFE = [
    ('dvvideo', 'yuv420p', 'avi'),
    ('ffv1', 'yuv420p', 'mkv'),
    ('flv', 'yuv420p', 'flv'),
    ('huffyuv', 'yuv422p', 'avi'),
    ('libsvtav1', 'yuv420p', 'mp4'),
    ('libvpx', 'yuv420p', 'webm'),
    ('libvpx-vp9', 'yuv420p', 'webm'),
    ('libx264', 'yuv420p', 'mp4'),
    ('libx265', 'yuv420p', 'mp4'),
    ('mjpeg', 'yuvj420p', 'mov'),
    ('mpeg1video', 'yuv420p', 'mkv'),
    ('mpeg2video', 'yuv420p', 'mkv'),
    ('mpeg4', 'yuv420p', 'mp4'),
    ('msmpeg4', 'yuv420p', 'avi'),
    ('msmpeg4v2', 'yuv420p', 'avi'),
    ('prores_ks', 'yuv422p10le', 'mov'),
    ('wmv1', 'yuv420p', 'asf'),
    ('wmv2', 'yuv420p', 'asf'),
    ('dnxhd', 'yuv422p', 'mov'),
]


def write(path, codec, pixels, draw=half_still):
    encode(
        path,
        codec,
        pixels,
        num_frames=NUM_FRAMES,
        size=SIZES.get(codec, (96, 64)),
        rate=25,
        draw=draw,
        **{'g': '10', 'strict': '-2'} | OPTIONS.get(codec, {}),
    )


def in_order(path):
    with av.open(str(path)) as container:
        return [
            frame.to_ndarray(format='rgb24', interpolation='BICUBIC')
            for frame in container.decode(video=0)
        ]


def compare(path, decoder, off=0.0):
    """Whether a jump to each place gives the plain loop's frame.

    Args:
        off: By how many levels colours may differ in the mean.
    """
    expected = in_order(path)
    for index in AT:
        with open_video(str(path), decoder) as video:
            assert video.num_frames == len(expected) == NUM_FRAMES
            (frame,) = video.frames([index])
        distance = np.abs(frame.astype(int) - expected[index]).mean()
        assert distance <= off, (path.name, decoder, index, distance)


@pytest.mark.parametrize(('codec', 'pixels', 'ending'), SUSPECTS)
def test_suspects(tmp_path, codec, pixels, ending):
    if codec not in codecs_available:
        pytest.skip('FFmpeg was built without the encoder')
    path = tmp_path / f'video.{ending}'
    write(path, codec, pixels)
    right = SUSPECTS[codec, pixels, ending]
    with PyAVReader(str(path)) as video:
        assert right is None or video.seeks is right
    for decoder in DECODERS:
        try:
            compare(path, decoder)
        except VideoError as error:
            # Refused in one line, never read wrongly.
            assert decoder == 'decord'
            assert 'wrongly' in str(error) or 'from_size' in str(error)


def test_a_palette_that_comes_once_is_refused_by_decord(tmp_path):
    path = tmp_path / 'palette.avi'
    write(path, 'rawvideo', 'pal8', picture)
    frames = in_order(path)
    assert min(frame.std() for frame in frames) > 20  # not black
    with pytest.raises(VideoError, match='gives its palette, or the like, on'):
        open_video(str(path), 'decord')


def test_a_header_that_changes_on_the_way(tmp_path):
    """Two streams of H.264 in one FLV file, each with settings of its own."""
    for name, first, options in [
        ('a.flv', 0, {'preset': 'ultrafast'}),
        ('b.flv', NUM_FRAMES, {'preset': 'medium', 'bf': '0'}),
    ]:
        encode(
            tmp_path / name,
            num_frames=NUM_FRAMES,
            draw=lambda t, size, first=first: picture(first + t, size),
            g='5',
            **options,
        )
    joined = (tmp_path / 'a.flv').read_bytes()
    tags = bytearray((tmp_path / 'b.flv').read_bytes()[13:])
    place = 0
    while place < len(tags):  # of type, size, time, ...
        size = int.from_bytes(tags[place + 1 : place + 4], 'big')
        time = int.from_bytes(tags[place + 4 : place + 7], 'big')
        time += 1000 * NUM_FRAMES // FPS
        tags[place + 4 : place + 7] = time.to_bytes(3, 'big')
        place += 15 + size
    path = tmp_path / 'joined.flv'
    path.write_bytes(joined + tags)
    expected = in_order(path)
    with PyAVReader(str(path)) as video:
        assert video.index.timed and not video.seeks
        assert video.num_frames == len(expected) == 2 * NUM_FRAMES
    for index in (0, 10, NUM_FRAMES, NUM_FRAMES + 1, 2 * NUM_FRAMES - 1):
        for decoder in ('pyav', 'opencv'):
            with open_video(str(path), decoder) as video:
                (frame,) = video.frames([index])
            assert np.array_equal(frame, expected[index]), (decoder, index)
    with pytest.raises(VideoError, match='or the like, only once'):
        open_video(str(path), 'decord')


@pytest.mark.parametrize(('codec', 'pixels', 'ending'), SAFE)
def test_safe_codecs(tmp_path, codec, pixels, ending):
    if codec not in codecs_available:
        pytest.skip('FFmpeg was built without the encoder')
    path = tmp_path / f'video.{ending}'
    write(path, codec, pixels)
    with PyAVReader(str(path)) as video:
        assert video.codec in SAFE_CODECS
        assert video.seeks
    compare(path, 'pyav')


def test_every_safe_codec_is_tried():
    names = {Codec(codec, 'w').canonical_name for codec, _, _ in SAFE}
    assert names == SAFE_CODECS


@pytest.mark.slow
@pytest.mark.parametrize('draw', [half_still, picture])
@pytest.mark.parametrize(
    'ending', 'apng asf avi flv gif mkv mov mp4 mxf nut roq rm swf'.split()
)
def test_every_encoder(tmp_path, ending, draw):
    """What can be written and read in order is read rightly in any order."""
    tried = 0
    for codec in sorted(codecs_available):
        hardware = codec.endswith(('nvenc', 'qsv', 'amf', 'v4l2m2m'))
        if hardware or codec in ('vnull', 'wrapped_avframe', 'libsvtav1'):
            continue
        try:
            writer = Codec(codec, 'w')
        except ValueError:  # there is a decoder only
            continue
        if writer.type != 'video':
            continue
        formats = [f.name for f in writer.video_formats or []] or ['rgb24']
        for pixels in {'pal8', formats[0]} & set(formats):
            path = tmp_path / f'{codec}_{pixels}.{ending}'
            try:
                write(path, codec, pixels, draw)
                if len(in_order(path)) != NUM_FRAMES:
                    continue
            except (av.FFmpegError, ValueError, IndexError):
                continue  # it does not go into this container
            compare(path, 'pyav')
            tried += 1
    assert tried


@pytest.mark.parametrize('ending', ['mpg', 'vob'])
def test_mpeg_program_streams(tmp_path, ending):
    """Decord passes over the first frames of some; the others read all."""
    path = tmp_path / f'video.{ending}'
    write(path, 'mpeg2video', 'yuv420p', picture)
    with pytest.raises(VideoError, match='^decord reads mpeg files wrongly$'):
        open_video(str(path), 'decord')
    for decoder in ('pyav', 'opencv'):
        compare(path, decoder)


@pytest.mark.parametrize(
    ('name', 'codec', 'options'),
    [
        ('stream.asf', 'wmv2', {}),
        ('stream.flv', 'libx264', {'bf': '2'}),
        ('fragments.mp4', 'libx264', {'bf': '2'}),
        ('without.avi', 'mpeg4', {}),
        ('live.mkv', 'libx264', {'bf': '2'}),
    ],
)
def test_decord_without_an_index_in_the_file(tmp_path, name, codec, options):
    """The frame, of 60, is the one that is asked for, or the file refused."""
    path = tmp_path / name
    container_options = {
        'mp4': {'movflags': 'frag_keyframe+empty_moov'},
        'mkv': {'live': '1'},
    }.get(name[-3:], {})
    encode(
        path,
        codec,
        num_frames=60,
        container_options=container_options,
        **{'g': '12'} | options,
    )
    if name == 'without.avi':
        data = path.read_bytes()
        path.write_bytes(data[: data.rindex(b'idx1')])
    expected = in_order(path)
    try:
        for index in (0, 11, 12, 30, 59):
            with open_video(str(path), 'decord') as video:
                (frame,) = video.frames([index])
            off = [np.abs(frame.astype(int) - e).mean() for e in expected]
            assert np.argmin(off) == index
    except VideoError as error:
        assert name == 'live.mkv'
        assert 'Failed to measure duration' in str(error)


# ------------------------------------------------------------------ the probe


def probe(frames, sought, keys, name='unknown', intra_only=False):
    """What is made of a video of which seeking gives other frames."""
    codec = SimpleNamespace(canonical_name=name, intra_only=intra_only)
    read = []

    def in_order(indices):
        for index in indices:
            read.append(index)
            yield frames[index]

    answer = seeks_rightly(
        codec, keys, len(frames), in_order, lambda i: [sought[j] for j in i]
    )
    return answer, read


def test_what_a_probe_tells():
    frames = [picture(t, (8, 6)) for t in range(40)]
    black = [np.zeros_like(frames[0])] * 40
    dark = black[:30] + frames[30:]  # it begins in the dark
    keys = range(0, 40, 10)
    assert probe(frames, frames, keys) == (True, [10])
    assert probe(frames, black, keys) == (False, [10])
    # Black frames tell nothing: what follows them does.
    assert probe(dark, black, keys) == (False, [10, 20, 30])
    assert probe(dark, dark, keys) == (True, [10, 20, 30])
    assert probe(black, black, keys) == (False, [10, 20, 30])
    # Nothing is read where that is needless, or would not help.
    assert probe(frames, black, keys, 'h264') == (True, [])
    assert probe(frames, frames, [0]) == (False, [])
    assert probe(frames, frames, []) == (False, [])
    assert probe(frames, frames, range(40)) == (False, [])
    every = range(40)
    assert probe(frames, frames, every, intra_only=True) == (True, [1])
    assert probe(frames, frames[1:], every, intra_only=True) == (False, [1])
    # Nothing comes out, or not in time.
    codec = SimpleNamespace(canonical_name='unknown', intra_only=False)

    def fail(indices):
        raise VideoError('broken')
        yield

    assert not seeks_rightly(codec, keys, 40, lambda i: frames, lambda i: [])
    assert not seeks_rightly(codec, keys, 40, fail, lambda i: frames)
