# Copyright (c) MotionMAE contributors. All rights reserved.
"""Labels that do not fit the classifier are found before the first step."""

import pytest
from mmaction.registry import DATASETS
from mmengine.config import Config

from mmmotionmae.cli.labels import check_labels
from mmmotionmae.utils.errors import AnnotationError, UsageError

TOP = dict(type='AccMetric')
REPORT = dict(type='AccReportMetric')
AVERAGE = dict(type='AccMetric', metric_list=('mean_average_precision',))


def config(num_classes=3, evaluator=TOP, **dataset):
    dataset = dict(
        dict(type='RobustVideoDataset', pipeline=[], ann_file='l.txt'),
        **dataset,
    )
    return Config(
        dict(
            model=dict(cls_head=dict(num_classes=num_classes)),
            train_dataloader=dict(
                dataset=dict(type='RepeatDataset', times=2, dataset=dataset)
            ),
            val_dataloader=dict(dataset=dataset),
            val_evaluator=evaluator,
        )
    )


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a.mp4 0\n\nb.mp4 3\n', r"line 3 has the label 3; .* 3 classes.*'b"),
        ('a.mp4 0\nb.mp4 -1\n', r'line 2 has the label -1; there are 3'),
        ('a.mp4\nb.mp4\n', r"line 1 has no label; there are 3 .*'a.mp4'"),
        ('a.mp4 1 2\n', r"line 1: the label '1 2' is not .*multi_class"),
    ],
)
@pytest.mark.parametrize('stage', ['train', 'val'])
def test_labels_that_do_not_fit(text, message, stage, tmp_path):
    path = tmp_path / 'l.txt'
    path.write_text(text)
    cfg = config(ann_file=str(path))
    check_labels(cfg)
    with pytest.raises(AnnotationError, match=message) as caught:
        DATASETS.build(cfg[f'{stage}_dataloader'].dataset)
    assert str(path) in str(caught.value)
    assert '\n' not in str(caught.value)


def test_labels_that_fit(tmp_path):
    path = tmp_path / 'l.txt'
    path.write_text('a.mp4 0\nb.mp4 2\n')
    cfg = config(ann_file=str(path))
    check_labels(cfg)
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    assert [dataset.get_data_info(i)['label'] for i in (0, 1)] == [0, 2]


@pytest.mark.parametrize('labels', ['', ' 5', ' -1'])
def test_raw_frames(labels, tmp_path):
    path = tmp_path / 'l.txt'
    path.write_text(f'a 7{labels}\n')
    cfg = config(ann_file=str(path), data_prefix=dict(img=''))
    check_labels(cfg)
    with pytest.raises(AnnotationError, match='line 1 has .*3 classes'):
        DATASETS.build(cfg.val_dataloader.dataset)


def test_a_folder_has_no_labels(tmp_path):
    (tmp_path / 'a.mp4').touch()
    prefix = dict(video=str(tmp_path))
    cfg = config(ann_file='', data_prefix=prefix)
    check_labels(cfg)
    with pytest.raises(AnnotationError, match='have no labels.*ann_file'):
        DATASETS.build(cfg.val_dataloader.dataset)


def test_only_labels_that_are_used():
    dump = dict(type='DumpResults', out_file_path='x.pkl')
    for evaluator, used in ((dump, False), ([dump, REPORT], True)):
        cfg = config(evaluator=evaluator)
        check_labels(cfg)
        assert ('num_classes' in cfg.val_dataloader.dataset) is used
        assert cfg.train_dataloader.dataset.dataset.num_classes == 3
    cfg = config(type='VideoDataset')  # a data set of others
    check_labels(cfg)
    assert 'num_classes' not in cfg.val_dataloader.dataset
    cfg = config()
    cfg.model = dict(type='MotionMAE')  # pre-training needs none
    check_labels(cfg)
    assert 'num_classes' not in cfg.train_dataloader.dataset.dataset


def test_numbers_of_classes_that_contradict_each_other():
    cfg = config()
    cfg.val_dataloader.dataset.num_classes = 4
    with pytest.raises(UsageError, match='num_classes=4.*cls_head has 3'):
        check_labels(cfg)


@pytest.mark.parametrize(
    ('evaluator', 'fine'),
    [
        (TOP, False),
        (REPORT, False),
        ([AVERAGE, REPORT], False),
        (dict(type='VideoEvaluator', metrics=[REPORT]), False),
        (dict(AVERAGE, metric_list=('top_k_accuracy',)), False),
        (AVERAGE, True),
        (dict(AVERAGE, metric_list='mmit_mean_average_precision'), True),
    ],
)
def test_metrics_of_several_labels(evaluator, fine):
    cfg = config(3, evaluator, multi_class=True)
    if fine:
        check_labels(cfg)
    else:
        with pytest.raises(UsageError, match='mean_average_precision'):
            check_labels(cfg)
