# Copyright (c) MotionMAE contributors. All rights reserved.
"""Masks in files: scores, reports and `tools/analysis/evaluate_davis.py`."""

import importlib.util
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mmmotionmae.apis import UsageError
from mmmotionmae.datasets.sequences import write_mask
from mmmotionmae.evaluation import score_davis
from mmmotionmae.evaluation.davis_report import (
    format_table,
    list_oddities,
    write_report,
)
from mmmotionmae.evaluation.davis_scoring import (
    MEASURES,
    SequenceScores,
    resize_nearest,
    summarize,
)
from mmmotionmae.evaluation.functional.davis import ObjectScores
from mmmotionmae.utils.errors import ScoringError

TOOL = Path(__file__).parents[2] / 'tools/analysis/evaluate_davis.py'


def load_tool():
    spec = importlib.util.spec_from_file_location('evaluate_davis', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


EVALUATE = load_tool()


def evaluate(*argv):
    EVALUATE.evaluate(EVALUATE.parse_args([str(a) for a in argv]))


def write_sequence(root, name, gt, masks):
    """A sequence of a data set below `root`, and results in `root/masks`."""
    for t, (one, other) in enumerate(zip(gt, masks, strict=True)):
        frame = root / f'JPEGImages/480p/{name}/{t:05d}.jpg'
        frame.parent.mkdir(parents=True, exist_ok=True)
        frame.touch()
        write_mask(root / f'Annotations/480p/{name}/{t:05d}.png', one)
        write_mask(root / f'masks/{name}/{t:05d}.png', other)
    lists = root / 'ImageSets/2017'
    lists.mkdir(parents=True, exist_ok=True)
    with open(lists / 'val.txt', 'a', encoding='utf-8') as file:
        file.write(f'{name}\n')


def moving_squares(num_frames, num_objects, shift=0, size=(40, 60)):
    """Squares of 8x8 that move one pixel right with each frame."""
    masks = np.zeros((num_frames, *size), dtype=np.uint8)
    for t in range(num_frames):
        for number in range(1, num_objects + 1):
            left = 2 + t + shift
            masks[t, 9 * number : 9 * number + 8, left : left + 8] = number
    return masks


@pytest.fixture
def davis(tmp_path):
    """Two sequences: one object, shifted by 2 pixels; two, exact."""
    write_sequence(
        tmp_path, 'a', moving_squares(5, 1), moving_squares(5, 1, shift=2)
    )
    masks = moving_squares(6, 2)
    write_sequence(tmp_path, 'b/c', masks, masks)
    return tmp_path


# Squares of 8x8 that are shifted by 2 have 6x8 pixels in common.
SHIFTED_J = 48 / 80


def test_scores(davis):
    scores = score_davis(davis / 'masks', davis)
    assert [item.sequence for item in scores] == ['a', 'b/c']
    assert [item.frames for item in scores] == [
        ['00001', '00002', '00003'],
        ['00001', '00002', '00003', '00004'],
    ]
    assert [len(item.objects) for item in scores] == [1, 2]
    assert scores[0].objects[0].region.tolist() == [SHIFTED_J] * 3
    assert len({*scores[0].objects[0].boundary}) == 1
    for item in scores[1].objects:
        assert item.region.tolist() == item.boundary.tolist() == [1] * 4
    metrics = summarize(scores)
    f = scores[0].objects[0].boundary[0]
    assert 0 < f < 1
    assert metrics == pytest.approx(
        {
            'J-Mean': (SHIFTED_J + 2) / 3,
            'F-Mean': (f + 2) / 3,
            'J&F-Mean': (SHIFTED_J + f + 4) / 6,
            'J-Recall': 1,
            'F-Recall': 1,
            'J-Decay': 0,
            'F-Decay': 0,
            'num_objects': 3,
            'num_sequences': 2,
        }
    )


def test_first_and_last_frame_are_not_read(davis):
    expected = summarize(score_davis(davis / 'masks', davis))
    (davis / 'masks/a/00000.png').unlink()
    (davis / 'masks/a/00004.png').unlink()
    assert summarize(score_davis(davis / 'masks', davis)) == expected


@pytest.mark.parametrize(
    ('name', 'num_workers'), [('davis_tiny', 2), ('davis_multi', 0)]
)
def test_real_data_as_the_official_program(shared_data, name, num_workers):
    root = shared_data / name
    with open(root / 'expected_osvos_metrics.json') as file:
        expected = json.load(file)
    scores = score_davis(root / 'osvos_results', root, num_workers=num_workers)
    found = {
        f'{item.sequence}_{number}': scored.statistics()
        for item in scores
        for number, scored in enumerate(item.objects, 1)
    }
    assert set(found) == set(expected['per_object'])
    for key, values in expected['per_object'].items():
        assert found[key][0] == pytest.approx(values['J'], abs=1e-6), key
        assert found[key][1] == pytest.approx(values['F'], abs=1e-6), key
    metrics = summarize(scores)
    for key, value in expected['global'].items():
        assert metrics[key] == pytest.approx(value, abs=1e-6), key
    assert metrics['num_objects'] == len(expected['per_object'])


def test_objects_that_are_odd(tmp_path):
    """A hole in the ids, a late object, void, and values without object."""
    gt = moving_squares(5, 3)
    gt[gt == 2] = 0
    masks = gt.copy()
    gt[2:, :4, :4] = 4  # comes late
    gt[:, -3:, :3] = 255
    masks[3, :4, :4] = 7
    masks[1, -3:, :3] = 2
    write_sequence(tmp_path, 'odd', gt, masks)
    write_sequence(tmp_path, 'short', gt[:2], masks[:2])
    write_sequence(tmp_path, 'none', 0 * gt, 0 * gt)
    scores = score_davis(tmp_path / 'masks', tmp_path)
    odd, short, none = scores
    assert [item.region.tolist() for item in odd.objects] == [
        [1, 1, 1],
        [0, 1, 1],  # never there, seen in one frame
        [1, 1, 1],
    ]
    assert odd.ignored_ids == [7]
    assert len(short.objects) == 3 and short.frames == []
    assert none.objects == []
    assert summarize(scores) == summarize([odd])
    assert summarize(scores)['num_objects'] == 3
    assert summarize(scores)['num_sequences'] == 1
    oddities = '\n'.join(list_oddities(scores))
    assert 'short is in no mean' in oddities
    assert 'none is in no mean' in oddities
    assert 'odd [7]' in oddities
    assert 'odd is' not in oddities
    assert list_oddities([odd])[0].count('\n') == 0


def test_nothing_at_all_is_scored(tmp_path):
    gt = moving_squares(2, 1)
    write_sequence(tmp_path, 'short', gt, gt)
    scores = score_davis(tmp_path / 'masks', tmp_path)
    metrics = summarize(scores)
    assert all(math.isnan(metrics[name]) for name in MEASURES)
    assert metrics['num_objects'] == metrics['num_sequences'] == 0
    assert format_table(scores).count(' -') == 2 * len(MEASURES)
    write_report(scores, tmp_path)
    text = (tmp_path / 'per-sequence_results-val.csv').read_text()
    assert text == 'Sequence,J-Mean,F-Mean\nshort_1,,\n'
    document = json.loads((tmp_path / 'results.json').read_text())
    assert document['metrics']['J-Mean'] is None


def test_davis_2016(tmp_path):
    """255 is the object, in ground truth and masks; or 1 in the latter."""
    gt = moving_squares(5, 1)
    write_sequence(tmp_path, 'a', gt, gt)
    for t, mask in enumerate(gt):
        path = tmp_path / f'Annotations/480p/a/{t:05d}.png'
        Image.fromarray(255 * mask).save(path)
    path = tmp_path / 'masks/a/00002.png'
    Image.fromarray(255 * gt[2]).save(path)
    (scores,) = score_davis(tmp_path / 'masks', tmp_path)
    assert [item.region.tolist() for item in scores.objects] == [[1, 1, 1]]


def rewrite(folder, mode='L', value=255):
    """Mark in all masks of a folder whatever is an object with a value."""
    for path in folder.glob('*.png'):
        marked = np.array(Image.open(path)) > 0
        picture = Image.fromarray(value * marked.astype(np.uint8))
        if mode == 'P':
            picture.putpalette([0] * 765 + [255] * 3)
        picture.convert(mode).save(path)


@pytest.mark.parametrize('mode', ['L', 'P', 'RGB', 'LA', '1'])
@pytest.mark.parametrize('num_objects', [1, 2])
def test_results_of_255(tmp_path, capsys, num_objects, mode):
    """One object, or several that are drawn as one, and ids as the truth."""
    gt = moving_squares(5, num_objects)
    write_sequence(tmp_path, 'a', gt, gt)
    rewrite(tmp_path / 'masks/a', mode)
    if mode == '1':  # whose values are 0 and 1
        (scores,) = score_davis(tmp_path / 'masks', tmp_path)
        assert not scores.empty and scores.ignored_ids == []
    else:
        with pytest.raises(UsageError, match='only 255.*: --binary') as error:
            evaluate(tmp_path / 'masks', tmp_path)
        assert str(error.value).count('\n') == 0
    evaluate(tmp_path / 'masks', tmp_path, '--binary')
    assert capsys.readouterr().err == ''
    (scores,) = score_davis(tmp_path / 'masks', tmp_path, binary=True)
    assert [item.region.tolist() for item in scores.objects] == [[1, 1, 1]]
    assert [item.boundary.tolist() for item in scores.objects] == [[1, 1, 1]]


def test_ground_truth_of_255_in_a_palette(tmp_path):
    """Which the dataset cannot tell from void."""
    gt = moving_squares(5, 1)
    write_sequence(tmp_path, 'a', gt, gt)
    rewrite(tmp_path / 'Annotations/480p/a', 'P')
    with pytest.raises(ScoringError, match=r'a/00000\.png: there are no obj'):
        score_davis(tmp_path / 'masks', tmp_path)
    (scores,) = score_davis(tmp_path / 'masks', tmp_path, binary=True)
    assert [item.region.tolist() for item in scores.objects] == [[1, 1, 1]]


def test_void_beside_several_objects_that_are_scored_as_one(tmp_path):
    gt = moving_squares(5, 2)
    write_sequence(tmp_path, 'a', gt, gt)
    rewrite(tmp_path / 'masks/a')
    gt[:, :4, :4] = 255
    for t, mask in enumerate(gt):
        write_mask(tmp_path / f'Annotations/480p/a/{t:05d}.png', mask)
    (scores,) = score_davis(tmp_path / 'masks', tmp_path, binary=True)
    assert [item.region.tolist() for item in scores.objects] == [[1, 1, 1]]


def test_what_is_no_object_is_told(tmp_path, capsys):
    """Values that are none, 255 among others, and masks without any."""
    gt = moving_squares(5, 1)
    write_sequence(tmp_path, 'grey', gt, 76 * gt)  # of a red mask
    some = gt.copy()
    some[1, :4, :4] = 255
    write_sequence(tmp_path, 'some', gt, some)
    write_sequence(tmp_path, 'empty', gt, 0 * gt)
    alone = gt.copy()
    alone[1:] = 0
    write_sequence(tmp_path, 'alone', alone, gt)
    evaluate(tmp_path / 'masks', tmp_path)
    printed = capsys.readouterr().err
    assert 'alone: after the first frame the ground truth is empty' in printed
    assert printed.count('empty') == 3
    assert 'grey [76], some [255]' in printed
    assert 'empty: no mask has an object, all are empty' in printed
    grey, one, empty, alone = score_davis(tmp_path / 'masks', tmp_path)
    assert grey.objects[0].region.tolist() == [0, 0, 0]
    assert one.objects[0].region.tolist() == [1, 1, 1]
    assert (grey.empty, one.empty, empty.empty) == (False, False, True)
    assert alone.gt_empty and not alone.empty and not empty.gt_empty


@pytest.mark.parametrize('num_workers', [0, 2])
class TestErrors:
    def message(self, davis, num_workers):
        with pytest.raises(ScoringError) as caught:
            score_davis(davis / 'masks', davis, num_workers=num_workers)
        return str(caught.value)

    def test_missing_result(self, davis, num_workers):
        path = davis / 'masks/b/c/00002.png'
        path.unlink()
        message = self.message(davis, num_workers)
        assert message.startswith('b/c cannot be scored') and str(path) in (
            message
        )

    def test_missing_ground_truth(self, davis, num_workers):
        path = davis / 'Annotations/480p/a/00003.png'
        path.unlink()
        message = self.message(davis, num_workers)
        assert message.startswith('a cannot be scored')
        assert str(path) in message and 'format_only' in message

    def test_another_size(self, davis, num_workers):
        path = davis / 'masks/a/00001.png'
        write_mask(path, np.zeros((20, 30), dtype=np.uint8))
        message = self.message(davis, num_workers)
        assert f'{path} is 30x20' in message
        gt = davis / 'Annotations/480p/a/00000.png'
        assert f'{gt} is 60x40' in message


def test_the_last_frame_needs_no_ground_truth(davis):
    expected = summarize(score_davis(davis / 'masks', davis))
    (davis / 'Annotations/480p/a/00004.png').unlink()
    assert summarize(score_davis(davis / 'masks', davis)) == expected


@pytest.mark.parametrize(
    'size', [(480, 880), (480, 854), (7, 13), (1, 1), (479, 855), (960, 1708)]
)
def test_nearest_is_that_of_opencv(size):
    mask = np.random.default_rng(0).integers(0, 9, (480, 854), dtype=np.uint8)
    expected = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST)
    assert (resize_nearest(mask, size) == expected).all()


