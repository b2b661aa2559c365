# Copyright (c) MotionMAE contributors. All rights reserved.
import os
import shutil

import numpy as np
import pytest
import torch
from mmaction.registry import DATA_SAMPLERS, DATASETS, TRANSFORMS
from mmcv.transforms import BaseTransform
from mmengine.logging import MMLogger

from mmmotionmae.datasets import RobustVideoDataset
from mmmotionmae.utils.errors import (
    AnnotationError,
    PipelineError,
    TooManyBadVideosError,
    VideoTimeoutError,
)
from mmmotionmae.utils.seeding import SampleIndex

DECODE = [
    dict(type='DecordInit'),
    dict(type='SampleFrames', clip_len=4, frame_interval=1),
    dict(type='DecordDecode'),
]


def build(ann_file='', video='', **kwargs):
    cfg = dict(
        type='RobustVideoDataset',
        pipeline=DECODE,
        ann_file=str(ann_file),
        data_prefix=dict(video=str(video)),
    )
    return DATASETS.build(cfg | kwargs)


def listed(dataset):
    """(path, label) of every sample."""
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return [(info['filename'], info['label']) for info in infos]


@pytest.fixture
def warnings(caplog):
    """The warnings of broken videos logged so far, as texts."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield lambda: [
        record.getMessage()
        for record in caplog.records
        if record.levelname == 'WARNING'
        and 'cannot be loaded' in record.getMessage()
    ]
    logger.removeHandler(caplog.handler)


@pytest.fixture
def folder(tmp_path, shapes_dir):
    """Eight videos, of which 2, 3 (cut off) and 7 (empty) are broken."""
    root = tmp_path / 'videos'
    root.mkdir()
    source = shapes_dir / 'videos' / 'pretrain'
    for i in range(8):
        shutil.copy(source / f'{i:05d}.mp4', root / f'{i}.mp4')
    for name in ('2.mp4', '3.mp4'):
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: len(content) // 2])
    (root / '7.mp4').write_bytes(b'')
    return root


# ----------------------------------------------------------------- lists


def test_a_list_is_read_as_the_stock_dataset_reads_it(shapes_dir):
    ours = build(shapes_dir / 'train.txt', shapes_dir)
    stock = build(shapes_dir / 'train.txt', shapes_dir, type='VideoDataset')
    assert len(ours) == 16
    for i in range(16):
        assert ours.get_data_info(i) == stock.get_data_info(i)
    np.random.seed(0)
    sample = ours[3]
    np.random.seed(0)
    expected = stock[3]
    assert np.array_equal(sample['imgs'], expected['imgs'])
    assert sample['label'] == expected['label'] == 3


def test_a_missing_list(tmp_path):
    with pytest.raises(FileNotFoundError, match='no annotation file.*no.txt'):
        build(tmp_path / 'no.txt')


# --------------------------------------------------------------- folders


def test_a_folder_with_its_sub_folders(tmp_path, monkeypatch):
    for name in ('b.mp4', 'a/d.MKV', 'a/c/my film.webm', 'a/x.txt', 'mp4'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    expected = ['a/c/my film.webm', 'a/d.MKV', 'b.mp4']
    assert listed(build(video=tmp_path)) == [
        (str(tmp_path / name), -1) for name in expected
    ]
    monkeypatch.chdir(tmp_path)
    assert listed(build()) == [(name, -1) for name in expected]


def test_a_missing_or_empty_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match='no folder.*nowhere'):
        build(video=tmp_path / 'nowhere')
    with pytest.raises(FileNotFoundError, match='no video below'):
        build(video=tmp_path)


# --------------------------------------------------------- broken videos


def test_a_broken_video_is_replaced_and_reported_once(folder, warnings):
    dataset = build(video=folder)
    broken = [str(folder / f'{i}.mp4') for i in (2, 3, 7)]
    for _ in range(3):
        for i in range(8):
            results = dataset[i]
            assert results['filename'] not in broken
            assert len(results['imgs']) == 4
            if i not in (2, 3, 7):
                assert results['filename'] == str(folder / f'{i}.mp4')
    messages = warnings()
    for path in broken:
        (message,) = (m for m in messages if m.startswith(repr(path)))
        assert 'cannot be loaded: RuntimeError: ' in message
        assert message.endswith('Another video takes its place.')
        assert '\n' not in message
    assert len(messages) == 3


def test_a_vanished_file_and_a_transform_without_result(folder, warnings):
    class NothingFromFour(BaseTransform):
        def transform(self, results):
            return None if '4.mp4' in results['filename'] else results

    os.remove(folder / '0.mp4')
    ann_file = folder / 'list.txt'
    ann_file.write_text('0.mp4\n1.mp4\n4.mp4\n')
    dataset = build(
        ann_file,
        folder,
        pipeline=[*DECODE, NothingFromFour()],
        max_bad_share=0.7,
    )
    for i in range(3):
        assert dataset[i]['filename'] == str(folder / '1.mp4')
    missing, nothing = warnings()
    assert '0.mp4' in missing and 'FileNotFoundError' in missing
    assert '4.mp4' in nothing and 'returned None' in nothing


def epoch_of(folder, epoch, seed=5):
    """Files and frames of one epoch, in a fresh process' state."""
    np.random.seed(None)
    dataset = build(video=folder, pipeline=[dict(type='SeedSample'), *DECODE])
    sampler = DATA_SAMPLERS.build(
        dict(type='SeededSampler', dataset=dataset, seed=seed)
    )
    sampler.set_epoch(epoch)
    samples = [dataset[i] for i in sampler]
    return (
        [os.path.basename(s['filename']) for s in samples],
        [s['frame_inds'].tolist() for s in samples],
    )


