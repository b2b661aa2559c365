# Copyright (c) MotionMAE contributors. All rights reserved.
"""Lists of videos and of raw frames, and folders."""

import codecs
import re

import pytest
from mmaction.datasets import RawframeDataset, VideoDataset

from mmmotionmae.datasets import RobustVideoDataset
from mmmotionmae.datasets.annotation import (
    VIDEO_EXTENSIONS,
    find_frame_folders,
    find_videos,
    read_frame_list,
    read_video_list,
)
from mmmotionmae.utils.errors import AnnotationError, UsageError


@pytest.fixture
def listing(tmp_path):
    """A function that writes a list and returns its path."""

    def write(text):
        path = tmp_path / 'my list.txt'
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def complains(path, number, line, *words):
    """A pattern: name of the list, number and text of the line, words."""
    where = f'{re.escape(path)}, line {number}\\b'
    text = re.escape(repr(line))
    return where + ''.join(f'(?=.*{word})' for word in [text, *words])


# ------------------------------------------------------------------ videos


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        # MMAction2's lists, and VideoMAE's with two spaces.
        ('a.mp4 3\nb/c.mp4 0\n', [('a.mp4', 3), ('b/c.mp4', 0)]),
        ('a.mp4  12\nb.mp4  7', [('a.mp4', 12), ('b.mp4', 7)]),
        ('/data/a.mp4 -1\n', [('/data/a.mp4', -1)]),
        # Without labels.
        ('a.mp4\nb/c.webm\n', [('a.mp4', -1), ('b/c.webm', -1)]),
        ('my film 2.mp4\n', [('my film 2.mp4', -1)]),
        ('a,b.mp4\n', [('a,b.mp4', -1)]),
        # Something else between path and label.
        ('a.mp4\t5\nb.mp4 \t 6\n', [('a.mp4', 5), ('b.mp4', 6)]),
        ('a.mp4,5\nb.mp4 , 6\n', [('a.mp4', 5), ('b.mp4', 6)]),
        # White space, commas and numbers in the path.
        ('my own film.mp4 5\n', [('my own film.mp4', 5)]),
        ('my 1st, 2nd.mp4,5\n', [('my 1st, 2nd.mp4', 5)]),
        ('3 4 5.mp4 6\n', [('3 4 5.mp4', 6)]),
        ('clip 7\n', [('clip', 7)]),
        # In quotes.
        ('"a, b.mp4",3\n', [('a, b.mp4', 3)]),
        ('"a b.mp4" 3\n', [('a b.mp4', 3)]),
        ('"a.mp4","3"\n"b.mp4", "4"\n', [('a.mp4', 3), ('b.mp4', 4)]),
        ('"a ""b"".mp4"\n"c, 3"', [('a "b".mp4', -1), ('c, 3', -1)]),
        ('"a".mp4 3\n', [('"a".mp4', 3)]),
        # Line ends, empty lines, marks of the byte order, other letters.
        ('a.mp4 1\r\nb.mp4 2\r\n', [('a.mp4', 1), ('b.mp4', 2)]),
        ('a.mp4 1\rb.mp4 2\r', [('a.mp4', 1), ('b.mp4', 2)]),
        ('\n\n a.mp4 1 \n \t\nb.mp4 2\n\n', [('a.mp4', 1), ('b.mp4', 2)]),
        (codecs.BOM_UTF8 + b'a.mp4 1', [('a.mp4', 1)]),
        ('ü ß/影片.MP4 2\n', [('ü ß/影片.MP4', 2)]),
        # An unknown extension.
        ('a.ogv\nsome thing\n', [('a.ogv', -1), ('some thing', -1)]),
    ],
)
def test_lists_of_videos(listing, text, expected):
    assert read_video_list(listing(text)) == expected


