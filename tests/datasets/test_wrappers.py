# Copyright (c) MotionMAE contributors. All rights reserved.
"""MMEngine's wrappers around our data sets, and stock ones."""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from mmaction.registry import DATA_SAMPLERS, DATASETS
from mmengine.dataset import (
    ClassBalancedDataset,
    ConcatDataset,
    RepeatDataset,
)

from mmmotionmae.datasets.wrappers import (
    clips_per_video,
    passes_per_epoch,
    single_datasets,
    transforms_of,
)
from mmmotionmae.engine.hooks.bad_videos_hook import robust_datasets
from mmmotionmae.utils.errors import (
    AnnotationError,
    TooManyBadVideosError,
    UsageError,
)
from mmmotionmae.utils.seeding import SampleIndex

PIPELINE = [
    dict(type='SeedSample'),
    dict(type='VideoInit'),
    dict(type='SampleFrames', clip_len=4, frame_interval=1),
    dict(type='VideoDecode'),
    dict(type='RandomCrop', size=24),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='TubeMasking', mask_ratio=0.5, patch_size=8, tubelet_size=2),
    dict(
        type='PackActionInputs',
        algorithm_keys=('mask',),
        meta_keys=('filename',),
    ),
]


@pytest.fixture
def lists(tmp_path, shapes_dir):
    """Lists of ten videos, and of the first four and the other six."""
    videos = sorted((shapes_dir / 'videos/pretrain').glob('*.mp4'))[:10]
    lines = [f'{video} {i % 3}\n' for i, video in enumerate(videos)]
    parts = dict(all=lines, a=lines[:4], b=lines[4:])
    for name, part in parts.items():
        (tmp_path / f'{name}.txt').write_text(''.join(part))
    return {name: str(tmp_path / f'{name}.txt') for name in parts}


def config(ann_file, **kwargs):
    return dict(
        dict(type='RobustVideoDataset', ann_file=ann_file, pipeline=PIPELINE),
        **kwargs,
    )


def concat(*parts):
    return dict(type='ConcatDataset', datasets=list(parts))


def repeat(dataset, times):
    return dict(type='RepeatDataset', times=times, dataset=dataset)


def balance(dataset, share=1.0):
    return dict(
        type='ClassBalancedDataset', oversample_thr=share, dataset=dataset
    )


def indices_of(dataset, epoch=2):
    sampler = DATA_SAMPLERS.build(
        dict(type='SeededSampler', dataset=dataset, seed=3)
    )
    sampler.set_epoch(epoch)
    return list(sampler)


def drawn(samples):
    """What was drawn: videos, clips and masks."""
    return [
        (
            sample['data_samples'].metainfo['filename'],
            sample['inputs'],
            sample['data_samples'].mask,
        )
        for sample in samples
    ]


def assert_same(one, other):
    assert len(one) == len(other) > 0
    for (name, clip, mask), (expected, *tensors) in zip(
        one, other, strict=True
    ):
        assert name == expected
        assert torch.equal(clip, tensors[0]) and torch.equal(mask, tensors[1])


# ----------------------------------------------------------------- seeds


def test_parts_of_a_list_are_the_list(lists):
    whole = DATASETS.build(config(lists['all']))
    parts = [config(lists['a']), config(lists['b'])]
    for wrapper in (
        concat(*parts),
        repeat(concat(*parts), 1),
        concat(repeat(parts[0], 1), repeat(parts[1], 1)),
    ):
        dataset = DATASETS.build(wrapper)
        indices = indices_of(dataset)
        assert indices == indices_of(whole)
        assert_same(
            drawn(dataset[i] for i in indices),
            drawn(whole[i] for i in indices_of(whole)),
        )


def test_repeats_have_draws_of_their_own(lists):
    whole = DATASETS.build(config(lists['all']))
    dataset = DATASETS.build(repeat(config(lists['all']), 2))
    indices = sorted(indices_of(dataset))
    assert indices == [*range(20)]
    first, second = (
        drawn(dataset[i] for i in part)
        for part in (indices[:10], indices[10:])
    )
    # The first ten are the seeds of the data set itself.
    assert_same(first, drawn(whole[i] for i in sorted(indices_of(whole))))
    again = [SampleIndex(i - 10, i.seed) for i in indices[10:]]
    assert_same(second, drawn(whole[i] for i in again))
    pairs = zip(first, second, strict=True)
    assert all(not torch.equal(a[2], b[2]) for a, b in pairs)


def test_classes_are_balanced(lists):
    lines = Path(lists['all']).read_text().splitlines()
    lines[0], lines[3] = (f'{lines[i][:-1]}2' for i in (0, 3))
    Path(lists['all']).write_text('\n'.join(lines))
    labels = [int(line[-1]) for line in lines]
    share = {c: n / 10 for c, n in Counter(labels).items()}
    times = [math.ceil(max(1, math.sqrt(1 / share[c]))) for c in labels]
    expected = [i for i, n in enumerate(times) for _ in range(n)]
    assert len(expected) > 10
    whole = DATASETS.build(config(lists['all']))
    inner = config(lists['all'])
    for wrapper in (inner, repeat(inner, 1), concat(inner)):
        dataset = DATASETS.build(balance(wrapper))
        assert dataset.repeat_indices == expected
        indices = indices_of(dataset)
        originals = [SampleIndex(expected[i], i.seed) for i in indices]
        assert_same(
            drawn(dataset[i] for i in indices),
            drawn(whole[i] for i in originals),
        )


