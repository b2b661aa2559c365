# Copyright (c) MotionMAE contributors. All rights reserved.
"""Indexes of long lists: made once, shared, and made anew."""

import copy
import json
import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from mmaction.datasets import VideoDataset
from mmengine.dataset import ClassBalancedDataset

from mmmotionmae.datasets import RobustVideoDataset
from mmmotionmae.datasets.annotation import (
    Layout,
    building,
    open_list,
    opening,
    read_rows,
)
from mmmotionmae.datasets.listed_videos import ListedVideos
from mmmotionmae.utils.errors import AnnotationError, UsageError

LINES = [f'd{i % 7}/clip é{i}.mp4 {i % 5}' for i in range(300)]


@pytest.fixture(autouse=True)
def _all_lists_are_long(monkeypatch, tmp_path):
    monkeypatch.setattr(opening, 'INDEX_FROM', 0)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture
def listed(tmp_path):
    path = tmp_path / 'lists/train.txt'
    path.parent.mkdir()
    path.write_text('\n'.join(LINES), encoding='utf-8')
    return path


@pytest.fixture
def reads(monkeypatch):
    """How often a list has been read to its end."""
    counts = []

    def counted(*args):
        counts.append(args)
        yield from building.read_batches(*args)

    monkeypatch.setattr(opening, 'read_batches', counted)
    return counts


def labels(path, **kwargs):
    return [x['label'] for x in open_list(str(path), **kwargs).entries()]


def indexes(folder):
    return sorted(p.name for p in folder.glob('.*.index'))


def test_the_index_is_used_again(listed, reads):
    first = list(open_list(str(listed), Layout()).entries())
    assert [f'{x["path"]} {x["label"]}' for x in first] == LINES
    assert len(indexes(listed.parent)) == len(reads) == 1
    assert list(open_list(str(listed), Layout()).entries()) == first
    assert len(reads) == 1
    # Another reading of the same list has an index of its own.
    several = list(open_list(str(listed), Layout(multi_class=True)).entries())
    assert [x['label'] for x in several] == [[x['label']] for x in first]
    assert len(indexes(listed.parent)) == len(reads) == 2
    assert not list(listed.parent.glob('*.tmp'))


def test_another_parser_or_name_has_another_index(listed, reads, monkeypatch):
    open_list(str(listed), Layout())
    link = listed.with_name('link.csv')
    link.symlink_to(listed)
    open_list(str(link), Layout())
    assert len(indexes(listed.parent)) == len(reads) == 2
    monkeypatch.setattr(opening, '_parser', lambda: 'a newer one')
    open_list(str(listed), Layout())
    assert len(indexes(listed.parent)) == len(reads) == 3


def test_a_list_that_has_changed_is_read_again(listed, reads):
    kwargs = dict(layout=Layout())
    assert labels(listed, **kwargs)[0] == 0
    times = listed.stat().st_atime_ns, listed.stat().st_mtime_ns
    # Of the same size and with the old time.
    listed.write_text('\n'.join([f'{LINES[0][:-1]}4', *LINES[1:]]))
    os.utime(listed, ns=times)
    assert labels(listed, **kwargs)[0] == 4 and len(reads) == 2
    os.utime(listed)  # only the time
    assert labels(listed, **kwargs)[0] == 4 and len(reads) == 2
    listed.write_text('x.mp4 1\n')
    assert labels(listed, **kwargs) == [1] and len(reads) == 3


def test_content_is_compared_only_where_times_do_not_tell(
    listed, reads, monkeypatch
):
    open_list(str(listed), Layout())
    (index,) = listed.parent.glob('.*.index')
    later = listed.stat().st_ctime_ns + 10**10
    os.utime(index, ns=(later, later))
    monkeypatch.setattr(opening, '_digest', lambda _: pytest.fail('read'))
    assert len(open_list(str(listed), Layout())) == len(LINES)
    assert len(reads) == 1


def with_head(data, **changes):
    """An index with another head of the same length."""
    begin = 16 + int.from_bytes(data[8:16], 'little')
    head = json.dumps(json.loads(data[16:begin]) | changes).encode()
    return data[:16] + head.ljust(begin - 16) + data[begin:]


