# Copyright (c) MotionMAE contributors. All rights reserved.
"""Lists of other forms: VideoMAE V2's, clips, CSV, JSON, Windows."""

import json
import re

import pytest

from mmmotionmae.datasets import RobustVideoDataset
from mmmotionmae.datasets.annotation import (
    Layout,
    kind_of,
    open_list,
    read_frame_list,
    read_texts,
    read_video_list,
)
from mmmotionmae.utils.errors import AnnotationError, UsageError


@pytest.fixture
def listing(tmp_path):
    """A function that writes a list and returns its path."""

    def write(text, name='list.txt'):
        path = tmp_path / name
        path.write_text(text, encoding='utf-8')
        return str(path)

    return write


def entries(path, **kwargs):
    return list(open_list(path, Layout.of(**kwargs)).entries())


def clip(path, label, start, end, unit):
    return dict(
        path=path, label=label, clip_start=start, clip_end=end, clip_unit=unit
    )


# --------------------------------------------------------- VideoMAE V2's


def test_pretraining_lists_of_videomae_v2(listing):
    path = listing('a b/x.mp4 0 -1\ny.mp4 0 -1\n')
    assert read_video_list(path) == [('a b/x.mp4', -1), ('y.mp4', -1)]
    columns = ('start_index', 'total_frames')
    found = entries(path, columns=columns)
    assert [x['path'] for x in found] == ['a b/x.mp4', 'y.mp4']
    path = listing('y.mp4 0 300\n')
    with pytest.raises(AnnotationError, match='line 1: the label .0 300. is'):
        read_video_list(path)
    with pytest.raises(AnnotationError, match='300 tells of a folder of raw'):
        entries(path, columns=columns)


def test_raw_frames_of_videomae_v2(listing):
    """The start is the number in the name of the first frame."""
    path = listing('a 1 163\n"b 7" 5 20\n')
    columns = ('start_index', 'total_frames')
    for start_index in (None, 0):
        dataset = RobustVideoDataset(
            [],
            path,
            dict(img='root'),
            columns=columns,
            start_index=start_index,
        )
        infos = [dataset.get_data_info(i) for i in range(2)]
        assert [x['frame_dir'] for x in infos] == ['root/a', 'root/b 7']
        assert [x['total_frames'] for x in infos] == [163, 20]
        assert [x['offset'] + x['start_index'] for x in infos] == [1, 5]


# ---------------------------------------------- a label more than expected


def test_a_label_too_many_of_raw_frames(listing):
    path = listing('b 9 0\na 163 1 2\n')
    pattern = 'line 2 has one number more.*multi_class.*quotes, "a 163"'
    with pytest.raises(AnnotationError, match=pattern):
        read_frame_list(path)
    found = read_frame_list(path, multi_class=True)
    assert [x['label'] for x in found] == [[0], [1, 2]]
    assert [x['total_frames'] for x in found] == [9, 163]
    path = listing('"a 163" 1 2\n')
    assert read_frame_list(path) == [
        dict(frame_dir='a 163', total_frames=1, label=2)
    ]
    with pytest.raises(AnnotationError, match='line 1 has one number more'):
        read_frame_list(listing('a 0 163 1 2\n'), with_offset=True)


def test_a_label_too_many_of_files_without_a_known_extension(listing):
    assert read_video_list(listing('t.tar@512@99 3\n')) == [
        ('t.tar@512@99', 3)
    ]
    assert read_video_list(listing('s3://b/k.mp4 3\n')) == [
        ('s3://b/k.mp4', 3)
    ]
    with pytest.raises(AnnotationError, match="line 1: the label '3 4'"):
        read_video_list(listing('t.tar@512@99 3 4\n'))
    with pytest.raises(AnnotationError, match='line 1 has one number more'):
        read_video_list(listing('s3://b/k 3 4\n'))


# ------------------------------------------------------------------ clips


@pytest.mark.parametrize(
    'path',
    ['00.tar@512@99', 's 3/0.tar@512@9', 'noext', 'https://h/a.mp4?x=1'],
)
def test_clips_of_paths_without_an_extension(listing, path):
    """Members of shards among them."""
    quoted = f'"{path}"'
    for start, between in ((path, ' '), (quoted, ' '), (quoted, ',')):
        line = between.join([start, '1.5', '7.25'])
        assert entries(listing(f'{line}{between}3\n')) == [
            clip(path, 3, 1.5, 7.25, 'seconds')
        ]
        assert entries(listing(f'{line}\n')) == [
            clip(path, -1, 1.5, 7.25, 'seconds')
        ]


def test_all_of_a_member(listing):
    """In VideoMAE V2's form."""
    path = listing('00.tar@512@99 0 -1\ns 1/0.tar@512@9 0 -1\n')
    assert entries(path) == [
        dict(path='00.tar@512@99', label=-1),
        dict(path='s 1/0.tar@512@9', label=-1),
    ]


