# Copyright (c) MotionMAE contributors. All rights reserved.
"""Features of videos: the values, the files, and going on."""

import json
import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch
from conftest import TINY_BACKBONE
from helpers.video_files import encode, picture
from mmaction.datasets import VideoDataset
from mmaction.registry import MODELS
from mmengine.dataset import pseudo_collate

from mmmotionmae.apis import UsageError
from mmmotionmae.apis.features import extract_features, read_features
from mmmotionmae.apis.features.clips import ClipDataset
from mmmotionmae.apis.features.parts import FileSink
from mmmotionmae.datasets.readers import open_video

QUICK = dict(num_workers=0, device='cpu', progress=False)
CLOSE = dict(rtol=1e-4, atol=1e-4)
LABELS = [3, 1, 4, 1, 5, 9, 2]


@pytest.fixture(scope='module')
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp('originals')
    for i in range(len(LABELS)):
        encode(
            folder / f'{i}.mp4',
            num_frames=24 + i,
            size=(64, 48),
            draw=lambda t, size, i=i: picture(3 * t + 50 * i, size),
        )
    return folder


@pytest.fixture
def videos(originals, tmp_path):
    """Seven videos with labels, and their list."""
    folder = tmp_path / 'videos'
    folder.mkdir()
    for path in originals.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    lines = [f'{i}.mp4 {label}\n' for i, label in enumerate(LABELS)]
    (folder / 'list.txt').write_text(''.join(lines))
    return folder


def build(**backbone):
    """A recognizer whose normalisation is its own."""
    model = MODELS.build(
        dict(
            type='Recognizer3D',
            backbone=TINY_BACKBONE
            | dict(type='FusedVisionTransformer')
            | backbone,
            cls_head=dict(
                type='TimeSformerHead', num_classes=5, in_channels=32
            ),
            data_preprocessor=dict(
                type='ActionDataPreprocessor',
                mean=[100.0, 110.0, 120.0],
                std=[50.0, 60.0, 70.0],
                to_rgb=True,
                format_shape='NCTHW',
            ),
        )
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def extract(model, videos, out=None, **kwargs):
    """Of the list, three videos at a time."""
    options = QUICK | dict(data_prefix=videos, batch_size=3) | kwargs
    return extract_features(model, videos / 'list.txt', out, **options)


def files_in(folder):
    """What the test has written."""
    return sorted(path.name for path in folder.iterdir() if path.is_file())


@pytest.fixture
def loaded(monkeypatch):
    """The names of the videos that have been loaded."""
    names, load = [], ClipDataset.prepare_data

    def prepare_data(self, idx):
        names.append(self.short_name(self.name_of(idx)))
        return load(self, idx)

    monkeypatch.setattr(ClipDataset, 'prepare_data', prepare_data)
    return names


# The values


@pytest.mark.parametrize('num_clips, num_crops', [(1, 1), (2, 3)])
def test_what_the_head_of_a_recognizer_sees(videos, num_clips, num_crops):
    """By MMAction2's data set, decoder, transforms, model and head."""
    model = build().eval()
    transforms = [
        dict(type='PyAVInit'),
        dict(
            type='SampleFrames',
            clip_len=8,
            frame_interval=2,
            num_clips=num_clips,
            test_mode=True,
        ),
        dict(type='PyAVDecode'),
        dict(type='Resize', scale=(-1, 32)),
        dict(
            type='CenterCrop' if num_crops == 1 else 'ThreeCrop', crop_size=32
        ),
        dict(type='FormatShape', input_format='NCTHW'),
        dict(type='PackActionInputs'),
    ]
    prefix = dict(video=str(videos))
    stock = VideoDataset(
        str(videos / 'list.txt'), transforms, prefix, test_mode=True
    )
    seen = []
    model.cls_head.fc_cls.register_forward_pre_hook(
        lambda module, args: seen.append(args[0])
    )
    with torch.no_grad():
        for i in range(len(stock)):
            model.test_step(pseudo_collate([stock[i]]))
    views = torch.stack(seen).numpy()  # (N, V, D)
    assert views.shape[1] == num_clips * num_crops

    options = dict(frame_interval=2, num_clips=num_clips, num_crops=num_crops)
    kept = extract(model, videos, views='all', **options)
    np.testing.assert_allclose(kept.values, views, **CLOSE)
    features = extract(model, videos, **options)
    np.testing.assert_allclose(features.values, views.mean(1), **CLOSE)
    assert features.labels.tolist() == LABELS
    assert features.names == [f'{i}.mp4' for i in range(7)]
    assert features.bad_videos == {}
    # Videos differ by more than what is allowed.
    assert features.values.std(0).mean() > 0.01


def test_shapes_and_how_they_hang_together(videos):
    model = build(type='MotionMAEViT')
    options = dict(frame_interval=2, final_norm=False)
    maps = extract(model, videos, pooling='none', **options).values
    assert maps.shape == (7, 4, 4, 4, 32)
    for pooling, axes in dict(mean=(1, 2, 3), space=(2, 3), time=1).items():
        values = extract(model, videos, pooling=pooling, **options).values
        np.testing.assert_allclose(values, maps.mean(axes), **CLOSE)
    both = extract(model, videos, block=(1, 0, -1), **options).values
    assert both.shape == (7, 3, 32)
    first = extract(model, videos, block=0, **options).values
    assert np.array_equal(both[:, 1], first)
    assert np.array_equal(both[:, 0], both[:, 2])
    np.testing.assert_allclose(both[:, 0], maps.mean((1, 2, 3)), **CLOSE)
    everything = extract(
        model,
        videos,
        block=(0, 1),
        pooling='time',
        num_clips=2,
        num_crops=3,
        views='all',
        **options,
    )
    assert everything.values.shape == (7, 6, 2, 4, 4, 32)


def test_other_lengths_and_sizes(videos):
    model = build(type='MotionMAEViT')
    options = dict(num_frames=12, img_size=40, pooling='none')
    maps = extract(model, videos, frame_interval=1, **options)
    assert maps.values.shape == (7, 6, 5, 5, 32)
    uniform = extract(model, videos, frame_interval=None, **options)
    assert not np.allclose(uniform.values, maps.values, atol=0.01)


def test_half_precision(videos):
    model = build()
    exact = extract(model, videos).values
    half = extract(model, videos, dtype='float16').values
    assert half.dtype == np.float16
    assert np.array_equal(half, exact.astype(np.float16))
    rough = extract(model, videos, amp='bf16').values
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - exact).max() < 0.2 * exact.std()