def test_the_replacement_is_deterministic_with_the_seeded_sampler(folder):
    epochs = [epoch_of(folder, epoch) for epoch in range(4)]
    assert [epoch_of(folder, epoch) for epoch in range(4)] == epochs
    names = [epoch[0] for epoch in epochs]
    for files in names:
        assert {'0.mp4', '1.mp4', '4.mp4', '5.mp4', '6.mp4'} == set(files)
        assert len(files) == 8
    # Not always the same ones.
    assert len({tuple(sorted(files)) for files in names}) > 1


def test_the_replacement_does_not_depend_on_the_number_of_workers(folder):
    def load(workers):
        dataset = build(
            video=folder, pipeline=[dict(type='SeedSample'), *DECODE]
        )
        sampler = DATA_SAMPLERS.build(
            dict(type='SeededSampler', dataset=dataset, seed=1)
        )
        loader = torch.utils.data.DataLoader(
            dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=workers,
            multiprocessing_context='fork' if workers else None,
            collate_fn=lambda s: (s['filename'], s['frame_inds'].tolist()),
        )
        return list(loader)

    assert load(2) == load(0)


@pytest.mark.parametrize('seeded', [False, True])
def test_training_ends_if_everything_is_broken(folder, warnings, seeded):
    for file in folder.iterdir():
        file.write_bytes(b'no video')
    dataset = build(video=folder, max_refetch=20, max_bad_share=1)
    sampler = DATA_SAMPLERS.build(
        dict(type='SeededSampler', dataset=dataset, seed=0)
    )
    index = next(iter(sampler)) if seeded else 0
    with pytest.raises(RuntimeError, match=r'21 videos in a row') as error:
        dataset[index]
    assert 'The last one: ' in str(error.value)
    assert str(folder) in str(error.value)
    assert isinstance(error.value.__cause__, RuntimeError)
    assert len(set(warnings())) == len(warnings()) <= 8


def test_in_test_mode_a_broken_video_is_an_error(folder, warnings):
    dataset = build(video=folder, test_mode=True)
    assert dataset[1]['filename'] == str(folder / '1.mp4')
    with pytest.raises(RuntimeError, match='2.mp4.*cannot be loaded: '):
        dataset[2]
    assert warnings() == []


@pytest.mark.parametrize(
    ('share', 'stops'), [(0.1, True), (0.24, True), (0.38, False)]
)
def test_training_ends_if_too_large_a_share_is_bad(folder, share, stops):
    dataset = build(video=folder, max_bad_share=share)
    if not stops:
        assert [dataset[i]['filename'] for i in (0, 1)] == [
            str(folder / '0.mp4'),
            str(folder / '1.mp4'),
        ]
        for i in range(8):
            dataset[i]
        return
    with pytest.raises(TooManyBadVideosError) as error:
        for i in range(8):
            dataset[i]
    bad = 1 + int(share * 8)
    assert f'{bad} of 8 videos cannot be loaded' in str(error.value)
    assert f'max_bad_share={share}' in str(error.value)
    assert '.mp4' in str(error.value)


def test_a_video_that_takes_too_long_is_tried_once_only(folder, warnings):
    calls = []

    class Slow(BaseTransform):
        def transform(self, results):
            calls.append(os.path.basename(results['filename']))
            if '0.mp4' in results['filename']:
                raise VideoTimeoutError('reading it takes more than 1 s')
            return results

    dataset = build(video=folder, pipeline=[Slow(), *DECODE], max_bad_share=1)
    for _ in range(3):
        for i in range(8):
            dataset[i]
    assert calls.count('0.mp4') == 1
    assert calls.count('1.mp4') >= 3
    assert len(warnings()) == 4


