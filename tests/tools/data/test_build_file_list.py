# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/data/build_file_list.py`."""

import importlib.util
import os
from pathlib import Path

import cv2
import pytest
from helpers.video_files import picture

from mmmotionmae.apis import UsageError
from mmmotionmae.datasets import RobustVideoDataset
from mmmotionmae.datasets.annotation import find_videos, read_video_list

TOOL = Path(__file__).parents[3] / 'tools/data/build_file_list.py'


def load_tool():
    spec = importlib.util.spec_from_file_location('build_tool', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = load_tool()


def build(*argv):
    BUILD.build(BUILD.parse_args([str(a) for a in argv]))


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.fixture
def videos(tmp_path):
    """Twenty videos of one class, two of another and a single one."""
    return touch(
        tmp_path / 'videos',
        *[f'run/{i:02}.mp4' for i in range(20)],
        *['air drums, 2/a b, 7.mkv', 'air drums, 2/é;#.avi'],
        'zoo/deep/er/x.MP4',
        'zoo/notes.txt',
    )


def read(folder, name):
    return read_video_list(str(folder / f'{name}.txt'))


def test_labelled_lists(videos, tmp_path, capsys):
    out = tmp_path / 'lists'
    build(videos, out, '--val-share', '.2')
    classes = (out / 'classes.txt').read_text().splitlines()
    assert classes == ['air drums, 2', 'run', 'zoo']
    train, val = read(out, 'train'), read(out, 'val')
    expected = [
        (p, classes.index(p.split('/')[0])) for p in find_videos(videos)
    ]
    assert len(expected) == 23 and sorted(train + val) == expected
    assert train == sorted(train) and val == sorted(val)
    assert [
        [label for _, label in part].count(i)
        for part in (train, val)
        for i in range(3)
    ] == [1, 16, 1, 1, 4, 0]
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        f'{out}/train.txt: 18 videos',
        f'{out}/val.txt: 5 videos',
        f'{out}/classes.txt: 3 classes',
        "passed over, other files: 1: 'zoo/notes.txt' (1 .txt)",
    ]
    dataset = RobustVideoDataset(
        [], str(out / 'train.txt'), dict(video=str(videos))
    )
    names = [dataset.name_of(i) for i in range(len(dataset))]
    assert names == [str(videos / path) for path, _ in train]
    assert all(os.path.isfile(name) for name in names)
    assert [dataset[i]['label'] for i in range(18)] == [n for _, n in train]


def test_the_split_is_the_seeds(videos, tmp_path):
    for name, *argv in (('a',), ('b',), ('c', '--seed', 1)):
        build(videos, tmp_path / name, *argv)
    a, b, c = (read(tmp_path / name, 'val') for name in 'abc')
    assert a == b != c and len(a) == len(c) == 3  # a tenth, at least one
    # What becomes of a class does not depend on the others.
    touch(videos, 'also/1.mp4', 'also/2.mp4')
    build(videos, tmp_path / 'd')
    d = read(tmp_path / 'd', 'val')
    assert [p for p, _ in d if not p.startswith('also/')] == [p for p, _ in a]


@pytest.mark.parametrize('share,expected', [(0.01, 1), (0.5, 10), (0.99, 19)])
def test_both_sides_keep_one_of_each_class(videos, tmp_path, share, expected):
    build(videos, tmp_path / 'a', '--val-share', share)
    val = [label for _, label in read(tmp_path / 'a', 'val')]
    assert [val.count(label) for label in range(3)] == [1, expected, 0]


def test_unlabelled_lists(videos, tmp_path, capsys):
    touch(videos, 'top.mp4')
    out = tmp_path / 'lists'
    build(videos, out, '--unlabelled')
    assert read(out, 'train') == [(p, -1) for p in find_videos(videos)]
    assert [p.name for p in out.iterdir()] == ['train.txt']
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f'{out}/train.txt: 24 videos'
    assert printed[1].startswith('passed over, other files: 1: ')
    build(videos, out, '--unlabelled', '--val-share', '.25', '--overwrite')
    train, val = read(out, 'train'), read(out, 'val')
    assert (len(train), len(val)) == (18, 6)
    assert sorted(train + val) == [(p, -1) for p in find_videos(videos)]


