# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/data/sample_list.py`."""

import random
from collections import Counter

import numpy as np
import pytest
import sample_list as tool  # noqa: E402

from mmmotionmae.apis import UsageError
from mmmotionmae.datasets.annotation import read_video_list
from mmmotionmae.utils.errors import AnnotationError

SIZES = {0: 1, 1: 4, 2: 15, 3: 50, 7: 149, 8: 150, 9: 250}


def sample(*argv):
    tool.sample_list(tool.parse_args([str(a) for a in argv]))


@pytest.fixture
def train(tmp_path):
    """Videos of seven classes, in no order."""
    lines = [
        f'class {label}/video, {i:03}.mp4 {label}'
        for label, size in SIZES.items()
        for i in range(size)
    ]
    random.Random(0).shuffle(lines)
    path = tmp_path / 'train.txt'
    path.write_text('\n'.join(lines) + '\n')
    return path


def lines_of(path):
    return path.read_text().splitlines()


@pytest.mark.parametrize(
    'fraction,counts',
    [
        # One per cent of 149, 150 and 250 is 1.49, 1.5 and 2.5.
        (0.01, [1, 1, 1, 1, 1, 2, 3]),
        (0.1, [1, 1, 2, 5, 15, 15, 25]),
        (1, list(SIZES.values())),
    ],
)
def test_the_share_of_each_class(train, tmp_path, fraction, counts, capsys):
    out = tmp_path / 'out.txt'
    sample(train, '--fraction', fraction, '--out', out)
    labels = Counter(label for _, label in read_video_list(str(out)))
    assert [labels[label] for label in SIZES] == counts
    # Lines and their order are those of the list.
    chosen = set(lines_of(out))
    assert lines_of(out) == [x for x in lines_of(train) if x in chosen]
    total, most = sum(counts), max(counts)
    assert capsys.readouterr().out == (
        f'{out}: {total} of 619 videos ({100 * total / 619:.2f}%), '
        f'7 classes, 1 to {most} videos of each\n'
    )


def test_which_videos(train, tmp_path):
    """As a loop over the classes that keeps the smallest random numbers."""
    out = tmp_path / 'out.txt'
    sample(train, '--per-class', 5, '--seed', 3, '--out', out)
    expected = []
    for label, size in SIZES.items():
        bits = np.random.PCG64([3, label])
        values = np.random.Generator(bits).random(size)
        ranked = sorted(zip(values, range(size), strict=True))
        expected += [
            (f'class {label}/video, {i:03}.mp4', label) for _, i in ranked[:5]
        ]
    assert sorted(read_video_list(str(out))) == sorted(expected)
    assert len(expected) == 1 + 4 + 5 * 5


def test_a_seed_gives_the_same_videos_everywhere(train, tmp_path):
    """A result that other machines and versions must give, too."""
    out = tmp_path / 'out.txt'
    sample(train, '--fraction', 0.01, '--out', out)
    numbers = sorted(
        (label, int(path[-7:-4])) for path, label in read_video_list(str(out))
    )
    assert numbers == [
        *((0, 0), (1, 1), (2, 14), (3, 39), (7, 92), (8, 120), (8, 129)),
        *((9, 27), (9, 133), (9, 179)),
    ]


def test_longer_lists_include_shorter_ones(train, tmp_path):
    kept = set()
    for i, fraction in enumerate((0.01, 0.02, 0.1, 0.5, 1)):
        out = tmp_path / f'{i}.txt'
        sample(train, '--fraction', fraction, '--seed', 1, '--out', out)
        assert kept < set(lines_of(out))
        kept = set(lines_of(out))


def test_order_of_lines_and_other_classes_do_not_matter(train, tmp_path):
    sample(train, '--fraction', 0.1, '--out', tmp_path / 'a.txt')
    other = tmp_path / 'other.txt'
    sorted_lines = sorted(lines_of(train), reverse=True)
    other.write_text('\r\n'.join(x for x in sorted_lines if x[-1] != '7'))
    sample(other, '--fraction', 0.1, '--out', tmp_path / 'b.txt')
    sample(other, '--fraction', 0.1, '--seed', 1, '--out', tmp_path / 'c.txt')
    a, b, c = (lines_of(tmp_path / f'{name}.txt') for name in 'abc')
    assert {x for x in a if x[-1] != '7'} == set(b) != set(c)


def test_lines_stay_as_they_are(tmp_path):
    text = ' "a, ""b""/é\x0bx.mp4",0 \n\n  c.mp4\t1\n"d.avi",1\n'
    train = tmp_path / 'train.csv'
    train.write_bytes(b'\xef\xbb\xbf' + text.encode())
    sample(train, '--fraction', 1, '--out', tmp_path / 'out.csv')
    written = (tmp_path / 'out.csv').read_bytes()
    assert written == text.replace('\n\n', '\n').encode()


def test_lists_of_frames(tmp_path):
    train = tmp_path / 'train.txt'
    train.write_text('a 10 0\nb 20 0\nc 30 1\n')
    sample(train, '--frames', '--per-class', 1, '--out', tmp_path / 'out.txt')
    first, second = lines_of(tmp_path / 'out.txt')
    assert first in ('a 10 0', 'b 20 0') and second == 'c 30 1'
    # Without labels, the number of frames would be taken for one.
    train.write_text('a 10\nb 20\n')
    with pytest.raises(UsageError, match='no labels'):
        sample(train, '--frames', '--fraction', 1, '--out', tmp_path / 'o')


@pytest.mark.parametrize(
    'argv,message',
    [
        (['--fraction', 0], r'--fraction must be in \(0, 1\], not 0'),
        (['--fraction', 10], r'--fraction must be in \(0, 1\], not 10'),
        (['--fraction', 'nan'], '--fraction'),
        (['--per-class', 0], '--per-class must be 1 or more, not 0'),
        (['--fraction', 1, '--seed', -1], '--seed must be 0 or more, not -1'),
    ],
)
def test_usage(train, tmp_path, argv, message):
    with pytest.raises(UsageError, match=message):
        sample(train, *argv, '--out', tmp_path / 'out.txt')
    assert list(tmp_path.iterdir()) == [train]


def test_lists_that_cannot_be_drawn_from(tmp_path):
    path, out = tmp_path / 'train.txt', tmp_path / 'out.txt'
    argv = (path, '--fraction', 0.1, '--out', out)
    with pytest.raises(FileNotFoundError, match=r'train\.txt'):
        sample(*argv)
    path.write_text('a.mp4\nb.mp4\n')
    with pytest.raises(UsageError, match=r'train\.txt has no labels'):
        sample(*argv)
    path.write_text('a.mp4 1\nb.mp4\n')
    with pytest.raises(AnnotationError, match='line 2 has no label'):
        sample(*argv)
    assert not out.exists()


def test_files_are_not_overwritten(train, tmp_path):
    out = tmp_path / 'out.txt'
    out.write_text('mine')
    argv = (train, '--fraction', 1, '--out')
    with pytest.raises(UsageError, match=r'out\.txt exists .*--overwrite'):
        sample(*argv, out)
    assert out.read_text() == 'mine'
    sample(*argv, out, '--overwrite')
    assert lines_of(out) == lines_of(train)
    before = train.read_text()
    with pytest.raises(UsageError, match='is the list that is drawn from'):
        sample(*argv, train, '--overwrite')
    assert train.read_text() == before