def test_wrong_arguments(folder):
    with pytest.raises(ValueError, match='at least 1'):
        build(video=folder, num_repeats=0)
    with pytest.raises(ValueError, match='1 in test mode'):
        build(video=folder, num_repeats=2, test_mode=True)
    with pytest.raises(ValueError, match='ends in "Decode".*SeedSample'):
        build(video=folder, num_repeats=2, pipeline=[dict(type='SeedSample')])


def test_a_fault_of_the_pipeline_is_named(folder):
    """Not a broken file, but the reason is in the message all the same."""

    @TRANSFORMS.register_module(force=True)
    class AlwaysFails(BaseTransform):
        def transform(self, results):
            raise KeyError('clip_lenght')

    dataset = build(
        video=folder,
        pipeline=[dict(type='AlwaysFails')],
        max_refetch=2,
        max_bad_share=1,
    )
    with pytest.raises(PipelineError, match='AlwaysFails .*KeyError.*clip_le'):
        dataset[0]
    assert dataset.bad_videos.read() == {}


def test_real_clips_with_their_mmaction2_lists(shared_data):
    root = shared_data / 'actions7'
    dataset = RobustVideoDataset(
        ann_file=str(root / 'train_list.txt'),
        data_prefix=dict(video=str(root)),
        pipeline=[
            dict(type='DecordInit'),
            dict(type='SampleFrames', clip_len=16, frame_interval=2),
            dict(type='DecordDecode'),
            dict(type='Resize', scale=(64, 64), keep_ratio=False),
            dict(type='FormatShape', input_format='NCTHW'),
            dict(type='PackActionInputs'),
        ],
        test_mode=True,
    )
    assert len(dataset) == 51
    labels = [dataset.get_data_info(i)['label'] for i in range(51)]
    assert set(labels) == set(range(7))
    for i in range(0, 51, 10):
        sample = dataset[i]
        assert sample['inputs'].shape == (1, 3, 16, 64, 64)
        assert sample['inputs'].float().std() > 10  # a picture, not a blank
        assert sample['data_samples'].gt_label.item() == labels[i]


# --------------------------------------------------------- which clip it is


@pytest.mark.parametrize('num_repeats', [1, 3])
def test_samples_of_a_training_say_which_clip_they_are(folder, num_repeats):
    pipeline = [
        *DECODE,
        dict(type='FormatShape', input_format='NCTHW'),
        dict(type='PackActionInputs'),
    ]
    dataset = build(video=folder, pipeline=pipeline, num_repeats=num_repeats)
    for index in (SampleIndex(5, seed=9), SampleIndex(3, seed=9), 1):
        sample = dataset[index]
        clips = sample if num_repeats > 1 else [sample]
        assert len(clips) == num_repeats
        for clip in clips:
            meta = clip['data_samples'].metainfo
            shown = meta['sample_idx']
            assert type(shown) is int
            assert meta['filename'] == str(folder / f'{shown}.mp4')
            # That of the video in its place, where one is broken.
            assert shown not in (2, 3, 7)
            assert (shown == index) == (index != 3)
            assert meta.get('sample_seed') == getattr(index, 'seed', None)


def test_samples_of_a_test_are_as_they_are(folder):
    pipeline = [
        *DECODE,
        dict(type='FormatShape', input_format='NCTHW'),
        dict(type='PackActionInputs'),
    ]
    dataset = build(video=folder, pipeline=pipeline, test_mode=True)
    assert 'filename' not in dataset[0]['data_samples']


def test_lists_of_windows_are_refused(tmp_path):
    lists = tmp_path / 'list.txt'
    for line in (r'a\b.mp4 1', r'C:\videos\b.mp4 1', r'a\b.mp4'):
        lists.write_text(f'{line}\n')
        with pytest.raises(AnnotationError, match='list.txt has paths of Win'):
            build(lists, tmp_path)
    lists.write_text('a\\b 12 1\n')
    with pytest.raises(AnnotationError, match='list.txt has paths of Win'):
        build(lists, data_prefix=dict(img=str(tmp_path)))
    # But a name may have a backslash in it.
    (tmp_path / r'a\b.mp4').touch()
    lists.write_text('a\\b.mp4 1\nmissing.mp4 0\n')
    assert listed(build(lists, tmp_path))[0] == (rf'{tmp_path}/a\b.mp4', 1)