def test_order_of_the_classes(videos, tmp_path, capsys):
    file = tmp_path / 'names.txt'
    file.write_text('\ufeffzoo\r\nnone yet\r\n\r\nrun\r\nair drums, 2\r\n')
    build(videos, tmp_path / 'a', '--classes', file, '--val-share', '0')
    labels = {p.split('/')[0]: n for p, n in read(tmp_path / 'a', 'train')}
    assert labels == {'zoo': 0, 'run': 2, 'air drums, 2': 3}
    assert (tmp_path / 'a/classes.txt').read_text().split('\n') == [
        *['zoo', 'none yet', 'run', 'air drums, 2', '']
    ]
    assert not (tmp_path / 'a/val.txt').exists()
    assert 'without videos: none yet\n' in capsys.readouterr().out
    file.write_text('zoo\nrun\n')
    with pytest.raises(UsageError, match=r"lacks 1 of the 3 .*'air drums, 2'"):
        build(videos, tmp_path / 'b', '--classes', file)
    file.write_text('zoo\nrun\nzoo\n')
    with pytest.raises(UsageError, match="has 'zoo' twice"):
        build(videos, tmp_path / 'b', '--classes', file)
    with pytest.raises(FileNotFoundError, match='no-file'):
        build(videos, tmp_path / 'b', '--classes', 'no-file')
    assert not (tmp_path / 'b').exists()


def test_litter_makes_no_classes(videos, tmp_path, capsys):
    """And a class without videos that can be read shifts no labels."""
    touch(
        videos,
        '.ipynb_checkpoints/x.mp4',
        '__MACOSX/run/._00.mp4',
        'run/._00.mp4',
        'run/Thumbs.db',
        'dance/1.xyz',
        *[f'run/{i}.srt' for i in range(30)],
    )
    out = tmp_path / 'lists'
    build(videos, out, '--val-share', 0)
    assert (out / 'classes.txt').read_text().split('\n') == [
        *['air drums, 2', 'dance', 'run', 'zoo', '']
    ]
    labels = {path.split('/')[0]: label for path, label in read(out, 'train')}
    assert labels == {'air drums, 2': 0, 'run': 2, 'zoo': 3}
    assert len(read(out, 'train')) == 23
    printed = capsys.readouterr().out.splitlines()
    assert printed[2:] == [
        'without videos: dance',
        "passed over, hidden or left over: 4: '.ipynb_checkpoints/', "
        "'__MACOSX/', 'run/._00.mp4', 'run/Thumbs.db'",
        printed[4],
        f'{out}/passed_over.txt: all 36 of them',
    ]
    start = "passed over, other files: 32: 'dance/1.xyz', 'run/0.srt', "
    assert printed[4].startswith(start)
    assert printed[4].endswith('and 22 more (30 .srt, 1 .xyz, 1 .txt)')
    named = (out / 'passed_over.txt').read_text().splitlines()
    assert len(named) == 36 and 'run/29.srt' in named
    # Extensions that were once not known.
    touch(videos, 'dance/1.MTS', 'dance/2.m2ts')
    build(videos, out, '--val-share', 0, '--overwrite')
    assert [x for x in read(out, 'train') if x[1] == 1] == [
        ('dance/1.MTS', 1),
        ('dance/2.m2ts', 1),
    ]
    build(videos / 'zoo', tmp_path / 'zoo', '--unlabelled')
    assert not (tmp_path / 'zoo/passed_over.txt').exists()


