# Copyright (c) MotionMAE contributors. All rights reserved.
"""Classifiers of features: against loops, scikit-learn and DINO's code.

A clone of https://github.com/facebookresearch/dino is named by the
environment variable ``DINO_CHECKOUT``.
"""

import copy
import importlib
import json
import math
import os
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score
from sklearn.model_selection import StratifiedKFold

from mmmotionmae.apis import UsageError
from mmmotionmae.apis.features import Features, evaluate_features
from mmmotionmae.apis.features.evaluation import format_report
from mmmotionmae.evaluation.functional.accuracy import (
    describe_accuracy,
    top_k_hits,
)
from mmmotionmae.evaluation.functional.knn import knn_scores
from mmmotionmae.evaluation.functional.linear_probe import linear_probe

DINO_CHECKOUT = os.environ.get('DINO_CHECKOUT')
FEW = dict(strengths=(0.001, 0.01, 0.1))
CARD = dict(
    fingerprint=dict(
        weights='a' * 64,
        encoder=dict(num_heads=2),
        features=dict(block=3, pooling='mean', views='mean'),
        clips=dict(num_frames=16, num_clips=1, num_crops=1),
        videos=dict(number=0, sha256='x'),
    ),
    checkpoint=dict(path='a.pth', sha256=None),
    seed=None,
)


def draw(number, seed=0, num_classes=7, width=12, spread=1.2):
    """Features around the centres of classes, and labels."""
    centres = np.random.default_rng(99).normal(size=(num_classes, width))
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(number) % num_classes)
    noise = spread * rng.normal(size=(number, width))
    return (centres[labels] + noise).astype(np.float32), labels


def as_features(values, labels, number=0, **card):
    """With a card, parts of it replaced."""
    new = copy.deepcopy(CARD)
    new['fingerprint']['videos']['sha256'] = f'list {number}'
    for name, changes in card.items():
        if isinstance(changes, dict):
            new['fingerprint'][name] |= changes
        else:
            new['fingerprint'][name] = changes
    names = [f'{number}/{i}.mp4' for i in range(len(values))]
    return Features(values, names, labels, new)


@pytest.fixture
def pair():
    train, test = draw(60), draw(45, seed=1)
    return as_features(*train), as_features(*test, number=1)


def rows_of(report, method):
    return [r for r in report['results'] if r['method'] == method]


# Nearest neighbours


def vote(train, labels, test, k, num_classes, temperature, skip=None):
    """One test feature after the other, one neighbour after the other."""
    scores = np.zeros((len(test), num_classes))
    for i, feature in enumerate(test.astype(np.float64)):
        similar = []
        for j, other in enumerate(train.astype(np.float64)):
            if skip is None or i != j:
                product = sum(
                    a * b for a, b in zip(feature, other, strict=True)
                )
                length = math.hypot(*feature) * math.hypot(*other)
                similar.append((product / length, labels[j]))
        for similarity, label in sorted(similar, reverse=True)[:k]:
            scores[i, label] += math.exp(similarity / temperature)
    return scores


@pytest.mark.parametrize('temperature', [0.07, 0.5])
def test_votes_are_those_of_a_loop(temperature):
    (train, labels), (test, _) = draw(40), draw(15, seed=1)
    scores = knn_scores(train, labels, test, (5, 1, 40), 8, temperature)
    assert list(scores) == [5, 1, 40]
    for k, votes in scores.items():
        np.testing.assert_allclose(
            votes, vote(train, labels, test, k, 8, temperature), rtol=1e-4
        )
    assert (scores[1] > 0).sum() == 15


def test_votes_of_all_others_are_those_of_a_loop():
    train, labels = draw(30)
    scores = knn_scores(train, labels, None, (1, 29), 7)
    for k, votes in scores.items():
        want = vote(train, labels, train, k, 7, 0.07, skip=True)
        np.testing.assert_allclose(votes, want, rtol=1e-4)