def test_scores_at_another_size(davis, tmp_path_factory):
    """As if the files were of that size."""
    other = tmp_path_factory.mktemp('resized')
    for name, num_objects, num_frames, shift in (
        ('a', 1, 5, 2),
        ('b', 2, 6, 0),
    ):
        gt = moving_squares(num_frames, num_objects)
        masks = moving_squares(num_frames, num_objects, shift)
        write_sequence(
            other,
            name,
            *(
                [
                    cv2.resize(m, (97, 71), interpolation=cv2.INTER_NEAREST)
                    for m in x
                ]
                for x in (gt, masks)
            ),
        )
    expected = summarize(score_davis(other / 'masks', other))
    found = score_davis(davis / 'masks', davis, resize=(71, 97))
    assert summarize(found) == expected
    assert expected != summarize(score_davis(davis / 'masks', davis))


# ------------------------------------------------------------------ report


SCORES = [
    SequenceScores(
        'cat',
        ['1', '2', '3', '4'],
        [
            ObjectScores(
                np.array([0.25, 0.5, 0.75, 1.0]),
                np.array([0.1, 0.2, 0.3, 0.4]),
            ),
            ObjectScores(np.ones(4), np.ones(4)),
        ],
        [],
    ),
    SequenceScores(
        'dog, black',
        ['x'],
        [ObjectScores(np.array([0.12349]), np.array([0.5]))],
        [9],
    ),
]