@pytest.mark.parametrize(
    ('line', 'options', 'reason'),
    [
        ('a 2.5 3', {}, 'quotes, "a 2.5"'),
        ('a 2.5 3 4', dict(multi_class=True), 'quotes, "a 2.5"'),
        ('a 1.5 2.5 3 4', {}, "label '1.5 2.5 3 4' is not a whole"),
        ('a 1.5 2.5 163', dict(frames=True), 'quotes, "a 1.5 2.5"'),
        ('a 1.5 2.5 3', dict(columns=('label',)), 'quotes, "a 1.5 2.5"'),
        ('a.mp4 1.5 2.5 3', dict(columns=('label',)), 'one number more'),
    ],
)
def test_a_clip_is_not_part_of_the_path(listing, line, options, reason):
    with pytest.raises(AnnotationError, match=f'line 1.*{reason}'):
        open_list(listing(line), Layout.of(**options))


def test_names_that_end_in_decimals_stand_in_quotes(listing):
    path = listing('"a 1.5 2.5" 3\nv1.5 4\n')
    assert read_video_list(path) == [('a 1.5 2.5', 3), ('v1.5', 4)]


def test_clips_in_seconds_are_known_by_their_decimal_points(listing):
    path = listing('a b.mp4 1.5 7.25 3\nc.mp4 0 2.0 1\n')
    assert entries(path) == [
        clip('a b.mp4', 3, 1.5, 7.25, 'seconds'),
        clip('c.mp4', 1, 0, 2, 'seconds'),
    ]
    assert entries(listing('a.mp4,1.5,7.\n')) == [
        clip('a.mp4', -1, 1.5, 7, 'seconds')
    ]


def test_clips_in_frames_are_named(listing):
    path = listing('a 1.mp4 10 70 3\nc 0 -1 1\n')
    columns = ('start', 'end', 'label')
    assert entries(path, columns=columns) == [
        clip('a 1.mp4', 3, 10, 70, 'frames'),
        clip('c', 1, 0, -1, 'frames'),
    ]
    found = entries(path, columns=columns, clip_unit='seconds')
    assert found[0] == clip('a 1.mp4', 3, 10, 70, 'seconds')
    with pytest.raises(AnnotationError, match='several; columns says what'):
        entries(path)
    found = entries(path, columns=columns, multi_class=True)
    assert [x['label'] for x in found] == [[3], [1]]


@pytest.mark.parametrize(
    ('text', 'kwargs', 'words'),
    [
        ('a.mp4 1.5 7.5\nb.mp4 1 7\n', {}, 'line 2: some clips'),
        ('a.mp4 1.5 7.5\n', dict(clip_unit='frames'), 'line 1 has a clip'),
        ('a.mp4 7.5 1.5\n', {}, 'line 1: a clip from 7.5 to 1.5 is empty'),
        ('a.mp4 -1.5 1.5\n', {}, 'line 1: a clip from -1.5'),
        ('a.mp4 1 2 3\n', {}, "line 1: the label '1 2 3' is not"),
        ('a.mp4 1 3\n', dict(), 'line 1 is not "path start end label"'),
    ],
)
def test_clips_that_are_none(listing, text, kwargs, words):
    order = ('start', 'end', 'label')
    if words.endswith('label"'):
        kwargs = dict(columns=order)
    elif 'some clips' in words:
        kwargs = dict(columns=order[:2])
    with pytest.raises(AnnotationError, match=words):
        entries(listing(text), **kwargs)


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(columns=('begin', 'end')),
        dict(columns=('label', 'start', 'end')),
        dict(columns=('start', 'label')),
        dict(columns='label'),
        dict(columns=('label', 'label')),
        dict(columns=dict(name='x')),
        dict(columns=('start', 'end'), frames=True),
        dict(clip_unit='minutes'),
    ],
)
def test_layouts_that_make_no_sense(kwargs):
    with pytest.raises(UsageError):
        Layout.of(**kwargs)


# -------------------------------------------------------------------- CSV


@pytest.mark.parametrize('sign', [',', '\t', ';', '|'])
def test_columns_with_names(listing, sign):
    text = '\n\nlabel,split,video\n3,train,"a, b.mp4"\n0,val, c.mp4\n'
    path = listing(text.replace(',', sign).replace(f'"a{sign}', '"a,'))
    assert read_video_list(path) == [('a, b.mp4', 3), ('c.mp4', 0)]
    names, texts = read_texts(path, Layout())
    assert names == f'label{sign}split{sign}video' and len(texts) == 2
    again = listing('\n'.join([names, texts[1]]), 'again.txt')
    assert read_video_list(again) == [('c.mp4', 0)]