def test_all_kinds_of_inputs(videos):
    model = build()
    want = extract(model, videos).values
    paths = [str(videos / f'{i}.mp4') for i in range(7)]
    arrays = []
    for path in paths:
        with open_video(path) as video:
            arrays.append(
                np.stack(list(video.frames(range(video.num_frames))))
            )
    options = QUICK | dict(batch_size=3)
    for inputs in (videos, paths, arrays):
        features = extract_features(model, inputs, **options)
        assert np.array_equal(features.values, want)
        assert features.labels is None
    assert features.names[6] == 'array 6'
    labelled = extract_features(model, paths, labels=LABELS, **options)
    assert labelled.labels.tolist() == LABELS
    single = extract_features(model, paths[2], **options)
    np.testing.assert_allclose(single.values, want[2:3], **CLOSE)
    single = extract_features(model, arrays[2], **options)
    np.testing.assert_allclose(single.values, want[2:3], **CLOSE)


def test_folders_of_raw_frames(videos, tmp_path):
    cv2 = pytest.importorskip('cv2')
    lines = []
    for i in (0, 1):
        folder = tmp_path / f'frames/{i}'
        folder.mkdir(parents=True)
        with open_video(str(videos / f'{i}.mp4')) as video:
            for t, frame in enumerate(video.frames(range(video.num_frames))):
                cv2.imwrite(str(folder / f'{t:03}.png'), frame[..., ::-1])
        lines.append(f'{i} {video.num_frames - 1} {i}\n')
    path = tmp_path / 'frames.txt'
    path.write_text(''.join(lines))
    model = build()
    features = extract_features(
        model, tmp_path / 'frames', frames=True, **QUICK
    )
    want = extract(model, videos).values[:2]
    np.testing.assert_allclose(features.values, want, **CLOSE)
    listed = extract_features(  # from the second frame on
        model,
        path,
        frames=True,
        data_prefix=tmp_path / 'frames',
        filename_tmpl='{:03}.png',
        **QUICK,
    )
    assert listed.labels.tolist() == [0, 1]
    assert not np.allclose(listed.values, want, atol=1e-3)