def test_videos_without_a_class(videos, tmp_path):
    touch(videos, 'b.mp4', 'c.mp4')
    with pytest.raises(UsageError, match=r"'b.mp4' and 1 more .*--unlabelled"):
        build(videos, tmp_path / 'lists')
    assert not (tmp_path / 'lists').exists()


@pytest.mark.parametrize(
    'name', ['a/x\ny.mp4', ' a/x.mp4', 'a/x\udcff.mp4', 'a/\rx.mp4']
)
def test_names_that_fit_in_no_list(videos, tmp_path, name):
    touch(videos, name)
    with pytest.raises(UsageError) as error:
        build(videos, tmp_path / 'lists', '--val-share', 0)
    assert repr(name) in str(error.value) and 'rename' in str(error.value)
    assert list((tmp_path / 'lists').iterdir()) == []


def test_quotes_at_the_start(tmp_path):
    videos = touch(tmp_path / 'videos', '"a" b/x, 1.mp4', '"a" b/"y".mp4')
    for i, argv in enumerate([[], ['--unlabelled']]):
        build(videos, tmp_path / f'{i}', '--val-share', 0, *argv)
        assert read(tmp_path / f'{i}', 'train') == [
            ('"a" b/"y".mp4', -i),
            ('"a" b/x, 1.mp4', -i),
        ]


def test_lists_are_not_overwritten(videos, tmp_path):
    (tmp_path / 'val.txt').write_text('mine')
    with pytest.raises(UsageError, match=r'val.txt.*--overwrite'):
        build(videos, tmp_path, '--unlabelled')
    assert (tmp_path / 'val.txt').read_text() == 'mine'
    assert not (tmp_path / 'train.txt').exists()
    build(videos, tmp_path, '--unlabelled', '--overwrite')
    assert not (tmp_path / 'val.txt').exists()  # or it would be a stale one


@pytest.mark.parametrize(
    'argv,message',
    [
        (['--val-share', '1'], r'--val-share must be in \[0, 1\), not 1'),
        (['--val-share', 'nan'], '--val-share'),
        (['--unlabelled', '--classes', 'x'], '--classes makes no sense'),
    ],
)
def test_build_usage(videos, tmp_path, argv, message):
    with pytest.raises(UsageError, match=message):
        build(videos, tmp_path / 'lists', *argv)


@pytest.fixture
def frame_folders(tmp_path):
    root = tmp_path / 'frames'
    for name, numbers in {'a/x 9': (1, 2, 3), 'b/y': (1, 2)}.items():
        (root / name).mkdir(parents=True)
        for i in numbers:
            image = str(root / name / f'img_{i:05}.jpg')
            assert cv2.imwrite(image, picture(i, (32, 24)))
    return root


def test_lists_of_frames(frame_folders, tmp_path, capsys):
    build(frame_folders, tmp_path, '--frames', '--val-share', 0)
    text = (tmp_path / 'train.txt').read_text()
    assert text == '"a/x 9" 3 0\nb/y 2 1\n'
    naming = "filename_tmpl='img_{:05}.jpg', start_index=1"
    assert f"'a/x 9' needs {naming}\n" in capsys.readouterr().out
    pipeline = [
        dict(type='VideoInit'),
        dict(type='UniformSample', clip_len=2, test_mode=True),
        dict(type='VideoDecode'),
    ]
    dataset = RobustVideoDataset(
        pipeline, str(tmp_path / 'train.txt'), dict(img=str(frame_folders))
    )
    assert [dataset[i]['label'] for i in range(2)] == [0, 1]
    assert dataset[0]['total_frames'] == 3
    (frame_folders / 'b/y/img_00001.jpg').rename(frame_folders / 'b/y/9.png')
    argv = ['--frames', '--unlabelled', '--overwrite']
    build(frame_folders, tmp_path, *argv)
    text = (tmp_path / 'train.txt').read_text()
    assert text == '"a/x 9" 3 -1\nb/y 2 -1\n'
    assert "'b/y' lacks images" in capsys.readouterr().out