def test_columns_of_clips_and_of_frames(listing):
    text = 'video_path,start_time,end_time,label\na.mp4,1,2.5,4\n'
    assert entries(listing(text)) == [clip('a.mp4', 4, 1, 2.5, 'seconds')]
    text = 'file,start_frame,end_frame\na.mp4,10,20\nb.mp4,,\n'
    first, second = entries(listing(text))
    assert first == clip('a.mp4', -1, 10, 20, 'frames')
    assert second == dict(path='b.mp4', label=-1)  # all of it
    text = 'frame_dir,num_frames,label\na 1,9,2\n'
    assert read_frame_list(listing(text)) == [
        dict(frame_dir='a 1', total_frames=9, label=2)
    ]
    with pytest.raises(AnnotationError, match='line 2 has no total_frames'):
        read_frame_list(listing('path,label\na,2\n'))


@pytest.mark.parametrize(
    ('names', 'values', 'unit'),
    [
        ('time_start,time_end', '10,20', 'seconds'),
        ('start_sec,end_sec', '10,20', 'seconds'),
        ('start_frame,end_frame', '10.0,20.0', 'frames'),
        ('start,end', '10.0,20', 'seconds'),
    ],
)
def test_units_that_names_of_columns_tell(listing, names, values, unit):
    path = listing(f'path,{names}\na.mp4,{values}\n')
    assert entries(path) == [clip('a.mp4', -1, 10, 20, unit)]
    texts = zip(names.split(','), values.split(','), strict=True)
    line = json.dumps(dict(path='a.mp4') | {k: float(v) for k, v in texts})
    path = listing(line.replace('20.0', '20'), 'list.jsonl')
    assert entries(path) == [clip('a.mp4', -1, 10, 20, unit)]


@pytest.mark.parametrize(
    ('text', 'kwargs', 'words'),
    [
        ('path,start,end\na.mp4,1,2', {}, 'line 2 has .* whole numbers'),
        ('path,start_frame,end_frame\na.mp4,1.5,2', {}, 'no numbers of fr'),
        ('path,start_frame,end_time\na.mp4,1,2', {}, 'not both in the same'),
        (
            'path,start_frame,end_frame\na.mp4,1,2',
            dict(clip_unit='seconds'),
            'not both in seconds',
        ),
    ],
)
def test_units_that_are_not_clear(listing, text, kwargs, words):
    with pytest.raises(AnnotationError, match=words):
        entries(listing(text), **kwargs)


def test_cells_that_are_empty_are_not_there(listing):
    lines = [
        '{"frame_dir": "a", "num_frames": 9, "offset": 4, "start_index": 1}',
        '{"frame_dir": "b", "num_frames": 9}',
        '{"frame_dir": "c", "num_frames": 9, "offset": -1}',
    ]
    path = listing('\n'.join(lines), 'list.jsonl')
    first, second, third = read_frame_list(path)
    assert (first['offset'], first['start_index']) == (4, 1)
    assert second == dict(frame_dir='b', label=-1, total_frames=9)
    assert third['offset'] == -1 and 'start_index' not in third


def test_names_that_the_user_gives(listing):
    text = 'id,what,class\na.mp4,5,1\n'
    path = listing(text)
    columns = dict(path='id', label='what')
    assert entries(path, columns=columns) == [dict(path='a.mp4', label=5)]
    with pytest.raises(AnnotationError, match="must name the column 'x'"):
        entries(path, columns=dict(path='x'))
    with pytest.raises(AnnotationError, match='columns, but none for the pa'):
        entries(listing('label,start,id\n1,2,a.mp4\n'))
    two = listing('video,file,label\na.mp4,b.mp4,1\n')
    with pytest.raises(AnnotationError, match='line 1 has two columns for'):
        entries(two)
    assert entries(two, columns=dict(path='file'))[0]['path'] == 'b.mp4'
    # The plain name counts.
    text = 'video,path,label\na.mp4,b.mp4,1\n'
    assert entries(listing(text))[0]['path'] == 'b.mp4'


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('path,label\na.mp4\n', 'line 2 has 1 columns, fewer than line 1'),
        ('path,label\na.mp4,\n\nb.mp4,1\n', 'line 4 has a label, but line 2'),
        ('path,label\na.mp4,run\n', "line 2: the label 'run' is not a whole"),
        ('path,label\n,1\n', 'line 2 has no path'),
        ('path,label\n', 'lists no videos'),
    ],
)
def test_bad_lines_of_csv(listing, text, words):
    path = listing(text)
    with pytest.raises(AnnotationError, match=words):
        read_video_list(path)


def test_several_labels_in_a_cell(listing):
    path = listing('path,label\na.mp4,"1,2"\nb.mp4,0 3\nc.mp4,\n')
    found = read_video_list(path, num_classes=4, multi_class=True)
    assert [x for _, x in found] == [[1, 2], [0, 3], []]


