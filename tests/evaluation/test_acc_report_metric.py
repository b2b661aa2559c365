# Copyright (c) MotionMAE contributors. All rights reserved.
import csv
import math

import numpy as np
import pytest
import torch
from mmaction.evaluation import AccMetric
from mmaction.registry import METRICS
from mmaction.structures import ActionDataSample
from mmengine.logging import MMLogger
from sklearn.metrics import confusion_matrix, top_k_accuracy_score

from mmmotionmae.evaluation import VideoEvaluator
from mmmotionmae.evaluation.metrics import AccReportMetric
from mmmotionmae.evaluation.metrics.acc_report_metric import wilson_interval

NAMES = ['run', 'jump', 'sit, down', 'é', 'wave', 'clap', 'turn']
Z95 = 1.959963984540054  # 0.975 quantile of the normal distribution


def by_hand(p, n, z=Z95):
    """Wilson's interval as the roots of (p - x)^2 = z^2 x (1 - x) / n."""
    roots = np.roots([1 + z * z / n, -2 * p - z * z / n, p * p])
    return sorted(roots.real)


def draw(n=200, num_classes=7, seed=0):
    """Scores and labels; class 3 has no test video."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([c for c in range(num_classes) if c != 3], n)
    scores = rng.random((n, num_classes)).astype(np.float32)
    scores[np.arange(n), labels] += 0.3
    return scores, labels


def samples_of(scores, labels, bad=()):
    samples = []
    for i, (score, label) in enumerate(zip(scores, labels, strict=True)):
        sample = ActionDataSample().set_gt_label(int(label))
        sample.set_pred_score(torch.from_numpy(score))
        if i in bad:
            sample.set_metainfo(dict(left_out=True))
        samples.append(sample)
    return samples


def evaluate(metric, scores, labels, bad=()):
    evaluator = VideoEvaluator([metric])
    evaluator.process(samples_of(scores, labels, bad))
    return evaluator.evaluate(len(labels))


def read(path):
    with open(path, encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize('hits,count', [(0, 5), (5, 5), (3, 10), (81, 263)])
@pytest.mark.parametrize('confidence,z', [(0.95, Z95), (0.99, 2.5758293035)])
def test_wilson_interval(hits, count, confidence, z):
    found = wilson_interval(hits, count, confidence)
    expected = by_hand(hits / count, count, z)
    assert found == pytest.approx(expected, abs=1e-9)


def test_wilson_interval_of_a_textbook():
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    assert wilson_interval(81, 263) == pytest.approx(
        (0.2553, 0.3662), abs=5e-5
    )
    assert wilson_interval(15, 148) == pytest.approx(
        (0.0624, 0.1605), abs=5e-5
    )
    assert wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_values_are_those_of_acc_metric(tmp_path):
    scores, labels = draw()
    stock = evaluate(AccMetric(), scores, labels)
    cfg = dict(type='AccReportMetric', out_dir=tmp_path)
    ours = evaluate(METRICS.build(cfg), scores, labels)
    assert {name: ours[name] for name in stock} == stock
    assert set(ours) - set(stock) == {
        *('acc/top1_low', 'acc/top1_high', 'acc/top5_low', 'acc/top5_high')
    }
    for k in (1, 5):
        top = top_k_accuracy_score(labels, scores, k=k, labels=range(7))
        assert ours[f'acc/top{k}'] == pytest.approx(top, abs=1e-12)
        low, high = by_hand(top, 200)
        assert ours[f'acc/top{k}_low'] == pytest.approx(low, abs=1e-9)
        assert ours[f'acc/top{k}_high'] == pytest.approx(high, abs=1e-9)


def test_other_confidence_and_other_k(tmp_path):
    scores, labels = draw()
    metric = AccReportMetric(
        out_dir=tmp_path,
        confidence=0.5,
        metric_options=dict(top_k_accuracy=dict(topk=(2,))),
    )
    found = evaluate(metric, scores, labels)
    top = top_k_accuracy_score(labels, scores, k=2, labels=range(7))
    low, high = by_hand(top, 200, 0.6744897501960817)
    assert found['acc/top2_low'] == pytest.approx(low, abs=1e-9)
    assert found['acc/top2_high'] == pytest.approx(high, abs=1e-9)
    assert 'acc/top1' not in found


def test_the_table_of_classes(tmp_path):
    scores, labels = draw()
    classes = tmp_path / 'classes.txt'
    classes.write_text('\n'.join(NAMES) + '\n', encoding='utf-8')
    metric = AccReportMetric(classes=classes, out_dir=tmp_path / 'new')
    found = evaluate(metric, scores, labels)
    rows = read(tmp_path / 'new/per_class.csv')
    matrix = confusion_matrix(labels, scores.argmax(1), labels=range(7))
    assert [int(row['index']) for row in rows] == list(range(7))
    assert [row['name'] for row in rows] == NAMES
    shares = []
    for c, row in enumerate(rows):
        n, hits = matrix[c].sum(), matrix[c, c]
        assert int(row['videos']) == n == (labels == c).sum()
        assert int(row['correct']) == hits
        if c == 3:
            empty = ('accuracy', 'low', 'high', 'most_frequent_wrong_class')
            assert n == 0 and all(row[name] == '' for name in empty)
            continue
        shares.append(float(row['accuracy']))
        assert shares[-1] == pytest.approx(hits / n, abs=1e-6)
        low, high = by_hand(hits / n, n)
        assert float(row['low']) == pytest.approx(low, abs=1e-6)
        assert float(row['high']) == pytest.approx(high, abs=1e-6)
        mistakes = {k: matrix[c, k] for k in range(7) if k != c}
        wrong = max(mistakes, key=mistakes.get)
        assert int(row['most_frequent_wrong_class']) == wrong
        assert int(row['its_count']) == mistakes[wrong] > 0
    # The accuracies of MMAction2's class mean; it leaves out class 3 if that
    # is never predicted, else it counts as 0.
    total = 7 if 3 in scores.argmax(1) else 6
    assert found['acc/mean1'] == pytest.approx(sum(shares) / total, abs=1e-6)


def test_a_class_without_mistakes(tmp_path):
    evaluate(AccReportMetric(out_dir=tmp_path), np.eye(3), [0, 1, 2])
    for row in read(tmp_path / 'per_class.csv'):
        assert row['accuracy'] == '1.000000' and row['name'] == ''
        assert row['most_frequent_wrong_class'] == ''
        assert row['its_count'] == '0'


def test_bad_videos_are_left_out(tmp_path):
    scores, labels = draw(20)
    bad = (2, 11, 19)
    good = [i for i in range(20) if i not in bad]
    found = evaluate(AccReportMetric(out_dir=tmp_path), scores, labels, bad)
    hits = int((scores.argmax(1) == labels)[good].sum())
    low, high = by_hand(hits / 17, 17)
    assert found['acc/top1_low'] == pytest.approx(low, abs=1e-9)
    assert found['acc/top1_high'] == pytest.approx(high, abs=1e-9)
    rows = read(tmp_path / 'per_class.csv')
    assert sum(int(row['videos']) for row in rows) == 17
    assert sum(int(row['correct']) for row in rows) == hits


def test_the_table_is_beside_the_log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    MMLogger.get_instance('none')
    evaluate(AccReportMetric(), *draw())
    assert not list(tmp_path.rglob('*.csv'))  # no log file, no table
    (tmp_path / 'run').mkdir()
    MMLogger.get_instance('run', log_file=str(tmp_path / 'run/run.log'))
    evaluate(AccReportMetric(), *draw())
    assert len(read(tmp_path / 'run/per_class.csv')) == 7


def test_the_table_of_another_run_is_renamed(tmp_path):
    path = tmp_path / 'per_class.csv'
    path.write_text('precious')
    metric = AccReportMetric(out_dir=tmp_path)
    for seed in (0, 1):  # the second of its own replaces the first
        scores, labels = draw(seed=seed)
        evaluate(metric, scores, labels)
        hits = int((scores.argmax(1) == labels).sum())
        assert sum(int(row['correct']) for row in read(path)) == hits
    (earlier,) = tmp_path.glob('per_class.csv-*')
    assert earlier.read_text() == 'precious'


@pytest.mark.parametrize('confidence', [0, 1, 95, math.nan])
def test_bad_confidence(confidence):
    with pytest.raises(ValueError, match='confidence must be between'):
        AccReportMetric(confidence=confidence)


def test_bad_labels_and_names(tmp_path):
    scores, labels = draw(5)
    metric = AccReportMetric(out_dir=tmp_path)
    with pytest.raises(ValueError, match='the label -1.* 7 classes'):
        evaluate(metric, scores, [*labels[:4], -1])
    with pytest.raises(ValueError, match='one label'):
        metric.compute_metrics([dict(pred=scores[0], label=np.zeros(7))])
    classes = tmp_path / 'classes.txt'
    classes.write_text('a\nb\n')
    with pytest.raises(ValueError, match='classes.txt has 2 names.*7 cla'):
        evaluate(
            AccReportMetric(classes=classes, out_dir=tmp_path), scores, labels
        )
    assert not list(tmp_path.rglob('*.csv'))


def test_without_names_of_classes(tmp_path):
    """A file that is missing costs the names only."""
    scores, labels = draw()
    tables = []
    for name, classes in (('a', None), ('b', tmp_path / 'missing.txt')):
        metric = AccReportMetric(classes=classes, out_dir=tmp_path / name)
        evaluate(metric, scores, labels)
        tables.append((tmp_path / name / 'per_class.csv').read_text())
    assert tables[0] == tables[1]
    assert len(tables[0].splitlines()) == 8
