# Copyright (c) MotionMAE contributors. All rights reserved.
"""Kinds of files: what is a video, what a picture, and what a list."""

import codecs
import os.path as osp
from typing import Literal

import av
from av.stream import Disposition

from ..readers import IMAGE_EXTENSIONS

VIDEO_EXTENSIONS = tuple(
    '.mp4 .webm .mkv .avi .mov .m4v .mpg .mpeg .flv .wmv .3gp .ts .mts .m2ts '
    '.m2t .vob .ogv .ogm .gif .3g2 .f4v .asf .divx .mxf .qt .rm .rmvb .m1v '
    '.m2v .mpe .mpv .wtv .y4m .nut .ivf .dv .h264 .h265 .hevc'.split()
)
"""Files that are taken for videos without a look into them."""

LIST_EXTENSIONS = ('.txt', '.csv', '.tsv', '.json', '.jsonl', '.ndjson')

_ANIMATED = '.webp'  # a picture, or several
_PICTURES = tuple(x for x in IMAGE_EXTENSIONS if x != _ANIMATED) + tuple(
    '.tif .tiff .jfif .heic .avif .ppm .pgm .svg .ico .psd .exr'.split()
)
_OTHERS = tuple(
    '.xml .yaml .yml .md .rst .html .htm .log .ini .cfg .py .sh .pkl .pickle '
    '.npy .npz .pt .pth .h5 .hdf5 .mat .parquet .srt .vtt .ass .sub .lrc .nfo '
    '.pdf .doc .docx .xls .xlsx .url .lnk .db .sqlite .md5 .sha1 .sha256 .zip '
    '.tar .gz .tgz .bz2 .xz .7z .rar .zst .mp3 .wav .aac .flac .m4a .oga '
    '.opus .wma .part .partial .tmp .crdownload .ytdl .index'.split()
)

# FFmpeg shows text as a video of letters.
_TEXT_FORMATS = ('tty', 'bin', 'xbin', 'adf', 'idf')

Kind = Literal['video', 'picture', 'list', 'other']


def is_video(path: str) -> bool:
    """Tell videos from all other files.

    Known extensions decide; a file with another one is a video if PyAV opens
    it and decodes a frame; of an animated picture, two.

    Args:
        path: The file, which need not exist if its extension is known.
    """
    name = path.lower()
    if name.endswith(VIDEO_EXTENSIONS):
        return True
    if name.endswith((*_PICTURES, *LIST_EXTENSIONS, *_OTHERS)):
        return False
    if name.endswith(_ANIMATED) and not _is_animated(path):
        return False
    return osp.isfile(path) and _has_frames(path)


def kind_of(path: str) -> Kind:
    """Find out what a file is that a user names.

    A list is a file with the extension of one (.txt, .csv, .tsv, .json,
    .jsonl, .ndjson), or text in UTF-8 that is none of the others.

    Args:
        path: A file that exists.
    """
    name = path.lower()
    if name.endswith(LIST_EXTENSIONS):
        return 'list'
    if is_video(path):
        return 'video'
    if name.endswith((*_PICTURES, _ANIMATED)):
        return 'picture'
    return 'list' if _is_text(path) else 'other'


def _is_animated(path: str) -> bool:
    """Tell whether a WebP file says that it holds several pictures."""
    try:
        with open(path, 'rb') as file:
            head = file.read(21)
    except OSError:
        return False
    return len(head) == 21 and head[12:16] == b'VP8X' and bool(head[20] & 2)


def _has_frames(path: str) -> bool:
    try:
        # Absolute: FFmpeg takes what is before a colon for a protocol.
        with av.open(osp.abspath(path), timeout=10) as container:
            if container.format.name in _TEXT_FORMATS:
                return False
            streams = [
                stream
                for stream in container.streams.video
                if stream.disposition != Disposition.attached_pic  # a cover
            ]
            if not streams:
                return False
            is_picture = container.format.name == 'image2' or (
                container.format.name.endswith('_pipe')
            )
            frames = container.decode(streams[0])
            next(frames)
            return next(frames, None) is not None if is_picture else True
    except (OSError, ValueError, StopIteration):  # FFmpeg's are of these
        return False


def _is_text(path: str) -> bool:
    with open(path, 'rb') as file:
        start = file.read(2**16)
    try:
        codecs.getincrementaldecoder('utf-8')().decode(start)
    except UnicodeDecodeError:
        return False
    return b'\0' not in start