# ------------------------------------------------------------------- JSON


@pytest.mark.parametrize('form', ['array', 'object', 'lines', 'lines.json'])
def test_json(listing, form):
    rows = [
        dict(path='a "1" é.mp4', label=3, start=1.5, end=9),
        dict(video='b.mp4', label=0, other=[1, {}], end=None),
    ]
    text, name = json.dumps(rows, indent=2), 'x.json'
    if form == 'object':
        text = json.dumps(dict(metainfo={}, data_list=rows))
    elif form.startswith('lines'):
        text = '\n'.join(map(json.dumps, rows))
        name = 'x.json' if form.endswith('json') else 'x.jsonl'
    path = listing(text, name)
    expected = [
        clip('a "1" é.mp4', 3, 1.5, 9, 'seconds'),
        dict(path='b.mp4', label=0),
    ]
    assert entries(path) == expected
    names, texts = read_texts(path, Layout())
    assert names == '' and entries(listing('\n'.join(texts))) == expected


def test_json_of_paths_and_several_labels(listing):
    path = listing('["a 7.mp4", "b"]', 'x.json')
    assert read_video_list(path) == [('a 7.mp4', -1), ('b', -1)]
    path = listing('{"path": "a", "label": [1, 2]}\n', 'x.jsonl')
    assert read_video_list(path, multi_class=True) == [('a', [1, 2])]
    with pytest.raises(AnnotationError, match="line 1: the label '1,2' is"):
        read_video_list(path)


@pytest.mark.parametrize(
    ('text', 'name', 'words'),
    [
        ('[\n"a",\n{"label": 1}]', 'x.json', 'x.json, line 3 has no path'),
        ('[\n"a",\n 5]', 'x.json', 'line 3 is neither an object nor'),
        ('[\n"a",\n', 'x.json', 'line 3 is not JSON'),
        ('5', 'x.json', 'line 1 does not begin an array'),
        ('{"metainfo": 1,\n"x": []}', 'x.json', 'without a data_list'),
        ('[]', 'x.json', 'lists no videos'),
        ('', 'x.json', 'lists no videos'),
        ('{"path": "a"}\n{"path": "b"\n', 'x.jsonl', 'line 2 is not JSON'),
        ('{"path": "a"}\n7\n', 'x.txt', 'line 2 is neither'),
        ('{"path": "a", "label": true}\n', 'x.jsonl', 'line 1: .label. is n'),
        ('{"path": "a\\u0000"}\n', 'x.jsonl', 'line 1 has a zero byte'),
        ('{"path": "\\ud800"}\n', 'x.jsonl', 'line 1: the path is no text'),
        ('[' * 99999, 'x.json', 'line 1 is not JSON'),
    ],
)
def test_bad_json(listing, text, name, words):
    path = listing(text, name)
    with pytest.raises(AnnotationError, match=words):
        read_video_list(path)


# ---------------------------------------------------------------- Windows


def test_separators_of_windows_are_mended(tmp_path, listing):
    (tmp_path / 'a b').mkdir()
    for name in ('a b/c.mp4', r'x\y.mp4'):
        (tmp_path / name).touch()
    path = listing('a b\\c.mp4 1\nx\\y.mp4 2\n')
    dataset = RobustVideoDataset([], path, dict(video=str(tmp_path)))
    names = [dataset.name_of(i) for i in range(2)]
    assert names == [f'{tmp_path}/a b/c.mp4', f'{tmp_path}/x\\y.mp4']
    for drive in ('C:\\x\\y.mp4', 'C:/x/y.mp4'):
        path = listing(f'a b/c.mp4 1\n{drive} 2\n')
        with pytest.raises(AnnotationError, match=r"paths of Windows, .*'C:"):
            RobustVideoDataset([], path, dict(video=str(tmp_path)))
    # What is elsewhere cannot be looked up.
    path = listing('s3://b/x.mp4 1\n')
    dataset = RobustVideoDataset([], path, dict(video=str(tmp_path)))
    assert dataset.name_of(0) == 's3://b/x.mp4'


# ---------------------------------------------------- what a user has named


def test_a_video_in_place_of_a_list_is_named(shapes_dir, tmp_path):
    video = next((shapes_dir / 'videos').rglob('*.mp4'))
    assert kind_of(str(video)) == 'video'
    with pytest.raises(AnnotationError, match='is a video, not a list'):
        read_video_list(str(video))
    text = tmp_path / 'a list'
    text.write_text('a.mp4 1\n')
    assert kind_of(str(text)) == 'list'
    text.write_bytes(b'a\0')
    assert kind_of(str(text)) == 'other'
    with pytest.raises(AnnotationError, match=re.escape('line 1 has a zero')):
        read_video_list(str(text))
