# Copyright (c) MotionMAE contributors. All rights reserved.
import os
import pickle
import shutil
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from helpers.processes import HUNG
from mmaction.evaluation import AccMetric
from mmaction.registry import DATASETS, EVALUATOR
from mmaction.structures import ActionDataSample
from mmengine.evaluator import BaseMetric, Evaluator

from mmmotionmae.evaluation import VideoEvaluator

PIPELINE = [
    dict(type='VideoInit'),
    dict(
        type='SampleFrames',
        clip_len=8,
        frame_interval=1,
        num_clips=2,
        test_mode=True,
    ),
    dict(type='VideoDecode'),
    dict(type='Resize', scale=(-1, 32)),
    dict(type='ThreeCrop', crop_size=32),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]


@pytest.fixture
def dataset(shapes_dir, tmp_path):
    """Sixteen labelled videos, of which 3 and 10 are broken."""
    shutil.copytree(shapes_dir, tmp_path / 'data')
    lines = (tmp_path / 'data/val.txt').read_text().splitlines()
    for i in (3, 10):
        (tmp_path / 'data' / lines[i].rsplit(' ', 1)[0]).write_bytes(b'no')
    return DATASETS.build(
        dict(
            type='RobustVideoDataset',
            ann_file=str(tmp_path / 'data/val.txt'),
            data_prefix=dict(video=str(tmp_path / 'data')),
            pipeline=PIPELINE,
            test_mode=True,
            leave_out=True,
        )
    )


def predictions(samples, seed=0):
    """Random scores for eight classes."""
    generator = torch.Generator().manual_seed(seed)
    for sample in samples:
        sample.set_pred_score(torch.rand(8, generator=generator))
    return samples


def test_a_bad_video_is_stood_in_for_and_left_out(dataset):
    samples = [dataset[i] for i in range(16)]
    marked = [bool(s['data_samples'].get('left_out')) for s in samples]
    assert [i for i, mark in enumerate(marked) if mark] == [3, 10]
    shapes = {tuple(sample['inputs'].shape) for sample in samples}
    assert shapes == {(6, 3, 8, 32, 32)}
    for i in (3, 10):  # the next one stands in
        assert torch.equal(samples[i]['inputs'], samples[i + 1]['inputs'])
    assert len(dataset.bad_videos.read()) == 2

    outputs = predictions([sample['data_samples'] for sample in samples])
    evaluator = VideoEvaluator(dict(type='AccMetric'))
    evaluator.process(outputs[:5])
    evaluator.process(outputs[5:])
    metrics = evaluator.evaluate(16)
    good = [s for i, s in enumerate(outputs) if i not in (3, 10)]
    right = [int(s.pred_score.argmax() == s.gt_label) for s in good]
    assert metrics['acc/top1'] == pytest.approx(np.mean(right))
    assert metrics['left_out'] == 2

    # The next evaluation starts anew.
    evaluator.process(good)
    again = evaluator.evaluate(14)
    assert again['acc/top1'] == metrics['acc/top1']
    assert again['left_out'] == 0


def sample_of(label, left_out=False, seed=0):
    sample = ActionDataSample().set_gt_label(label)
    if left_out:
        sample.set_metainfo(dict(left_out=True))
    return predictions([sample], seed)[0]


def test_without_bad_videos_it_is_the_stock_evaluator():
    samples = [sample_of(i % 8, seed=i) for i in range(20)]
    ours = EVALUATOR.build(
        dict(type='VideoEvaluator', metrics=[dict(type='AccMetric')])
    )
    stock = Evaluator([AccMetric()])
    for evaluator in (ours, stock):
        evaluator.process(samples)
    expected = stock.evaluate(20)
    assert len(expected) >= 3
    assert ours.evaluate(20) == dict(expected, left_out=0)


def test_a_dump_has_the_good_videos_only(tmp_path):
    path = tmp_path / 'dump.pkl'
    evaluator = VideoEvaluator(
        [
            dict(type='AccMetric'),
            dict(type='DumpResults', out_file_path=str(path)),
        ]
    )
    evaluator.process([sample_of(i, i == 2, seed=i) for i in range(5)])
    evaluator.evaluate(5)
    with path.open('rb') as file:
        dumped = pickle.load(file)
    assert [int(sample['gt_label']) for sample in dumped] == [0, 1, 3, 4]


class OneResult(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results = [len(data_samples)]

    def compute_metrics(self, results):
        return dict(n=results[0])


def test_a_metric_that_does_not_keep_a_result_for_each_sample():
    evaluator = VideoEvaluator(OneResult())
    evaluator.process([sample_of(0), sample_of(1)])
    assert evaluator.evaluate(2) == dict(n=2, left_out=0)
    evaluator.process([sample_of(0), sample_of(1, True)])
    with pytest.raises(RuntimeError, match='OneResult.*1 results for 2'):
        evaluator.evaluate(2)


def test_all_videos_bad():
    evaluator = VideoEvaluator(dict(type='AccMetric'))
    evaluator.process([sample_of(0, True), sample_of(1, True)])
    with pytest.raises(RuntimeError, match='None of the 2 videos'):
        evaluator.evaluate(2)


def _evaluate_on(rank, folder, queue):
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.chdir(folder)  # MMEngine collects results in a folder of this one
    store = dist.FileStore(f'{folder}/store', 2)
    dist.init_process_group('gloo', rank=rank, world_size=2, store=store)
    # Seven samples, so that the second rank has one twice; 1, 2, 4 are bad.
    indices = [0, 2, 4, 6] if rank == 0 else [1, 3, 5, 0]
    evaluator = VideoEvaluator(AccMetric())
    evaluator.process([sample_of(i, i in (1, 2, 4), seed=i) for i in indices])
    queue.put((rank, evaluator.evaluate(7)))
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes(tmp_path):
    context = get_context('fork')
    queue = context.Queue()
    workers = [
        context.Process(
            target=_evaluate_on, args=(rank, tmp_path, queue), daemon=True
        )
        for rank in range(2)
    ]
    for worker in workers:
        worker.start()
    found = dict(queue.get(timeout=HUNG) for _ in workers)
    for worker in workers:
        worker.join(HUNG)
        assert worker.exitcode == 0
    good = [sample_of(i, seed=i) for i in (0, 3, 5, 6)]
    right = [int(s.pred_score.argmax() == s.gt_label) for s in good]
    for rank in range(2):
        assert found[rank]['left_out'] == 3
        assert found[rank]['acc/top1'] == pytest.approx(np.mean(right))


def test_nothing_stands_in_if_nothing_can_be_loaded(dataset):
    for i in range(16):
        with open(dataset.get_data_info(i)['filename'], 'wb') as file:
            file.write(b'no')
    with pytest.raises(RuntimeError, match='nothing after it can be loaded'):
        dataset[0]