def test_csv_files(tmp_path):
    """The bytes that pandas writes in the official program."""
    write_report(SCORES, tmp_path / 'new', split='mine')
    # Of four frames, the first quarter are frames 1 and 2, the last 3 and 4.
    text = (tmp_path / 'new/global_results-mine.csv').read_text()
    assert text == (
        'J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay\n'
        '0.583,0.583,0.500,-0.167,0.583,0.333,-0.067\n'
    )
    text = (tmp_path / 'new/per-sequence_results-mine.csv').read_text()
    assert text == (
        'Sequence,J-Mean,F-Mean\n'
        'cat_1,0.625,0.250\n'
        'cat_2,1.000,1.000\n'
        '"dog, black_1",0.123,0.500\n'
    )


def test_json_file(tmp_path):
    write_report(SCORES, tmp_path, resize=(480, 880))
    document = json.loads((tmp_path / 'results.json').read_text())
    assert document['split'] == 'val'
    assert document['resize'] == [480, 880]
    assert document['metrics'] == summarize(SCORES)
    cat, dog = document['sequences']
    assert (cat['sequence'], cat['frames']) == ('cat', ['1', '2', '3', '4'])
    assert cat['metrics']['J-Mean'] == 0.8125
    assert cat['metrics']['num_objects'] == 2
    assert cat['objects'][0] == dict(
        id=1,
        J=dict(
            mean=0.625, recall=0.5, decay=-0.5, per_frame=[0.25, 0.5, 0.75, 1]
        ),
        F=dict(
            mean=pytest.approx(0.25),
            recall=0,
            decay=pytest.approx(-0.2),
            per_frame=[0.1, 0.2, 0.3, 0.4],
        ),
    )
    assert dog['ignored_ids'] == [9]
    assert dog['objects'][0]['J']['mean'] == 0.12349