@pytest.mark.parametrize(
    ('delimiter', 'text', 'expected'),
    [
        (' ', 'a,b.mp4 3\n', [('a,b.mp4', 3)]),
        (' ', 'a.mp4  3\n', [('a.mp4', 3)]),
        (',', 'a b.mp4, 3\n', [('a b.mp4', 3)]),
        (',', 'clip 7\n', [('clip 7', -1)]),
        (',', '"a,b.mp4",3\n', [('a,b.mp4', 3)]),
        ('\t', 'a 1.mp4\t3\n', [('a 1.mp4', 3)]),
        ('::', 'a:1.mp4::3\n', [('a:1.mp4', 3)]),
        ('|', 'a.mp4 1.mp4|3\n', [('a.mp4 1.mp4', 3)]),
    ],
)
def test_lists_with_a_delimiter(listing, delimiter, text, expected):
    assert read_video_list(listing(text), delimiter) == expected


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('a.mp4 1 2\nb.mp4\n', [('a.mp4', [1, 2]), ('b.mp4', [])]),
        ('clip 7.mp4 3,0\n', [('clip 7.mp4', [3, 0])]),
        ('"a 1.mp4",4,4\n', [('a 1.mp4', [4, 4])]),
    ],
)
def test_several_labels(listing, text, expected):
    path = listing(text)
    assert read_video_list(path, None, 5, multi_class=True) == expected
    with pytest.raises(AnnotationError, match='line 1 has the label 3;'):
        read_video_list(listing('x.mp4 3 0\n'), None, 3, True)


@pytest.mark.parametrize('offset', [False, True])
def test_several_labels_of_frames(listing, offset):
    start = '3 ' if offset else ''
    path = listing(f'a {start}20 1 2\n"clip 7" {start}9\n')
    first, second = read_frame_list(path, None, offset, 5, True)
    assert first['frame_dir'] == 'a' and second['frame_dir'] == 'clip 7'
    assert (first['total_frames'], second['total_frames']) == (20, 9)
    assert (first['label'], second['label']) == ([1, 2], [])
    assert first.get('offset') == (3 if offset else None)


def test_vectors_of_several_labels_are_those_of_the_stock_data_set(listing):
    path = listing('a.mp4 1 2\nb.mp4 0\n')
    args = dict(
        ann_file=path,
        pipeline=[],
        data_prefix=dict(video='x'),
        multi_class=True,
        num_classes=4,
    )
    ours, stock = RobustVideoDataset(**args), VideoDataset(**args)
    for i, expected in enumerate([[0, 1, 1, 0], [1, 0, 0, 0]]):
        info, other = ours.get_data_info(i), stock.get_data_info(i)
        assert info.pop('label').tolist() == expected
        assert other.pop('label').tolist() == expected
        assert info == other
    with pytest.raises(UsageError, match='multi_class needs num_classes'):
        RobustVideoDataset(**dict(args, num_classes=None))


@pytest.mark.parametrize(
    ('text', 'number', 'line', 'words'),
    [
        ('a.mp4 1\n\n 7\n', 3, '7', ['has no path']),
        ('""\n', 1, '""', ['has no path']),
        ('"" 4\n', 1, '"" 4', ['has no path']),
        ('a.mp4 run\n', 1, 'a.mp4 run', ["label 'run' is not a whole"]),
        ('a.mp4 1\nb.mp4 1.5\n', 2, 'b.mp4 1.5', ["label '1.5' is not a"]),
        ('a.mp4,1,run\n', 1, 'a.mp4,1,run', ["label '1,run' is not a"]),
        ('"a b.mp4", x\n', 1, '"a b.mp4", x', ["label 'x' is not"]),
        ('a.mp4 1 2\n', 1, 'a.mp4 1 2', ["label '1 2' is not a whole"]),
        ('a.mp4,\n', 1, 'a.mp4,', ["label '' is not a whole"]),
        ('a.mp4 1e3\n', 1, 'a.mp4 1e3', ["label '1e3' is not"]),
        ('a.mp4 - 1\n', 1, 'a.mp4 - 1', ["label '- 1' is not"]),
        (
            'a.mp4 1\n\nb.mp4\n',
            3,
            'b.mp4',
            ['has no label, but line 1 has one'],
        ),
        (
            '\na,b\na.mp4,1\n',
            3,
            'a.mp4,1',
            ['has a label, but line 2 has none'],
        ),
    ],
)
def test_bad_lines(listing, text, number, line, words):
    path = listing(text)
    with pytest.raises(
        ValueError, match=complains(path, number, line, *words)
    ):
        read_video_list(path)