def test_length_of_features_does_not_matter():
    (train, labels), (test, _) = draw(40), draw(15, seed=1)
    lengths = np.linspace(0.01, 100, 40, dtype=np.float32)[:, None]
    want = knn_scores(train, labels, test, (10,), 7)[10]
    got = knn_scores(train * lengths, labels, 3 * test, (10,), 7)[10]
    np.testing.assert_allclose(got, want, rtol=1e-4)


@pytest.mark.skipif(not DINO_CHECKOUT, reason='DINO_CHECKOUT is not set')
@pytest.mark.parametrize('spread', [0.7, 1.2, 2.5])
def test_dino(spread, monkeypatch):
    before = dict(sys.modules)
    for name, attributes in {
        'torchvision': dict(datasets=None, transforms=None, models=None),
        'torchvision.datasets': dict(ImageFolder=object),
        'torchvision.transforms': {},
        'torchvision.models': {},
    }.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    modules = sys.modules
    for part in ('datasets', 'transforms', 'models'):
        setattr(modules['torchvision'], part, modules[f'torchvision.{part}'])
    monkeypatch.syspath_prepend(DINO_CHECKOUT)
    official = importlib.import_module('eval_knn')
    for name in set(sys.modules) - set(before):
        del sys.modules[name]

    train, labels = draw(1000, spread=spread, num_classes=20)
    test, wanted = draw(300, seed=1, spread=spread, num_classes=20)
    report = evaluate_features(
        as_features(train, labels),
        as_features(test, wanted, 1),
        methods=['knn'],
    )
    normal = [
        torch.nn.functional.normalize(torch.from_numpy(x), dim=1)
        for x in (train, test)
    ]
    for row in report['results']:
        top1, top5 = official.knn_classifier(
            normal[0],
            torch.from_numpy(labels),
            normal[1],
            torch.from_numpy(wanted),
            row['neighbours'],
            0.07,
            20,
        )
        assert 100 * row['top1'] == pytest.approx(top1)
        if row['neighbours'] >= 100:  # all classes have votes, nearly always
            assert 100 * row['top5'] == pytest.approx(top5, abs=0.5)
    assert [row['neighbours'] for row in report['results']] == [
        *(10, 20, 100, 200)
    ]


# Accuracies


def test_accuracies_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.integers(8, size=200)
    labels[labels == 3] = 4  # a class without test videos
    scores = rng.random((200, 8))
    scores[np.arange(200), labels] += 0.4
    result = describe_accuracy(scores, labels)
    for k in (1, 5):
        want = top_k_accuracy_score(labels, scores, k=k, labels=range(8))
        assert result[f'top{k}'] == pytest.approx(want)
        # Wilson's interval as the roots of (p - x)^2 = z^2 x (1 - x) / n.
        z2 = 1.959963984540054**2 / 200
        roots = np.roots([1 + z2, -2 * want - z2, want * want]).real
        ends = [result[f'top{k}_low'], result[f'top{k}_high']]
        assert ends == pytest.approx(sorted(roots))
    with np.testing.suppress_warnings() as ignored:
        ignored.filter(UserWarning)
        balanced = balanced_accuracy_score(labels, scores.argmax(1))
    assert result['mean_class'] == pytest.approx(balanced)
    assert result['videos'] == 200
    assert 'top5' not in describe_accuracy(scores[:, :5], labels % 5)


def test_classes_without_a_vote_are_no_answer():
    scores = np.array([[0.0, 3, 0, 0], [0, 3, 0, 0], [2, 2, 0, 0]])
    labels = np.array([0, 1, 1])
    assert top_k_hits(scores, labels, 3).tolist() == [False, True, True]
    assert top_k_hits(scores, labels, 1).tolist() == [False, True, False]


# Linear probes


def standardise(train, test):
    mean, std = train.mean(0), train.std(0)
    return (train - mean) / std, (test - mean) / std