@pytest.mark.parametrize(
    'damage', ['cut', 'empty', 'other', 'head', 'a number', 'a text']
)
def test_a_damaged_index_is_made_anew(listed, reads, damage):
    open_list(str(listed), Layout())
    (index,) = listed.parent.glob('.*.index')
    data = index.read_bytes()
    index.write_bytes(
        dict(
            cut=data[:-64],
            empty=b'',
            other=b'something else altogether',
            head=data[:20] + b'\0' * 40 + data[60:],
            **{
                'a number': with_head(data, columns=5),
                'a text': with_head(data, source='5'),
            },
        )[damage]
    )
    found = open_list(str(listed), Layout())
    assert found.path_of(299) == 'd5/clip é299.mp4'
    assert len(reads) == 2 and index.read_bytes() == data


def test_folders_that_cannot_be_written(listed, reads, monkeypatch, tmp_path):
    """The next place is taken, and last the memory."""
    builds = opening._build

    def refuse(*parents):
        def build(ann_file, layout, path):
            if path is not None and any(p in path.parents for p in parents):
                raise PermissionError(13, 'Permission denied')
            return builds(ann_file, layout, path)

        monkeypatch.setattr(opening, '_build', build)

    cache, temporary = tmp_path / 'cache', tmp_path / 'temporary'
    monkeypatch.setattr(opening.tempfile, 'gettempdir', lambda: str(temporary))
    for refused, place in (
        ((listed.parent,), cache),
        ((listed.parent, cache), temporary),
        ((listed.parent, cache, temporary), None),
    ):
        refuse(*refused)
        for path in tmp_path.rglob('*.index'):
            path.unlink()
        before = len(reads)
        for _ in range(2):
            found = open_list(str(listed), Layout())
            assert found.path_of(0) == 'd0/clip é0.mp4'
            assert (place is None) == (found.path == '')
            assert place is None or place in Path(found.path).parents
        assert len(reads) - before == (2 if place is None else 1)


def test_a_bad_list_leaves_nothing(listed):
    listed.write_text('a.mp4 1\nb.mp4 x\n')
    for _ in range(2):
        with pytest.raises(AnnotationError, match='line 2: the label'):
            open_list(str(listed), Layout())
    assert [p.name for p in listed.parent.iterdir()] == ['train.txt']


def test_classes_are_checked_with_an_index_too(listed):
    for _ in range(2):
        assert len(open_list(str(listed), Layout(), 5)) == len(LINES)
        with pytest.raises(AnnotationError, match='line 5 has the label 4; '):
            open_list(str(listed), Layout(), 4)
    listed.write_text('\na.mp4\n')
    with pytest.raises(AnnotationError, match='line 2 has no label; there a'):
        open_list(str(listed), Layout(), 4)


def test_many_processes_at_once(listed):
    """All get the whole list, whoever makes the index."""
    context = multiprocessing.get_context('fork')
    results = context.SimpleQueue()
    begin = context.Barrier(4)

    def run():
        begin.wait()
        results.put(sum(labels(listed, layout=Layout())))

    processes = [context.Process(target=run) for _ in range(4)]
    for process in processes:
        process.start()
    assert [results.get() for _ in processes] == [600] * 4
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(list(listed.parent.iterdir())) == 2


def test_long_and_short_forms_are_read_alike(tmp_path, monkeypatch):
    """Whole parts at once, or one line at a time."""
    simple = [f'd/{i}.mp4 {i % 9 - 1}' for i in range(40)]
    odd = ['a b.mp4 3', '"c, d.mp4",4', 'e.mp4\t5', '', '  f.mp4   6 ']
    frames = [f'd/{i} {i + 1} {i % 9}' for i in range(40)]
    monkeypatch.setattr('mmmotionmae.datasets.annotation.texts._PART', 10)
    for lines, layout in (
        (simple, Layout()),
        (simple[:17] + odd + simple[17:], Layout()),
        (frames, Layout(frames=True)),
        (['"x, y" 3 1', *frames], Layout(frames=True)),
    ):
        path = tmp_path / 'x.txt'
        path.write_text('\n'.join(lines))
        found = open_list(str(path), layout)
        rows = list(read_rows(str(path), layout))
        assert len(found) == len(rows) == sum(map(bool, lines))
        for row, entry in zip(rows, found.entries(), strict=True):
            assert entry['path'] == row.path
            assert [entry['label']] == row.labels
            total = (row.numbers or {}).get('total_frames')
            assert entry.get('total_frames') == total