def test_stock_data_sets_within_wrappers_can_be_seeded(lists):
    stock = config(lists['all'], type='VideoDataset')
    whole, dataset = DATASETS.build(stock), DATASETS.build(repeat(stock, 2))
    for i in (1, 11, 19):
        expected = whole[SampleIndex(i % 10, i)]
        assert_same(drawn([dataset[SampleIndex(i, i)]]), drawn([expected]))


def test_indices_without_a_seed_stay_plain(lists):
    dataset = DATASETS.build(
        concat(repeat(config(lists['a']), 2), config(lists['b']))
    )
    assert isinstance(dataset, ConcatDataset)
    assert dataset._get_ori_dataset_idx(9) == (1, 1)
    assert dataset._get_ori_dataset_idx(-1) == (1, 5)
    assert type(dataset._get_ori_dataset_idx(9)[1]) is int
    inner = dataset.datasets[0]
    assert isinstance(inner, RepeatDataset)
    assert inner._get_ori_dataset_idx(5) == 1


def test_bad_videos_within_wrappers(lists, tmp_path):
    lines = Path(lists['b']).read_text().splitlines()
    bad = tmp_path / 'bad.mp4'
    bad.write_bytes(b'no video')
    lines[2] = f'{bad} 1'
    Path(lists['b']).write_text('\n'.join(lines))

    def epoch():
        dataset = DATASETS.build(
            repeat(concat(config(lists['a']), config(lists['b'])), 2)
        )
        samples = drawn(dataset[i] for i in indices_of(dataset))
        found = [part.bad_videos.read() for part in robust_datasets(dataset)]
        return samples, found

    samples, found = epoch()
    assert [len(part) for part in found] == [0, 1]
    assert list(found[1]) == [str(bad)]
    assert str(bad) not in [name for name, *_ in samples]
    assert_same(samples, epoch()[0])


# ---------------------------------------------------------------- labels


def test_labels_for_balancing(lists, tmp_path):
    dataset = DATASETS.build(config(lists['all']))
    assert [dataset.get_cat_ids(i) for i in range(4)] == [[0], [1], [2], [0]]
    path = tmp_path / 'several.txt'
    path.write_text('a.mp4 2 0\nb.mp4\nc.mp4 1\n')
    several = DATASETS.build(
        config(str(path), multi_class=True, num_classes=3)
    )
    assert [several.get_cat_ids(i) for i in range(3)] == [[2, 0], [], [1]]
    path.write_text('a.mp4\nb.mp4\n')
    with pytest.raises(AnnotationError, match=r"'a.mp4' has no label"):
        DATASETS.build(balance(config(str(path))))


def test_balancing_around_balancing(lists):
    inner = DATASETS.build(balance(config(lists['all'])))
    assert isinstance(inner, ClassBalancedDataset)
    outer = DATASETS.build(balance(repeat(config(lists['all']), 3)))
    assert [outer.get_cat_ids(i) for i in range(len(outer))] == [
        [i % 3] for i in range(10) for _ in range(2)
    ] * 3


# --------------------------------------------------------------- configs


def test_data_sets_within_configs_and_objects(lists):
    a, b = config(lists['a']), config(lists['b'])
    wrapped = repeat(concat(a, repeat(b, 3)), 2)
    assert list(single_datasets(wrapped)) == [a, b]
    assert list(single_datasets(a)) == [a]
    built = list(single_datasets(DATASETS.build(wrapped)))
    assert [part.ann_file for part in built] == [lists['a'], lists['b']]
    assert list(transforms_of(wrapped)) == PIPELINE * 2
    assert list(transforms_of({})) == []


def test_clips_of_each_video():
    ours = dict(type='RobustVideoDataset')
    four = dict(ours, num_repeats=4)
    assert clips_per_video(ours) == 1
    assert clips_per_video(repeat(four, 5)) == 4
    assert clips_per_video(concat(four, repeat(four, 2))) == 4
    # MMAction2's has a default of its own.
    assert clips_per_video(dict(type='RepeatAugDataset')) == 4
    assert clips_per_video(dict(type='RepeatAugDataset', num_repeats=2)) == 2
    assert clips_per_video(dict(type='VideoDataset')) == 1
    with pytest.raises(UsageError, match=r'different num_repeats \(1, 4\)'):
        clips_per_video(concat(four, ours))


def test_passes_of_an_epoch():
    ours = dict(type='RobustVideoDataset')
    assert passes_per_epoch(ours) == 1
    assert passes_per_epoch(repeat(repeat(ours, 2), 3)) == 6
    assert passes_per_epoch(concat(repeat(ours, 2), repeat(ours, 2))) == 2
    for unknown in (balance(ours), concat(ours, repeat(ours, 2))):
        assert passes_per_epoch(unknown) is None
        assert passes_per_epoch(repeat(unknown, 2)) is None


def test_a_part_without_a_single_good_video(lists, tmp_path):
    bad = tmp_path / 'bad.mp4'
    bad.write_bytes(b'no video')
    (tmp_path / 'one.txt').write_text(f'{bad} 1\n')
    test = dict(test_mode=True, leave_out=True)
    dataset = DATASETS.build(
        concat(
            config(lists['a'], **test),
            config(str(tmp_path / 'one.txt'), **test),
        )
    )
    with pytest.raises(TooManyBadVideosError, match='the only one'):
        dataset[SampleIndex(4, 0)]