def fit(train, labels, test, strength):
    """Without pipelines and searches."""
    train, test = standardise(train.astype(float), test.astype(float))
    model = LogisticRegression(C=strength, max_iter=1000).fit(train, labels)
    return model.predict_proba(test)


def test_the_strength_is_that_of_a_loop():
    (train, labels), (test, _) = draw(70), draw(20, seed=1)
    strengths = (1e-5, 1e-3, 1e-2, 1.0, 100.0)
    accuracies = []
    for strength in strengths:
        folds = StratifiedKFold(4, shuffle=True, random_state=5)
        shares = []
        for rows, others in folds.split(train, labels):
            scores = fit(train[rows], labels[rows], train[others], strength)
            shares.append((scores.argmax(1) == labels[others]).mean())
        accuracies.append(np.mean(shares))
    best = int(np.argmax(accuracies))
    assert 0 < best < len(strengths) - 1
    assert accuracies[best] > accuracies[0]
    probe = linear_probe(
        train, labels, test, 7, strengths, num_folds=4, seed=5
    )
    assert probe.strength == strengths[best]
    assert probe.accuracy == pytest.approx(accuracies[best])
    want = fit(train, labels, test, strengths[best])
    np.testing.assert_allclose(probe.scores, want, atol=1e-6)
    assert probe.converged


def test_test_features_have_no_part_in_the_choice(pair):
    train, test = pair
    options = dict(methods=['linear'])
    want = evaluate_features(train, test, **options)['results'][0]
    wrong = as_features(-5 * test.values, test.labels, 1)
    got = evaluate_features(train, wrong, **options)['results'][0]
    assert got['strengths'] == want['strengths']
    assert got['validation'] == want['validation']
    assert got['top1'] < want['top1']


def test_classes_that_are_rare():
    train, labels = draw(20, num_classes=3)
    labels[:3] = 5  # 3 of them; 4 has none
    labels[3] = 6  # a single one
    probe = linear_probe(train, labels, train, 7)
    assert (probe.scores[:, [3, 4]] == 0).all()
    np.testing.assert_allclose(probe.scores.sum(1), 1)
    with pytest.raises(ValueError, match='has one feature only'):
        linear_probe(train[:3], np.arange(3), train, 3)
    assert linear_probe(train[:3], np.arange(3), train, 3, (1.0,)).scores.any()
    with pytest.raises(ValueError, match='two classes'):
        linear_probe(train, 0 * labels, train, 1)


def test_an_optimiser_that_is_stopped():
    train, labels = draw(60)
    assert not linear_probe(
        train, labels, train, 7, (100.0,), max_iter=2
    ).converged


# All together


def test_report(pair, tmp_path):
    train, test = pair
    out = tmp_path / 'report.json'
    report = evaluate_features(train, test, out=out)
    assert json.loads(out.read_text()) == report
    assert evaluate_features(train, test)['results'] == report['results']

    def share(scores):
        return pytest.approx((scores.argmax(1) == test.labels).mean())

    knn, linear = rows_of(report, 'knn'), rows_of(report, 'linear')
    assert [row['neighbours'] for row in knn] == [10, 20]
    for row in knn:
        k = row['neighbours']
        scores = vote(train.values, train.labels, test.values, k, 7, 0.07)
        assert row['top1'] == share(scores)
    (strength,) = linear[0]['strengths']
    scores = fit(train.values, train.labels, test.values, strength)
    assert linear[0]['top1'] == share(scores)
    assert all(0.4 < row['top1'] < 0.95 for row in report['results'])
    assert report['results'][0]['block'] == 3
    assert report['train']['videos'] == 60 and report['test']['videos'] == 45
    assert report['test']['card'] == test.card
    assert (
        'only 60 videos to learn from, no k of 100, 200'
        in (report['notes'][0])
    )
    table = format_report(report)
    assert '60 videos of 7 classes to learn from, 45 to test on' in table
    low, high = (100 * linear[0][f'top1_{end}'] for end in ('low', 'high'))
    assert f'{100 * linear[0]["top1"]:.1f} ({low:.1f} to {high:.1f})' in table