# ------------------------------------------------------------ the data set


def both(listed, **kwargs):
    """Ours, and the stock data set on what it can read."""
    listed.write_text('\n'.join(f'a{i}.mp4 {i % 5}' for i in range(50)))
    args = dict(ann_file=str(listed), pipeline=[], data_prefix=dict(video='x'))
    return RobustVideoDataset(**args, **kwargs), VideoDataset(**args, **kwargs)


def infos(dataset):
    return [dataset.get_data_info(i) for i in range(len(dataset))]


@pytest.mark.parametrize('serialize', [True, False])
@pytest.mark.parametrize('indices', [None, 7, -7, [3, 1, 1, -1, 49]])
def test_parts_are_those_of_the_stock_data_set(listed, serialize, indices):
    ours, stock = both(listed, indices=indices, serialize_data=serialize)
    assert isinstance(ours.data_list, ListedVideos)
    assert infos(ours) == infos(stock)
    assert ours.get_data_info(-2) == stock.get_data_info(-2)
    for part in (3, -2, [2, 0, 2]):
        assert infos(ours.get_subset(part)) == infos(stock.get_subset(part))
    ours.get_subset_([4, 2])
    stock.get_subset_([4, 2])
    assert infos(ours) == infos(stock) and len(ours) == 2
    with pytest.raises(IndexError):
        ours.get_data_info(2)


def test_copies_share_the_index(listed):
    ours, _ = both(listed)
    listed_videos = ours.data_list.listed
    assert copy.deepcopy(ours).data_list.listed is listed_videos
    again = pickle.loads(pickle.dumps(ours))
    assert infos(again) == infos(ours)
    assert again.data_list.listed.path == listed_videos.path
    assert len(pickle.dumps(ours.data_list)) < 2000
    balanced = ClassBalancedDataset(ours, oversample_thr=0.9)
    assert len(balanced) > len(ours)
    # The process keeps what it has, others are told.
    pickled = pickle.dumps(ours)
    listed.write_text('b.mp4 0\n')
    open_list(str(listed), Layout())
    assert ours.get_data_info(49)['filename'] == 'x/a49.mp4'
    with pytest.raises(
        AnnotationError, match='has changed since this run began'
    ):
        pickle.loads(pickled)


def test_a_data_set_that_changes_data_infos(listed):
    """Lists of data infos go on being serialised."""

    class Changed(RobustVideoDataset):
        def load_data_list(self):
            return [dict(x, extra=1) for x in super().load_data_list()]

    listed.write_text('a.mp4 1\nb.mp4 2\n')
    dataset = Changed([], str(listed))
    assert dataset.serialize_data and not dataset.data_list
    assert [x['extra'] for x in infos(dataset)] == [1, 1]
    assert dataset.get_cat_ids(1) == [2]


def test_clips_need_a_pipeline_that_knows_of_them(listed):
    listed.write_text('a.mp4 1.5 2.5 1\n')
    decode = [dict(type='DecordInit'), dict(type='SampleFrames', clip_len=2)]
    with pytest.raises(UsageError, match='lists clips.*DecordInit'):
        RobustVideoDataset(decode, str(listed))


def test_columns_that_begin_late(tmp_path):
    path = tmp_path / 'x.jsonl'
    path.write_text(
        '{"path": "a"}\n{"path": "b", "start": 1.5}\n{"path": "c"}\n'
    )
    found = list(open_list(str(path), Layout()).entries())
    assert ['clip_start' in x for x in found] == [False, True, False]
    assert np.isclose(found[1]['clip_start'], 1.5)
