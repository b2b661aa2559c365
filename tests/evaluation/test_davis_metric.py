# Copyright (c) MotionMAE contributors. All rights reserved.
import logging
import os
import re
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.processes import HUNG
from mmaction.registry import METRICS
from mmaction.structures import ActionDataSample
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from PIL import Image

from mmmotionmae.datasets.sequences import PALETTE, write_mask
from mmmotionmae.evaluation import DAVISMetric, score_davis
from mmmotionmae.evaluation.davis_scoring import MEASURES, summarize
from mmmotionmae.utils.errors import ScoringError
from mmmotionmae.utils.files import complete_folder

NAMES = ['cat', 'dog/black', 'eel']


def make_masks(seed, num_frames=5, size=(30, 44)):
    """Ground truth of three objects, and a prediction that is worse."""
    rng = np.random.default_rng(seed)
    gt = np.zeros((num_frames, *size), dtype=np.uint8)
    for number in (1, 2, 3):
        y, x = rng.integers(0, 20, 2)
        gt[:, y : y + 9, x : x + 12] = number
    pred = np.roll(gt, 1, axis=2)
    pred[1:][rng.random(pred[1:].shape) < 0.1] = 0
    pred[0] = gt[0]
    return gt, pred


def make_samples(root, names=NAMES):
    """A data set on disk, and what a model makes of it."""
    samples = []
    for seed, name in enumerate(names):
        gt, pred = make_masks(seed)
        frames = [f'{t:05d}' for t in range(len(gt))]
        paths = [f'{root}/Annotations/480p/{name}/{f}.png' for f in frames]
        for path, mask in zip(paths, gt, strict=True):
            write_mask(path, mask)
            frame = Path(path.replace('Annotations', 'JPEGImages'))
            frame.parent.mkdir(parents=True, exist_ok=True)
            frame.with_suffix('.jpg').touch()
        sample = ActionDataSample(
            metainfo=dict(
                sequence=name,
                frame_names=frames,
                mask_paths=paths,
                binary_masks=False,
                finished=False,
            )
        )
        sample.set_data(dict(pred_masks=pred))
        samples.append(sample)
    lists = Path(root, 'ImageSets/2017')
    lists.mkdir(parents=True, exist_ok=True)
    (lists / 'val.txt').write_text('\n'.join(names))
    return samples


def evaluate(samples, metric):
    """As in a test with MMEngine, one sequence at a time."""
    evaluator = Evaluator([metric])
    for sample in samples:
        evaluator.process([sample], dict(inputs=[None], data_samples=[sample]))
    return evaluator.evaluate(len(samples))


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in Path(folder).rglob('*')
        if path.is_file()
    }


@pytest.fixture
def samples(tmp_path):
    return make_samples(tmp_path / 'data')


def test_metrics_and_files(samples, tmp_path):
    results = []
    for num_workers in (0, 2):
        out = tmp_path / f'out{num_workers}'
        metric = METRICS.build(
            dict(type='DAVISMetric', out_dir=out, num_workers=num_workers)
        )
        results.append(evaluate(samples, metric))
    assert results[0] == results[1]
    assert contents(tmp_path / 'out0') == contents(tmp_path / 'out2')

    # The same as that of files that come from elsewhere.
    scores = score_davis(tmp_path / 'out0/masks', tmp_path / 'data')
    expected = summarize(scores)
    assert results[0] == {f'davis/{k}': v for k, v in expected.items()}
    assert set(expected) == {*MEASURES, 'num_objects', 'num_sequences'}
    assert 0.4 < expected['J-Mean'] < 0.9
    assert expected['num_objects'] == 9

    out = tmp_path / 'out0'
    masks = {f'masks/{n}/{t:05d}.png' for n in NAMES for t in range(5)}
    assert set(contents(out)) == masks | {
        'global_results-val.csv',
        'per-sequence_results-val.csv',
        'results.json',
    }
    rows = (out / 'per-sequence_results-val.csv').read_text().splitlines()
    assert [row.split(',')[0] for row in rows] == ['Sequence'] + [
        f'{name}_{number}' for name in NAMES for number in (1, 2, 3)
    ]
    values = (out / 'global_results-val.csv').read_text().splitlines()[1]
    assert values == ','.join(f'{expected[m]:.3f}' for m in MEASURES)


def test_masks_are_palette_images(samples, tmp_path):
    evaluate(samples[:1], DAVISMetric(tmp_path, num_workers=0))
    for t, mask in enumerate(samples[0].pred_masks):
        with Image.open(tmp_path / f'masks/cat/{t:05d}.png') as picture:
            assert picture.mode == 'P'
            assert picture.getpalette()[:12] == PALETTE[:4].ravel().tolist()
            assert (np.array(picture) == mask).all()


@pytest.mark.parametrize('num_workers', [0, 1])
def test_going_on(samples, tmp_path, num_workers):
    expected = evaluate(samples, DAVISMetric(tmp_path / 'a', num_workers=0))
    metric = DAVISMetric(num_workers=num_workers)
    metric.out_dir = tmp_path / 'b'
    assert not any(metric.is_finished(name) for name in NAMES)
    for sample in samples[:2]:
        metric.process(None, [sample.to_dict()])

    again = DAVISMetric(tmp_path / 'b', num_workers=num_workers)
    finished = [again.is_finished(name) for name in NAMES]
    assert finished == [True, True, False]
    assert not again.is_finished('dog')  # the folder of 'dog/black'
    for sample in samples[:2]:
        del sample.pred_masks
        sample.set_metainfo(dict(finished=True))
    assert evaluate(samples, again) == expected
    assert contents(tmp_path / 'a') == contents(tmp_path / 'b')