def test_table():
    header, _, cat, other, dog, _, total = format_table(SCORES).split('\n')
    assert header.split() == list(MEASURES)
    assert cat.split() == ('cat_1 43.8 62.5 50.0 -50.0 25.0 0.0 -20.0'.split())
    assert other.split()[1:] == ['100.0'] * 3 + ['0.0'] + ['100.0'] * 2 + [
        '0.0'
    ]
    assert dog.startswith('dog, black_1 ')
    assert total.split()[:4] == ['3', 'objects,', '2', 'sequences']
    assert total.split()[4:] == '58.3 58.3 50.0 -16.7 58.3 33.3 -6.7'.split()
    assert len({len(line) for line in format_table(SCORES).split('\n')}) == 1


# -------------------------------------------------------------------- tool


def test_tool(davis, capsys, tmp_path):
    out = tmp_path / 'out'
    evaluate(davis / 'masks', davis, '--num-workers', 2, '--out-dir', out)
    scores = score_davis(davis / 'masks', davis)
    printed = capsys.readouterr()
    assert printed.out.strip('\n') == format_table(scores).strip('\n')
    assert printed.err == ''
    document = json.loads((out / 'results.json').read_text())
    assert document['metrics'] == summarize(scores)
    assert sorted(path.name for path in out.iterdir()) == [
        'global_results-val.csv',
        'per-sequence_results-val.csv',
        'results.json',
    ]
    with pytest.raises(UsageError, match='exists already'):
        evaluate(davis / 'masks', davis, '--out-dir', out)
    evaluate(davis / 'masks', davis)  # the table alone


def test_tool_at_another_size(davis, capsys):
    evaluate(davis / 'masks', davis, '--resize', 71, 97)
    scores = score_davis(davis / 'masks', davis, resize=(71, 97))
    assert capsys.readouterr().out == f'{format_table(scores)}\n'


def test_tool_says_what_is_odd(davis, capsys):
    mask = moving_squares(1, 1)[0]
    mask[0, 0] = 8
    write_mask(davis / 'masks/a/00002.png', mask)
    evaluate(davis / 'masks', davis)
    assert 'a [8]' in capsys.readouterr().err


def test_tool_errors(davis):
    with pytest.raises(FileNotFoundError, match='no folder .*nowhere'):
        evaluate(davis / 'nowhere', davis)
    with pytest.raises(FileNotFoundError, match='test.txt is missing'):
        evaluate(davis / 'masks', davis, '--split', 'test')
    (davis / 'masks/a/00002.png').write_bytes(b'no')
    with pytest.raises(UsageError, match='a cannot be scored.*00002.png'):
        evaluate(davis / 'masks', davis, '--num-workers', 0)