def test_bad_labels_with_a_delimiter(listing):
    path = listing('a.mp4|1\nb.mp4|run\n')
    pattern = complains(path, 2, 'b.mp4|run', "label 'run' is not")
    with pytest.raises(ValueError, match=pattern):
        read_video_list(path, '|')


@pytest.mark.parametrize('read', [read_video_list, read_frame_list])
def test_files_that_are_no_lists(listing, tmp_path, read):
    for missing in (tmp_path / 'no.txt', tmp_path):
        with pytest.raises(
            FileNotFoundError,
            match=f'no annotation file {re.escape(repr(str(missing)))}',
        ):
            read(str(missing))
    for text in ('', '\n \r\n\t\n', codecs.BOM_UTF8):
        with pytest.raises(ValueError, match='my list.txt lists no videos'):
            read(listing(text))
    for data in ('ä 1.mp4'.encode('latin-1'), 'a.mp4 1'.encode('utf-16')):
        with pytest.raises(ValueError, match='my list.txt is not a text.*UTF'):
            read(listing(data))


# -------------------------------------------------------------- raw frames


@pytest.mark.parametrize(
    ('with_offset', 'delimiter', 'text', 'expected'),
    [
        (False, None, 'a 120 3\nb/c 9 0\n', [('a', 120, 3), ('b/c', 9, 0)]),
        (False, None, 'a  120  3\n', [('a', 120, 3)]),
        (False, None, 'a 120\nb 9\n', [('a', 120, -1), ('b', 9, -1)]),
        (False, None, 'a\t120\t3\r\nb,9,4\r\n', [('a', 120, 3), ('b', 9, 4)]),
        (False, None, 'my own, clip 120 3\n', [('my own, clip', 120, 3)]),
        (False, None, '"my, 5",120,3\n', [('my, 5', 120, 3)]),
        (False, None, '"a 5" 120\n', [('a 5', 120, -1)]),
        (False, ',', 'a 5,120\n', [('a 5', 120, -1)]),
        (False, None, 'a 120 -1\n', [('a', 120, -1)]),
        (True, None, 'a 10 120 3\n', [('a', 10, 120, 3)]),
        (True, None, 'a b 0 120\n', [('a b', 0, 120, -1)]),
        (True, ' ', 'a,b 10 120 3\n', [('a,b', 10, 120, 3)]),
    ],
)
def test_lists_of_frames(listing, with_offset, delimiter, text, expected):
    names = ['frame_dir', 'total_frames', 'label']
    if with_offset:
        names.insert(1, 'offset')
    infos = read_frame_list(listing(text), delimiter, with_offset)
    assert infos == [
        dict(zip(names, values, strict=True)) for values in expected
    ]


@pytest.mark.parametrize(
    ('with_offset', 'text', 'number', 'line', 'words'),
    [
        (False, 'a 5 1\n\nb\n', 3, 'b', ['is not "folder total_frames']),
        (False, 'a x\n', 1, 'a x', ['is not "folder total_frames']),
        (False, '12 3\n7\n', 2, '7', ['is not "folder total_frames']),
        (False, 'a 0 3\n', 1, 'a 0 3', ['is not "folder total_frames']),
        (False, 'a -5\n', 1, 'a -5', ['is not "folder total_frames']),
        (False, '"" 5 3\n', 1, '"" 5 3', ['is not "folder total_frames']),
        (True, 'a 5\n', 1, 'a 5', ['is not "folder offset total_frames']),
        (True, 'a 5 0 1\n', 1, 'a 5 0 1', ['"folder offset total_frames']),
        (
            False,
            'a 5 1\nb 6\n',
            2,
            'b 6',
            ['has no label, but line 1 has one'],
        ),
        (
            True,
            'a 0 5\nb 0 6 2\n',
            2,
            'b 0 6 2',
            ['has a label, but line 1 has none'],
        ),
    ],
)
def test_bad_lines_of_frames(listing, with_offset, text, number, line, words):
    path = listing(text)
    with pytest.raises(
        ValueError, match=complains(path, number, line, *words)
    ):
        read_frame_list(path, with_offset=with_offset)


# ---------------------------------------------- as the stock data sets read


