# Copyright (c) MotionMAE contributors. All rights reserved.
"""Small video files for the tests: good ones of many kinds, and bad ones."""

import os
import re
import struct
from fractions import Fraction

import av
import numpy as np
from av.stream import Disposition

FPS = 12
NUM_FRAMES = 48
SIZE = (128, 96)

# A key frame every 12 frames, in between two of three are B-frames.
B_FRAMES = {'g': '12', 'bf': '2', 'sc_threshold': '0', 'b_strategy': '0'}
OPEN_GOP = (
    'open-gop=1:keyint=12:scenecut=0:bframes=7:b-adapt=0:b-pyramid=normal'
)
HEVC = 'log-level=none:pools=1:keyint=12:bframes=3:b-adapt=0:scenecut=0'
VPX = {'g': '12', 'deadline': 'realtime', 'cpu-used': '8'}


DECODERS = ('pyav', 'decord', 'opencv')

# Which of the good videos a decoder refuses, and why.
MPEG_TS = '^decord reads mpegts files wrongly$'
MPEG_PS = '^decord reads mpeg files wrongly$'
MIDDLE = 'reads it wrongly, since it starts between key frames$'
STARTS_BETWEEN = dict.fromkeys(
    [
        'middle.mkv',
        'middle.mp4',
        'middle.ts',
        'middle_hevc.mp4',
        'middle_mpeg2.mpg',
        'middle_refresh.mkv',
        'open_cut.mkv',
    ],
    MIDDLE,
)
REFUSED = {
    'pyav': {},
    'decord': {
        **STARTS_BETWEEN,
        'av1.mp4': '^decord: Check failed',
        'h264.ts': MPEG_TS,
        'mpeg2.mpg': MPEG_PS,
        'joined.ts': MPEG_TS,
        'joined_late.ts': MPEG_TS,
        'miscounted.mp4': r'1e\+09 frames, too many for decord; there are 48$',
        'middle.ts': MPEG_TS,
        'middle_mpeg2.mpg': MPEG_PS,
        'mpeg2.ts': MPEG_TS,
        'overflow.ts': MPEG_TS,
        'sound.ts': MPEG_TS,
    },
    'opencv': STARTS_BETWEEN,
}
# Some versions of OpenCV come without a decoder of AV1; newer ones give
# interlaced frames that they could not convert.
READ_BY_SOME = {
    'pyav': {},
    'decord': {},
    'opencv': {
        'av1.mp4': 'the video ends after 0$',
        'interlaced.mp4': 'cannot convert its interlaced frames',
    },
}


def picture(t, size=SIZE):
    """Frame ``t`` of a smooth moving picture, RGB; no two are alike."""
    width, height = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = np.stack(
        [
            np.sin((x + 2 * y) / 19 - t / 5),
            np.cos((x - y) / 23 + t / 7),
            np.sin(y / 13 + t / 3),
        ],
        axis=-1,
    )
    spot = (x - width / 2 * (1 + np.sin(t / 6))) ** 2
    spot += (y - height / 2 * (1 + np.cos(t / 9))) ** 2
    waves = 118 + 70 * waves + t % 10 + 40 * np.exp(-spot / 90)[..., None]
    return waves.clip(0, 255).round().astype(np.uint8)