def test_workers_and_the_mode_of_the_encoder(videos):
    model = build(drop_rate=0.5, drop_path_rate=0.5).train()
    want = extract(model, videos).values
    model.train()
    got = extract(model, videos, num_workers=2).values
    assert np.array_equal(got, want)


def test_the_encoder_of_several_models(videos, tiny_model):
    """Pixels are normalised as the model wants it, or as ImageNet's."""
    whole = tiny_model()
    features = extract(whole, videos)
    alone = extract(whole.backbone, videos)
    assert np.array_equal(features.values, alone.values)
    clips = features.card['fingerprint']['clips']
    np.testing.assert_allclose(clips['mean'], [123.675, 116.28, 103.53])
    np.testing.assert_allclose(clips['std'], [58.395, 57.12, 57.375])
    assert (
        extract(build(), videos).card['fingerprint']['clips']['to_rgb'] is True
    )


def test_a_checkpoint_needs_no_config(videos, tiny_model, tmp_path):
    model = tiny_model(backbone=dict(embed_dims=64, num_heads=1))
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    want = extract(model, videos, tmp_path / 'a.npy')
    got = extract(
        str(path),
        videos,
        tmp_path / 'b.npy',
        load_options=dict(num_heads=1, trained_img_size=32),
    )
    np.testing.assert_allclose(got.values, want.values, **CLOSE)
    assert got.card['fingerprint'] == want.card['fingerprint']
    assert got.card['checkpoint']['path'] == str(path)
    assert len(got.card['checkpoint']['sha256']) == 64


# Files


@pytest.mark.parametrize('suffix', ['.npy', '.h5'])
def test_files(videos, tmp_path, suffix):
    if suffix == '.h5':
        pytest.importorskip('h5py')
    model = build()
    want = extract(model, videos)
    out = tmp_path / f'new/features{suffix}'
    extract(model, videos, out)
    got = read_features(out)
    assert np.array_equal(got.values[:], want.values)
    assert got.values.dtype == np.float32
    assert got.names == want.names
    assert got.labels.tolist() == LABELS and got.labels.dtype == np.int64
    assert got.card['fingerprint'] == want.card['fingerprint']
    assert len(got) == 7
    others = ['features.json'] if suffix == '.npy' else []
    assert files_in(out.parent) == [*others, out.name]


def test_files_without_our_code(videos, tmp_path):
    h5py = pytest.importorskip('h5py')
    model = build()
    extract(model, videos, tmp_path / 'a.npy')
    extract(model, videos, tmp_path / 'a.h5')
    values = np.load(tmp_path / 'a.npy')
    info = json.loads((tmp_path / 'a.json').read_text())
    assert info['labels'] == LABELS and info['names'][1] == '1.mp4'
    with h5py.File(tmp_path / 'a.h5') as file:
        assert np.array_equal(file['features'], values)
        assert file['labels'][:].tolist() == LABELS
        assert file['names'].asstr()[1] == '1.mp4'
        card = json.loads(file.attrs['card'])
    assert card['fingerprint'] == info['card']['fingerprint']


def test_without_labels(videos, tmp_path):
    h5py = pytest.importorskip('h5py')
    for name in ('a.npy', 'a.h5'):
        features = extract_features(build(), videos, tmp_path / name, **QUICK)
        assert features.labels is None
    with h5py.File(tmp_path / 'a.h5') as file:
        assert 'labels' not in file


def test_a_complete_file_is_left_alone(videos, tmp_path, loaded):
    model, out = build(), tmp_path / 'a.npy'
    first = np.array(extract(model, videos, out).values)
    before, changed = len(loaded), out.stat().st_mtime_ns
    again = extract(model, videos, out)
    assert np.array_equal(again.values, first)
    assert len(loaded) == before and out.stat().st_mtime_ns == changed
    with pytest.raises(UsageError, match='holds other features .*final_norm'):
        extract(model, videos, out, final_norm=False)
    other = extract(model, videos, out, final_norm=False, overwrite=True)
    assert not np.array_equal(other.values, first)
    assert len(loaded) == 2 * before
    assert files_in(tmp_path) == ['a.json', 'a.npy']