@pytest.mark.parametrize(
    ('delimiter', 'text'),
    [
        (' ', 'a.mp4 3\nb/c.mp4 0\nd.avi 12\n'),
        (' ', 'a.mp4\nb/c.mp4\n'),
        (',', 'a b.mp4,3\nc.mp4,5\n'),
        ('  ', 'a b.mp4  3\nc.mp4  5\n'),
        (' ', 'a.mp4 -1\r\nb.mp4 4\r\n'),
    ],
)
@pytest.mark.parametrize('guess', [False, True])
def test_videos_as_in_video_dataset(listing, delimiter, text, guess):
    args = dict(
        ann_file=listing(text), pipeline=[], data_prefix=dict(video='root')
    )
    stock = VideoDataset(delimiter=delimiter, **args)
    ours = RobustVideoDataset(delimiter=None if guess else delimiter, **args)
    assert len(ours) == len(stock) >= 2
    for i in range(len(stock)):
        assert ours.get_data_info(i) == stock.get_data_info(i)


@pytest.mark.parametrize(
    ('with_offset', 'text'),
    [
        (False, 'a 120 3\nb/c  9 0\n'),
        (False, 'a 120\nb/c 9\n'),
        (False, 'a\t120 3\r\nb 9 4\r\n'),
        (True, 'a 0 120 3\nb/c 10 9 0\n'),
        (True, 'a 0 120\nb/c 10 9\n'),
    ],
)
def test_frames_as_in_rawframe_dataset(listing, with_offset, text):
    args = dict(
        ann_file=listing(text),
        pipeline=[],
        data_prefix=dict(img='root'),
        filename_tmpl='frame-{:04}.png',
        with_offset=with_offset,
    )
    stock, ours = RawframeDataset(**args), RobustVideoDataset(**args)
    assert len(ours) == len(stock) == 2
    for i in range(2):
        assert ours.get_data_info(i) == stock.get_data_info(i)


# ----------------------------------------------------------------- folders


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_videos_below_a_folder(tmp_path):
    videos = ['b.mp4', 'a/d.MKV', 'a/c/my film.webm', 'z/é.Mp4']
    fill(tmp_path, *videos, 'a/x.txt', 'mp4', 'y/z.jpg', 'b.mp4.part')
    assert find_videos(str(tmp_path)) == sorted(videos)
    fill(tmp_path / 'all', *(f'x{end}' for end in VIDEO_EXTENSIONS))
    assert len(find_videos(str(tmp_path / 'all'))) == len(VIDEO_EXTENSIONS)
    assert {'.mp4', '.avi', '.webm', '.mkv'} < set(VIDEO_EXTENSIONS)


def test_folders_of_frames_below_a_folder(tmp_path):
    fill(tmp_path, 'a/1.jpg', 'a/2.jpg', 'a/b/1.PNG', 'c d/x.webp')
    fill(tmp_path, 'e/x.txt', 'f/x.mp4')
    assert find_frame_folders(str(tmp_path)) == ['a', 'a/b', 'c d']
    assert find_frame_folders(str(tmp_path / 'a')) == ['.', 'b']


def test_links_to_folders_are_followed_once(tmp_path):
    fill(tmp_path, 'elsewhere/a.mp4', 'data/b/c.mp4')
    (tmp_path / 'data/link').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'data/b/back').symlink_to(tmp_path / 'data')
    (tmp_path / 'elsewhere/d.mp4').symlink_to(tmp_path / 'nowhere')
    assert find_videos(str(tmp_path / 'data')) == [
        'b/c.mp4',
        'link/a.mp4',
        'link/d.mp4',
    ]


@pytest.mark.parametrize(
    ('find', 'what'), [(find_videos, 'video'), (find_frame_folders, 'image')]
)
def test_folders_without_videos(tmp_path, find, what):
    fill(tmp_path, 'a/x.txt')
    with pytest.raises(FileNotFoundError, match="no folder '.*nowhere'"):
        find(str(tmp_path / 'nowhere'))
    with pytest.raises(FileNotFoundError, match='no folder'):
        find(str(tmp_path / 'a/x.txt'))
    with pytest.raises(FileNotFoundError, match=f'no {what} below.*looked'):
        find(str(tmp_path))