def half_still(t, size=SIZE):
    """A picture of which only the upper half moves."""
    image = picture(0, size)
    image[: size[1] // 2] = picture(t, size)[: size[1] // 2]
    return image


def silence(t):
    """The sound of frame ``t``."""
    frame = av.AudioFrame.from_ndarray(
        np.zeros((1, 8000 // FPS), np.float32), format='fltp', layout='mono'
    )
    frame.sample_rate = 8000
    frame.pts = t * (8000 // FPS)
    return frame


def encode(
    path,
    codec='libx264',
    pix_fmt='yuv420p',
    num_frames=NUM_FRAMES,
    size=SIZE,
    rate=FPS,
    times=None,
    draw=picture,
    audio=False,
    cover=False,
    container_options=None,
    **options,
):
    """Write a video.

    Args:
        times: When frames are shown, in 1 / ``rate`` seconds.
        draw: Gives frame ``t`` in a size.
        **options: Options of the codec.
    """
    with av.open(str(path), 'w', options=container_options or {}) as container:
        # One thread: files are the same from run to run.
        options = {'threads': '1'} | options
        video = container.add_stream(
            codec,
            rate=rate,
            width=size[0],
            height=size[1],
            pix_fmt=pix_fmt,
            options=options,
        )
        video.codec_context.time_base = Fraction(1, rate)
        if audio:
            sound = container.add_stream('aac', rate=8000, layout='mono')
        if cover:
            mux_cover(container)
        container.start_encoding()
        for t in range(num_frames):
            frame = video_frame(draw(t, size), pix_fmt)
            frame.pts = times[t] if times else t
            frame.time_base = Fraction(1, rate)
            container.mux(video.encode(frame))
            if audio:
                container.mux(sound.encode(silence(t)))
        container.mux(video.encode(None))
        if audio:
            container.mux(sound.encode(None))


def video_frame(image, pix_fmt):
    """A frame of an image, RGB; of a palette, which FFmpeg cannot make."""
    if pix_fmt != 'pal8':
        return av.VideoFrame.from_ndarray(image, 'rgb24')
    red, green, blue = (image[..., i] // 43 for i in range(3))
    levels = np.arange(216)
    palette = np.zeros((256, 4), np.uint8)
    palette[:216] = np.stack(
        [levels * 0 + 5, levels // 36, levels // 6 % 6, levels % 6], axis=-1
    )
    palette *= 51
    return av.VideoFrame.from_ndarray(
        (36 * red + 6 * green + blue, palette), 'pal8'
    )


def mux_cover(container):
    """Add a picture for players to show instead of a video."""
    stream = container.add_stream(
        'mjpeg', rate=1, width=64, height=48, pix_fmt='yuvj420p'
    )
    stream.disposition = Disposition.attached_pic
    frame = av.VideoFrame.from_ndarray(picture(30, (64, 48)), 'rgb24')
    frame.pts = 0
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def encode_sound(path, cover=False):
    """Write a file without video."""
    with av.open(str(path), 'w') as container:
        sound = container.add_stream('aac', rate=8000, layout='mono')
        if cover:
            mux_cover(container)
        for t in range(20):
            container.mux(sound.encode(silence(t)))
        container.mux(sound.encode(None))


def packets_of(path):
    """Contents, times and key frame flags of the packets of a video."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [
            (bytes(p), p.pts, p.dts, p.is_keyframe)
            for p in container.demux(stream)
            if p.size
        ]


def write_packets(path, template, packets, options=None):
    """Write packets as a video with the stream header of another file."""
    with (
        av.open(str(template)) as source,
        av.open(str(path), 'w', options=options or {}) as container,
    ):
        old = source.streams.video[0]
        new = container.add_stream_from_template(old)
        for content, pts, dts, is_key in packets:
            packet = av.Packet(content)
            packet.pts, packet.dts = pts, dts
            packet.time_base = old.time_base
            packet.is_keyframe = is_key
            packet.stream = new
            container.mux(packet)


def cut(path, source, first, start=None):
    """Copy a video from a packet on, as it is.

    With ``start``, its frames before that time are not to be shown: an edit
    list says so.
    """
    packets = packets_of(source)[first:]
    options = {}
    if start is not None:
        packets = [
            (content, pts - start, dts - start, key)
            for content, pts, dts, key in packets
        ]
        options = {'avoid_negative_ts': 'disabled'}
    write_packets(path, source, packets, options)


def pack_b_frames(path, source):
    """Put B-frames into one chunk with the frame before, as DivX did."""
    packets = packets_of(source)

    def is_b(packet):
        content = packet[0]
        return content[content.index(b'\0\0\1\xb6') + 4] >> 6 == 2

    contents = []
    for i, packet in enumerate(packets):
        content = packet[0]
        if not is_b(packet):
            if i + 1 < len(packets) and is_b(packets[i + 1]):
                content += packets[i + 1][0]
            contents.append(content)
        elif i + 1 < len(packets) and is_b(packets[i + 1]):
            contents.append(packets[i + 1][0])
        else:  # a frame that says that there is none
            contents.append(b'\0\0\1\xb6\x50\x9f')
    write_packets(
        path,
        source,
        [
            (
                re.sub(
                    rb'\x00\x00\x01\xb2Lavc[^\x00]*',
                    b'\\000\\000\\001\xb2DivX503b1393p',
                    content,
                ),
                dts,
                dts,
                is_key,
            )
            for content, (_, _, dts, is_key) in zip(
                contents, packets, strict=True
            )
        ],
    )


def drop_times(path, source):
    """Copy a video, the times of decoding for those of showing."""
    packets = packets_of(source)
    start = packets[0][2]
    write_packets(
        path,
        source,
        [(c, dts - start, dts - start, key) for c, _, dts, key in packets],
    )


def change_size(path, sizes, **options):
    """A video of ten frames each of several sizes."""
    packets = []
    for i, size in enumerate(sizes):
        part = path.with_name(f'part_{i}_{path.name}')
        encode(part, num_frames=10, size=size, **options)
        packets += packets_of(part)
    template = path.with_name(f'part_0_{path.name}')
    step = packets[1][2] - packets[0][2]
    write_packets(
        path,
        template,
        [(p[0], i * step, i * step, p[3]) for i, p in enumerate(packets)],
    )
    for i in range(len(sizes)):
        path.with_name(f'part_{i}_{path.name}').unlink()


def shorten(path, seconds):
    """Say in the edit list of an mp4 file that the video ends earlier."""
    data = bytearray(path.read_bytes())
    at = data.index(b'elst') + 12
    data[at : at + 4] = struct.pack('>I', int(1000 * seconds))
    path.write_bytes(data)


def miscount(path):
    """Say in the header of an mp4 file that it has 10**9 frames."""
    data = bytearray(path.read_bytes())
    at = data.index(b'stts') + 12
    data[at : at + 4] = struct.pack('>I', 10**9)
    path.write_bytes(data)


def turn(path, degrees):
    """Ask in an mp4 file for a clockwise rotation of the video."""
    data = bytearray(path.read_bytes())
    a, b = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    matrix = [a << 16, b << 16, 0, -b << 16, a << 16, 0, 0, 0, 1 << 30]
    at = data.index(b'tkhd') + 44
    data[at : at + 36] = struct.pack('>9i', *matrix)
    path.write_bytes(data)


def write_good(folder):
    """Write all good videos.

    Returns:
        dict[str, Path]: By name.
    """
    if not folder.exists():
        folder.mkdir(parents=True)
        for write in (_write_h264, _write_other_codecs, _write_copies):
            write(folder)
    return {path.name: path for path in sorted(folder.iterdir())}


def _write_h264(folder):
    def write(name, **kwargs):
        encode(folder / name, **B_FRAMES | kwargs)

    for name in ('h264.mkv', 'h264.ts', 'h264.flv', 'h264.avi'):
        write(name)
    write('h264.mp4', audio=True)
    write('sound.ts', audio=True)
    write('cover.mp4', cover=True)
    write('intra.mp4', g='1', bf='0')
    write('open_gop.mp4', **{'x264-params': OPEN_GOP})
    write('open_gop.mkv', **{'x264-params': OPEN_GOP})
    refresh = 'intra-refresh=1:keyint=12:scenecut=0'
    write('intra_refresh.mp4', **{'x264-params': refresh})
    write('interlaced.mp4', **{'x264-params': 'tff=1'})
    colours = 'colorprim=bt709:transfer=bt709:colormatrix=bt709'
    write('bt709.mp4', **{'x264-params': colours})
    write('full_range.mp4', pix_fmt='yuvj420p')
    write('422.mp4', pix_fmt='yuv422p')
    write('odd_444.mp4', pix_fmt='yuv444p', size=(127, 95))
    write('gray.mp4', pix_fmt='gray')
    write('10bit.mp4', pix_fmt='yuv420p10le')
    times = [7 * t + t * t % 5 for t in range(NUM_FRAMES)]
    write('vfr.mp4', rate=100, times=times)
    write('vfr.mkv', rate=100, times=times)
    write('one_frame.mp4', num_frames=1)
    write('three_frames.mp4', num_frames=3)
    fragments = {'movflags': 'frag_keyframe+empty_moov'}
    write('fragments.mp4', container_options=fragments)
    late = {'output_ts_offset': '5'}
    write('late.mkv', container_options=late)
    # The clock of MPEG-TS starts anew after 2 ** 33 ticks of 1/90000 s.
    overflow = {'output_ts_offset': str(2**33 / 90000 - 3.4)}
    write('overflow.ts', container_options=overflow)
    write('shortened.mp4')
    shorten(folder / 'shortened.mp4', 30 / FPS)
    write('miscounted.mp4')
    miscount(folder / 'miscounted.mp4')
    for degrees in (90, 180, 270):
        write(f'turned_{degrees}.mp4')
        turn(folder / f'turned_{degrees}.mp4', degrees)
    write('name with spaces é,;#%03d.mp4', num_frames=10)


def _write_other_codecs(folder):
    b_frames = {'g': '12', 'bf': '2'}
    for name, codec, kwargs in [
        ('hevc.mp4', 'libx265', {'x265-params': f'{HEVC}:open-gop=0'}),
        ('hevc_open_gop.mkv', 'libx265', {'x265-params': HEVC}),
        ('mpeg4.avi', 'mpeg4', {'g': '12'}),
        ('mpeg4_b.avi', 'mpeg4', b_frames),
        ('mpeg4_b.mp4', 'mpeg4', b_frames),
        ('mpeg4_vfr.avi', 'mpeg4', dict(times=range(0, 96, 2), rate=24)),
        ('mpeg2.mpg', 'mpeg2video', dict(rate=25, **b_frames)),
        ('mpeg2.ts', 'mpeg2video', dict(rate=25, **b_frames)),
        ('vp8.webm', 'libvpx', VPX),
        ('vp9.webm', 'libvpx-vp9', VPX),
        (
            'vp9_hidden.webm',  # frames that are never shown
            'libvpx-vp9',
            VPX
            | {
                'deadline': 'good',
                'auto-alt-ref': '1',
                'lag-in-frames': '16',
            },
        ),
        ('odd_420.mkv', 'libvpx-vp9', dict(size=(127, 95), **VPX)),
        ('wmv2.wmv', 'wmv2', {'g': '12'}),
        ('mjpeg.avi', 'mjpeg', dict(pix_fmt='yuvj420p')),
        (
            'rgb.mov',  # in which frames are stored as changes
            'qtrle',
            dict(pix_fmt='rgb24', size=(64, 48), draw=half_still),
        ),
        ('ffv1.mkv', 'ffv1', dict(size=(64, 48))),
        (
            'av1.mp4',
            'libsvtav1',
            {'preset': '12', 'g': '12', 'svtav1-params': 'lp=1'},
        ),
    ]:
        if codec in av.codecs_available:
            encode(folder / name, codec, **{'preset': 'ultrafast'} | kwargs)


def _write_copies(folder):
    h264 = folder / 'h264.mp4'
    cut(folder / 'edit_list.mp4', h264, 12, start=17 * 1024)
    drop_times(folder / 'no_times.mp4', h264)
    pack_b_frames(folder / 'packed.avi', folder / 'mpeg4_b.avi')
    sound, silent = (folder / 'sound.ts', folder / 'h264.ts')
    late = folder / 'late.ts'
    encode(
        late,
        draw=lambda t, size: picture(t + 48, size),
        container_options={'output_ts_offset': '20'},
        **B_FRAMES,
    )
    for name, first in [('joined.ts', sound), ('joined_late.ts', late)]:
        data = first.read_bytes() + silent.read_bytes()
        (folder / name).write_bytes(data)
    late.unlink()
    (folder / 'named_wrongly.avi').write_bytes(h264.read_bytes())
    # These start between key frames.
    for name, source in [
        ('middle.mp4', h264),
        ('middle.mkv', folder / 'h264.mkv'),
        ('middle.ts', folder / 'h264.ts'),
        ('middle_mpeg2.mpg', folder / 'mpeg2.mpg'),
        ('middle_hevc.mp4', folder / 'hevc.mp4'),
        ('middle_refresh.mkv', folder / 'intra_refresh.mp4'),
    ]:
        if source.exists():
            cut(folder / name, source, 5)
    # It starts with a key frame; some frames shown before it follow.
    keys = [p[3] for p in packets_of(folder / 'open_gop.mkv')]
    cut(folder / 'open_cut.mkv', folder / 'open_gop.mkv', keys.index(True, 1))


def write_hostile(folder):
    """Write all bad videos.

    Returns:
        dict[str, Path]: By name.
    """
    folder.mkdir(parents=True)
    good = folder / 'good.mp4'
    encode(good, **B_FRAMES)
    data = good.read_bytes()
    with av.open(str(good)) as container:
        stream = container.streams.video[0]
        places = [p.pos for p in container.demux(stream) if p.is_keyframe]
    broken = bytearray(data)
    for i in range(places[2], places[2] + 40):
        broken[i] ^= 0xFF
    encode(folder / 'good.avi', 'mpeg4')
    encode_sound(folder / 'audio_only.mp4')
    encode_sound(folder / 'cover_only.mp4', cover=True)
    encode(
        folder / 'no_frames.mp4',
        num_frames=0,
        container_options={'movflags': 'empty_moov'},
    )
    for name, content in {
        'bitrot.mp4': bytes(broken),
        'header_only.avi': (folder / 'good.avi').read_bytes()[:200],
        'header_only.mp4': data[:36],
        'text.mp4': b'no video at all\n',
        'truncated.mp4': data[: len(data) * 6 // 10],
        'zero_bytes.mp4': b'',
    }.items():
        (folder / name).write_bytes(content)
    (folder / 'folder.mp4').mkdir()
    (folder / 'broken_link.mp4').symlink_to('nowhere.mp4')
    if os.geteuid():  # root may read everything
        (folder / 'forbidden.mp4').write_bytes(data)
        (folder / 'forbidden.mp4').chmod(0)
    good.unlink()
    (folder / 'good.avi').unlink()
    paths = {path.name: path for path in sorted(folder.iterdir())}
    return paths | {'missing.mp4': folder / 'missing.mp4'}