def test_stale_results_are_replaced(samples, tmp_path):
    stale = tmp_path / 'masks/cat/99999.png'
    write_mask(stale, np.ones((3, 3), dtype=np.uint8))
    evaluate(samples[:1], DAVISMetric(tmp_path, num_workers=0))
    found = sorted(path.name for path in (tmp_path / 'masks').rglob('*'))
    assert found == [f'{t:05d}.png' for t in range(5)] + ['cat']


def test_a_folder_is_complete_or_not_there(tmp_path):
    for before in ({}, {'old.txt': b'old'}):
        with pytest.raises(KeyboardInterrupt):
            with complete_folder(tmp_path / 'x/y') as folder:
                (folder / 'new.txt').write_bytes(b'new')
                raise KeyboardInterrupt
        assert contents(tmp_path / 'x') == {
            f'y/{name}': text for name, text in before.items()
        }
        with complete_folder(tmp_path / 'x/y') as folder:
            (folder / 'old.txt').write_bytes(b'old')
    assert os.listdir(tmp_path / 'x') == ['y']
    assert (tmp_path / 'x/y').stat().st_mode & 0o777 == (
        tmp_path / 'x'
    ).stat().st_mode & 0o777


def test_format_only(samples, tmp_path):
    for sample in samples:  # as in test-dev
        paths = [sample.mask_paths[0]] + [None] * 4
        sample.set_metainfo(dict(mask_paths=paths))
    metric = DAVISMetric(tmp_path, format_only=True)
    assert evaluate(samples, metric) == {'davis/num_sequences': 3}
    assert len(contents(tmp_path / 'masks')) == 15
    assert sorted(os.listdir(tmp_path)) == ['data', 'masks']
    with pytest.raises(ScoringError, match='cat .*00001.png is missing'):
        evaluate(samples, DAVISMetric(tmp_path, num_workers=0))


def test_another_size_for_the_score(samples, tmp_path):
    metric = DAVISMetric(
        tmp_path / 'out', num_workers=0, resize=[61, 77], prefix='x'
    )
    found = evaluate(samples, metric)
    scores = score_davis(
        tmp_path / 'out/masks', tmp_path / 'data', resize=(61, 77)
    )
    assert found == {f'x/{k}': v for k, v in summarize(scores).items()}
    as_it_is = evaluate(samples, DAVISMetric(tmp_path / 'b', num_workers=0))
    assert found['x/F-Mean'] != as_it_is['davis/F-Mean']
    with Image.open(tmp_path / 'out/masks/cat/00000.png') as picture:
        assert picture.size == (44, 30)
    for resize in ((3,), (0, 5)):
        with pytest.raises(ValueError, match='resize must be'):
            DAVISMetric(resize=resize)


def test_log(samples, tmp_path, caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    samples[1].pred_masks[2:4, 0, 0] = 9
    try:
        evaluate(samples, DAVISMetric(tmp_path, num_workers=0))
    finally:
        logger.removeHandler(caplog.handler)
    table = [
        r.getMessage() for r in caplog.records if 'eel_3' in r.getMessage()
    ]
    assert len(table) == 1 and '9 objects, 3 sequences' in table[0]
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert re.search(r'dog/black \[9\]', warnings[0].getMessage())


def test_errors(samples, tmp_path):
    with pytest.raises(ValueError, match='DAVISMetric .* out_dir'):
        evaluate(samples, DAVISMetric())
    samples[0].pred_masks = samples[0].pred_masks[:4]
    with pytest.raises(ValueError, match='cat has 5 frames.* 4 masks'):
        evaluate(samples, DAVISMetric(tmp_path, num_workers=0))
    assert not DAVISMetric(tmp_path).is_finished('cat')
    samples[1].pred_masks = np.zeros((5, 7, 8), dtype=np.uint8)
    for num_workers in (0, 1):
        with pytest.raises(ScoringError, match='dog/black .*is 8x7, .*44x30'):
            evaluate(
                samples[1:], DAVISMetric(tmp_path, num_workers=num_workers)
            )


def _evaluate_on(rank, root, queue):
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.chdir(root)  # MMEngine collects results in a folder of this one
    store = dist.FileStore(f'{root}/store', 2)
    dist.init_process_group('gloo', rank=rank, world_size=2, store=store)
    samples = make_samples(f'{root}/data{rank}')
    # So that the second rank has the first sequence once more.
    own = [samples[i] for i in ((0, 2) if rank == 0 else (1, 0))]
    metric = DAVISMetric(f'{root}/out', num_workers=1)
    evaluator = Evaluator([metric])
    for sample in own:
        evaluator.process([sample], None)
    queue.put(evaluator.evaluate(3))
    dist.barrier()
    dist.destroy_process_group()


def test_two_ranks(samples, tmp_path):
    context = get_context('fork')
    queue = context.Queue()
    ranks = [
        context.Process(target=_evaluate_on, args=(rank, tmp_path, queue))
        for rank in range(2)
    ]
    for rank in ranks:
        rank.start()
    found = [queue.get(timeout=HUNG) for _ in ranks]
    for rank in ranks:
        rank.join(HUNG)
        assert rank.exitcode == 0
    expected = evaluate(samples, DAVISMetric(tmp_path / 'one', num_workers=0))
    assert found == [expected] * 2
    assert contents(tmp_path / 'out') == contents(tmp_path / 'one')
    assert sorted(os.listdir(tmp_path / 'out/masks')) == ['cat', 'dog', 'eel']