def test_no_other_file_is_overwritten(videos, tmp_path):
    (tmp_path / 'a.json').write_text('mine')
    with pytest.raises(UsageError, match=r'a\.json exists already'):
        extract(build(), videos, tmp_path / 'a.npy')
    assert (tmp_path / 'a.json').read_text() == 'mine'
    assert files_in(tmp_path) == ['a.json']


@pytest.mark.parametrize(
    'name, content, message',
    [
        ('a.txt', b'', 'written to .npy or .h5'),
        ('a.npy', None, r'There is no file .*a\.npy'),
        ('a.npy', b'', r'a\.npy has no a\.json beside it'),
        ('a.h5', b'nothing', 'holds no features of extract_features'),
    ],
)
def test_files_that_hold_no_features(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises((UsageError, FileNotFoundError), match=message):
        read_features(tmp_path / name)


# Going on


def interrupt(monkeypatch, after):
    """Press Ctrl-C once this many batches are stored."""
    add, count = FileSink.add, [0]

    def interrupted(self, *args):
        if count[0] == after:
            raise KeyboardInterrupt
        count[0] += 1
        add(self, *args)

    monkeypatch.setattr(FileSink, 'add', interrupted)


def start(monkeypatch, model, videos, out, after=1):
    with monkeypatch.context() as patch:
        interrupt(patch, after)
        with pytest.raises(KeyboardInterrupt):
            extract(model, videos, out)


@pytest.mark.parametrize('suffix', ['.npy', '.h5'])
@pytest.mark.parametrize('after', [0, 1, 2])
def test_going_on_gives_the_same_bits(
    videos, tmp_path, monkeypatch, loaded, suffix, after
):
    if suffix == '.h5':
        pytest.importorskip('h5py')
    model = build()
    want = extract(model, videos, tmp_path / f'want{suffix}')
    out = tmp_path / f'got{suffix}'
    start(monkeypatch, model, videos, out, after)
    assert not out.exists()
    loaded.clear()
    got = extract(model, videos, out)
    assert loaded == [f'{i}.mp4' for i in range(3 * after, 7)]
    assert np.array_equal(got.values[:], want.values[:])
    if suffix == '.npy':
        assert out.read_bytes() == (tmp_path / 'want.npy').read_bytes()
    assert not [name for name in files_in(tmp_path) if 'part' in name]


@pytest.mark.parametrize(
    'damage, left',
    [
        ('half a row', 3),
        ('half a line', 3),
        ('a bit', 0),
        ('rows too many', 6),
    ],
)
def test_going_on_after_a_crash(
    videos, tmp_path, monkeypatch, loaded, damage, left
):
    model, out = build(), tmp_path / 'a.npy'
    want = extract(model, videos).values
    start(monkeypatch, model, videos, out, after=2)
    part, log = (tmp_path / f'a.npy.part{end}' for end in ('', '.log'))
    data = part.read_bytes()
    row = 32 * 4
    if damage == 'half a row':
        part.write_bytes(data[: -row // 2])
    elif damage == 'half a line':
        log.write_bytes(log.read_bytes()[:-5])
    elif damage == 'a bit':
        place = len(data) - 5 * row  # in the first batch
        flipped = bytes([data[place] ^ 1])
        part.write_bytes(data[:place] + flipped + data[place + 1 :])
    else:
        part.write_bytes(data + b'x' * 10 * row)
    loaded.clear()
    got = extract(model, videos, out)
    assert loaded == [f'{i}.mp4' for i in range(left, 7)]
    assert np.array_equal(got.values, want)
    assert np.load(out).shape == (7, 32)
    extract(model, videos, tmp_path / 'b.npy')
    assert out.read_bytes() == (tmp_path / 'b.npy').read_bytes()


def test_going_on_twice(videos, tmp_path, monkeypatch, loaded):
    """What a killed run has left half written does not spoil the next one."""
    model, out = build(), tmp_path / 'a.npy'
    want = extract(model, videos).values
    start(monkeypatch, model, videos, out)
    log = tmp_path / 'a.npy.part.log'
    log.write_bytes(log.read_bytes() + b'{"stop": 6, "crc"')
    start(monkeypatch, model, videos, out)
    loaded.clear()
    assert np.array_equal(extract(model, videos, out).values, want)
    assert loaded == ['6.mp4']


def test_another_process_was_killed(videos, tmp_path):
    """By SIGKILL, at some moment."""
    model, out = build(), tmp_path / 'a.npy'
    want = extract(model, videos).values
    pid = os.fork()
    if not pid:
        try:
            add = FileSink.add

            def killed(self, rows, bad):
                if self.done:
                    self._file.write(b'rubbish')
                    self._file.flush()
                    os.kill(os.getpid(), signal.SIGKILL)
                add(self, rows, bad)

            FileSink.add = killed
            torch.set_num_threads(1)
            extract(model, videos, out)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    assert files_in(tmp_path) == ['a.npy.part', 'a.npy.part.log']
    assert np.array_equal(extract(model, videos, out).values, want)


def test_what_has_changed_is_refused(videos, tmp_path, monkeypatch):
    model, out = build(), tmp_path / 'a.npy'
    start(monkeypatch, model, videos, out)
    for changes in (
        dict(block=0),
        dict(pooling='time'),
        dict(num_clips=2),
        dict(frame_interval=1),
        dict(labels=[0] * 7),
    ):
        with pytest.raises(UsageError, match='beginning of other features'):
            extract(model, videos, out, **changes)
    with pytest.raises(UsageError, match='weights: .* -> '):
        extract(build(), videos, out)
    # Neither of these changes the result.
    got = extract(model, videos, out, batch_size=2, num_workers=1)
    np.testing.assert_allclose(
        got.values, extract(model, videos).values, **CLOSE
    )


def test_starting_anew(videos, tmp_path, monkeypatch):
    model, out = build(), tmp_path / 'a.npy'
    start(monkeypatch, model, videos, out)
    got = extract(model, videos, out, block=0, overwrite=True)
    want = extract(model, videos, block=0)
    assert np.array_equal(got.values, want.values)
    assert files_in(tmp_path) == ['a.json', 'a.npy']


def test_two_at_a_time(videos, tmp_path, monkeypatch):
    model, out = build(), tmp_path / 'a.npy'
    add = FileSink.add

    def second(self, rows, bad):
        monkeypatch.setattr(FileSink, 'add', add)
        with pytest.raises(UsageError, match='Another process is writing'):
            extract(model, videos, out)
        add(self, rows, bad)

    monkeypatch.setattr(FileSink, 'add', second)
    got = extract(model, videos, out)
    assert np.array_equal(got.values, extract(model, videos).values)


# Bad videos


@pytest.mark.parametrize('num_workers', [0, 2])
def test_bad_videos(videos, tmp_path, num_workers):
    model = build()
    want = extract(model, videos).values
    (videos / '1.mp4').write_bytes(b'')
    (videos / '4.mp4').unlink()
    (videos / '6.mp4').write_bytes(b'no video')
    out = tmp_path / 'a.npy'
    got = extract(model, videos, out, num_workers=num_workers)
    bad = [False, True, False, False, True, False, True]
    assert np.isnan(got.values).any(1).tolist() == bad
    assert np.isnan(got.values).all(1).tolist() == bad
    good = ~np.array(bad)
    np.testing.assert_allclose(got.values[good], want[good], **CLOSE)
    assert got.labels.tolist() == LABELS
    assert got.bad_videos == read_features(out).bad_videos
    assert list(got.bad_videos) == ['1.mp4', '4.mp4', '6.mp4']
    assert got.bad_videos['1.mp4'] == 'the file is empty'


def test_bad_videos_are_known_after_going_on(videos, tmp_path, monkeypatch):
    model, out = build(), tmp_path / 'a.npy'
    (videos / '1.mp4').write_bytes(b'')
    start(monkeypatch, model, videos, out)
    got = extract(model, videos, out)
    assert got.bad_videos == {'1.mp4': 'the file is empty'}
    assert np.isnan(got.values[1]).all()


def test_a_video_that_crashes_the_decoder(videos, tmp_path, monkeypatch):
    model, load = build(), ClipDataset.prepare_data
    want = extract(model, videos).values

    def prepare_data(self, idx):
        if idx in (2, 5):
            os.kill(os.getpid(), signal.SIGSEGV)
        return load(self, idx)

    monkeypatch.setattr(ClipDataset, 'prepare_data', prepare_data)
    # The default from Python 3.14 on: processes without what is set above.
    multiprocessing.set_start_method('forkserver', force=True)
    got = extract(model, videos, tmp_path / 'a.npy', num_workers=1)
    assert list(got.bad_videos) == ['2.mp4', '5.mp4']
    assert 'its loader process died' in got.bad_videos['2.mp4']
    good = np.array([0, 1, 3, 4, 6])
    assert np.isnan(got.values[[2, 5]]).all()
    np.testing.assert_allclose(got.values[good], want[good], **CLOSE)


def test_nothing_can_be_read(videos, tmp_path):
    model, out = build(), tmp_path / 'a.npy'
    with pytest.raises(UsageError, match=r'None of the 7 .*data_prefix'):
        extract(model, videos, out, data_prefix='elsewhere')
    for i in range(7):
        (videos / f'{i}.mp4').write_bytes(b'')
    with pytest.raises(UsageError, match="None of the 7 .* '0.mp4': the file"):
        extract(model, videos, out)
    assert files_in(tmp_path) == []


def test_values_that_are_not_finite(videos, tmp_path):
    model = build()
    model.backbone.fc_norm.bias.data[:] = 1e5
    with pytest.raises(UsageError, match=r'0\.mp4. is not finite.*float16'):
        extract(model, videos, dtype='float16')
    assert np.isfinite(extract(model, videos).values).all()


@pytest.mark.parametrize(
    'bad, message',
    [
        (dict(block=2), 'has 2 blocks; there is no block 2'),
        (dict(block=()), 'No block is asked for'),
        (dict(pooling='max'), "pooling must be one of mean, .* not 'max'"),
        (dict(views='first'), "views must be one of mean, all, not 'first'"),
        (dict(dtype='int8'), 'dtype must be one of float32, float16'),
        (dict(amp='fp8'), 'amp must be one of None, bf16, fp16'),
        (dict(amp='fp16'), 'amp fp16 needs a GPU'),
        (dict(num_frames=7), 'frames is 7, not a multiple of 2'),
        (dict(img_size=33), 'height is 33, not a multiple of 8'),
        (dict(num_clips=0), 'num_clips must be at least 1, not 0'),
        (dict(batch_size=0), 'batch_size must be at least 1, not 0'),
        (dict(num_crops=10), 'num_crops must be 1 or 3, not 10'),
        (dict(labels=[1, 2]), 'There are 2 labels, 7 videos'),
        (dict(labels=[-1] * 7), 'Labels are from 0; one is -1'),
        (dict(out='a.npz'), 'written to .npy or .h5'),
    ],
)
def test_bad_arguments(videos, bad, message):
    with pytest.raises(UsageError, match=message):
        extract(build(), videos, **bad)


def test_bad_inputs_and_models(videos, tmp_path):
    model = build()
    with pytest.raises(FileNotFoundError, match='no list, folder or video'):
        extract_features(model, tmp_path / 'no.txt', **QUICK)
    with pytest.raises(UsageError, match='is a folder; data_prefix is for'):
        extract_features(model, videos, data_prefix='x', **QUICK)
    with pytest.raises(UsageError, match='no video to encode'):
        extract_features(model, [], **QUICK)
    with pytest.raises(UsageError, match=r'number 1 is float64 \(4, 9, 9, 3'):
        arrays = [np.zeros((4, 9, 9, 3), np.uint8), np.zeros((4, 9, 9, 3))]
        extract_features(model, arrays, **QUICK)
    with pytest.raises(UsageError, match='encoder is a Linear; .* MMAction2'):
        extract_features(torch.nn.Linear(1, 1), videos, **QUICK)
    with pytest.raises(UsageError, match='model is a int'):
        extract_features(3, videos, **QUICK)