def test_labels_need_not_be_numbered_in_a_row(pair):
    train, test = pair
    names = np.array([5, 17, 2, 1000, 0, 8, 9])
    want = evaluate_features(train, test, **FEW)['results']
    got = evaluate_features(
        as_features(train.values, names[train.labels]),
        as_features(test.values, names[test.labels], 1),
        **FEW,
    )['results']
    for a, b in zip(got, want, strict=True):
        assert a['top1'] == pytest.approx(b['top1'], abs=0.03)
        assert a['mean_class'] == pytest.approx(b['mean_class'], abs=0.03)


def test_several_blocks(pair):
    noise = np.random.default_rng(0).normal(size=(105, 12))
    both = [
        as_features(
            np.stack([part, f.values], 1).astype(np.float32),
            f.labels,
            i,
            features=dict(block=[2, 7]),
        )
        for i, (part, f) in enumerate(
            zip((noise[:60], noise[60:]), pair, strict=True)
        )
    ]
    want = evaluate_features(*pair, **FEW)['results']
    report = evaluate_features(*both, **FEW)
    assert [r['block'] for r in report['results']] == [2] * 3 + [7] * 3
    assert report['results'][3:] == [dict(r, block=7) for r in want]
    assert all(r['top1'] < 0.4 for r in report['results'][:3])
    only = evaluate_features(*both, blocks=[7], **FEW)
    assert only['results'] == report['results'][3:]
    with pytest.raises(UsageError, match='no block 3; it has 2, 7'):
        evaluate_features(*both, blocks=[3])


def test_cross_validation(pair):
    train, _ = pair
    strengths = (0.001, 0.01)
    report = evaluate_features(
        train, folds=4, neighbours=[5], strengths=strengths, seed=3
    )
    hits = dict(knn=0, linear=0)
    folds = StratifiedKFold(4, shuffle=True, random_state=3)
    for rows, others in folds.split(train.values, train.labels):
        parts = [train.values[rows], train.labels[rows], train.values[others]]
        for method, scores in dict(
            knn=vote(*parts, 5, 7, 0.07),
            linear=linear_probe(*parts, 7, strengths, seed=3).scores,
        ).items():
            hits[method] += (scores.argmax(1) == train.labels[others]).sum()
    for row in report['results']:
        assert row['top1'] == pytest.approx(hits[row['method']] / 60)
        assert row['videos'] == 60
    assert report['settings']['splits'] == '4 folds'
    assert '4 folds' in format_report(report)
    assert report['test'] is None


def test_leave_one_out(pair):
    train, _ = pair
    report = evaluate_features(
        train, leave_one_out=True, neighbours=[5], strengths=[0.01]
    )
    rows = np.arange(60)
    hits = dict(knn=0, linear=0)
    for i in rows:
        others = rows != i
        parts = [train.values[others], train.labels[others]]
        one = train.values[i : i + 1]
        knn = vote(*parts, one, 5, 7, 0.07)
        hits['knn'] += knn.argmax() == train.labels[i]
        hits['linear'] += fit(*parts, one, 0.01).argmax() == train.labels[i]
    for row in report['results']:
        assert row['top1'] == pytest.approx(hits[row['method']] / 60)
    assert rows_of(report, 'linear')[0]['validation'] is None
    assert report['settings']['splits'] == 'leave one out'


def test_bad_videos_are_left_out(pair):
    train, test = pair
    want = evaluate_features(train, test, **FEW)['results']
    spoilt = []
    for i, f in enumerate(pair):
        values = np.concatenate([np.full((2, 12), np.nan, 'f4'), f.values])
        labels = np.concatenate([[0, 99], f.labels])
        spoilt.append(as_features(values, labels, i))
    report = evaluate_features(*spoilt, **FEW)
    assert report['results'] == want
    assert report['train']['left_out'] == report['test']['left_out'] == 2
    assert (
        'train features: 2 of 62 videos could not be read'
        in (report['notes'][0])
    )
    nothing = as_features(np.full((9, 12), np.nan), np.arange(9))
    with pytest.raises(UsageError, match='has no video that could be read'):
        evaluate_features(nothing, test, **FEW)


def test_what_is_noted(pair):
    train, test = pair
    same = Features(test.values, train.names[:45], test.labels, test.card)
    report = evaluate_features(train, same, strengths=[1e-9, 1e-8])
    notes = '\n'.join(report['notes'])
    assert "45 names are in both files, such as '0/0.mp4'" in notes
    assert 'C is the smallest or largest' in notes


def test_half_precision(pair):
    rounded = [
        as_features(f.values.astype(np.float16), f.labels, i)
        for i, f in enumerate(pair)
    ]
    exact = [
        as_features(f.values.astype(np.float32), f.labels, i)
        for i, f in enumerate(rounded)
    ]
    assert (
        evaluate_features(*rounded, **FEW)['results']
        == evaluate_features(*exact, **FEW)['results']
    )


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(weights='b' * 64), 'different kinds .*weights: aaaaaa.* -> bbb'),
        (dict(features=dict(block=2)), r'blocks: \(3,\) -> \(2,\)'),
        (dict(clips=dict(num_frames=8)), 'clips.num_frames: 16 -> 8'),
        (dict(features=dict(pooling='time')), "pooling='time'.*pooling='mean"),
        (dict(features=dict(views='all')), 'holds each view of a video'),
        (dict(videos=dict(sha256='list 0')), 'of the same videos'),
    ],
)
def test_features_that_do_not_go_together(pair, changes, message):
    train, test = pair
    other = as_features(test.values, test.labels, 1, **changes)
    with pytest.raises(UsageError, match=message):
        evaluate_features(train, other)


def test_more_views_of_test_videos_are_allowed(pair):
    train, test = pair
    views = as_features(test.values, test.labels, 1, clips=dict(num_clips=5))
    want = evaluate_features(train, test, **FEW)['results']
    assert evaluate_features(train, views, **FEW)['results'] == want


def test_what_cannot_be_evaluated(pair, tmp_path):
    train, test = pair

    def refuse(message, *features, **kwargs):
        with pytest.raises(UsageError, match=message):
            evaluate_features(*features, **kwargs)

    unlabelled = Features(test.values, test.names)
    refuse('test features has no labels', train, unlabelled)
    maps = Features(test.values[:, :, None, None], test.names, test.labels)
    refuse('features of shape', train, maps)
    wide = Features(np.ones((45, 13)), test.names, test.labels)
    refuse(r'of shape \(1, 12\), .* of \(1, 13\)', train, wide)
    unknown = as_features(test.values, test.labels + 5, 1)
    refuse('has no video of: 7, 8, 9, 10, 11', train, unknown)
    single = as_features(train.values, 0 * train.labels)
    refuse('All videos are of one class, 0', single, folds=2)
    refuse('for one file', train, test, folds=5)
    refuse('folds must be from 2 to the 9 videos', train, folds=10)
    refuse('not both', train, folds=5, leave_one_out=True)
    refuse('methods are knn, linear', train, test, methods=['svm'])
    refuse('60 videos to learn from', train, test, neighbours=[61])
    refuse('neighbours must be at least 1', train, test, neighbours=[0])
    refuse('temperature must be above 0', train, test, temperature=0)
    refuse('strengths must be above 0', train, test, strengths=[0.0])
    out = tmp_path / 'a.json'
    out.write_text('mine')
    refuse(r'a\.json exists already', train, test, out=out)
    assert out.read_text() == 'mine'
    evaluate_features(train, test, methods=['knn'], out=out, overwrite=True)
    assert 'results' in json.loads(out.read_text())
