# Copyright (c) MotionMAE contributors. All rights reserved.
"""`MotionMAEInferencer`: what it reads and writes."""

import json
import pickle

import av
import numpy as np
import pytest
import torch
from conftest import TINY_BACKBONE, TINY_MODEL
from helpers.inferencer_inputs import some_video, write_frames, write_lossless
from PIL import Image
from transformers import VideoMAEConfig, VideoMAEModel

from mmmotionmae.apis import UsageError
from mmmotionmae.apis import pretrained as loading
from mmmotionmae.apis.inferencer import MotionMAEInferencer, list_inputs, steps
from mmmotionmae.utils.errors import CheckpointError

# What the tensors of a tiny network do not tell.
HINTS = dict(
    num_heads=2,
    decoder_num_heads=2,
    trained_num_frames=8,
    trained_img_size=32,
)


def build(model=None, **settings):
    return MotionMAEInferencer(
        model, device='cpu', show_progress=False, **settings
    )


@pytest.fixture
def inferencer(tiny_model):
    return build(tiny_model())


@pytest.fixture
def warnings(monkeypatch):
    """What is logged."""
    logged = []
    for module in (loading, steps):
        monkeypatch.setattr(
            module, 'print_log', lambda text, **kwargs: logged.append(text)
        )
    return logged


@pytest.fixture
def folder(tmp_path):
    """Videos in sub-folders, two of one name, two broken, and a text."""
    root = tmp_path / 'videos'
    (root / 'b').mkdir(parents=True)
    write_lossless(root / 'b' / 'x.mkv', some_video(10, seed=1))
    write_lossless(root / 'a.mkv', some_video(10, seed=2))
    write_lossless(root / 'a.AVI', some_video(10, seed=3))
    (root / 'b' / 'empty.mp4').touch()
    (root / 'b' / 'text.mov').write_text('no video')
    (root / 'notes.txt').write_text('not even named like one')
    return root


def names(results):
    return [result['name'] for result in results['predictions']]


# ------------------------------------------------------------------ inputs


def test_a_folder_of_videos(inferencer, folder, warnings):
    results = inferencer(str(folder), batch_size=2)
    assert names(results) == ['a', 'a-2', 'b/x']
    sources = [result['source'] for result in results['predictions']]
    assert sources == [str(folder / n) for n in ('a.AVI', 'a.mkv', 'b/x.mkv')]
    for seed, result in zip((3, 2, 1), results['predictions'], strict=True):
        frame = some_video(10, seed=seed)[result['frame_inds'][0][0]]
        got = (result['input'][0][:, 0] * 255).round().transpose(1, 2, 0)
        np.testing.assert_array_equal(got, frame)
    empty, text = results['skipped']
    assert empty['source'] == str(folder / 'b' / 'empty.mp4')
    assert empty['reason'] == (
        f'{empty["source"]!r} cannot be read: the file is empty.'
    )
    assert text['source'] == str(folder / 'b' / 'text.mov')
    assert warnings == [f'Left out: {x["reason"]}' for x in (empty, text)]


def test_a_bad_video_that_is_named_ends_it(inferencer, folder):
    bad, good = str(folder / 'b' / 'empty.mp4'), str(folder / 'a.mkv')
    with pytest.raises(UsageError, match="empty.mp4' cannot be read: the fi"):
        inferencer(bad)
    # Among others it is left out.
    assert names(inferencer([bad, good])) == ['a']
    with pytest.raises(UsageError, match='cannot be read'):
        inferencer([good, bad], on_error='raise')
    with pytest.raises(UsageError, match='None of the 1 videos .* is empty'):
        inferencer(bad, on_error='skip')


def test_folders_of_frames(inferencer, tmp_path):
    video = some_video(12)
    for name in ('one', 'two'):
        write_frames(tmp_path / 'frames' / name, video)
    assert names(inferencer(tmp_path / 'frames')) == ['one', 'two']
    results = inferencer(str(tmp_path / 'frames' / 'two'))
    assert names(results) == ['two']
    # Frames are in the order of their numbers, 10 after 9.
    frame = video[results['predictions'][0]['frame_inds'][0]]
    got = results['predictions'][0]['input'][0] * 255
    np.testing.assert_array_equal(
        got.round(), frame.transpose(3, 0, 1, 2).astype(np.float32)
    )
    (tmp_path / 'frames' / 'two' / '3.png').write_text('no picture')
    with pytest.raises(UsageError, match="'3.png' is missing or no image"):
        inferencer(tmp_path / 'frames' / 'two', frame_interval=1)


def test_names_are_all_different(tmp_path):
    for name in ('a/v.mp4', 'b/v.mp4', 'b/v-2.mp4'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    paths = [tmp_path / 'a' / 'v.mp4', tmp_path / 'b' / 'v.mp4']
    frames = np.zeros((1, 4, 4, 3), np.uint8)
    videos = list_inputs([*paths, frames, tmp_path / 'b' / 'v-2.mp4'])
    assert [v.name for v in videos] == ['v', 'v-3', 'array2', 'v-2']
    assert [v.kind for v in videos] == ['file', 'file', 'array', 'file']
    assert [v.listed for v in list_inputs(tmp_path)] == [True] * 3


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        ([], 'the list is empty'),
        ('missing.mp4', "no video file or folder 'missing.mp4'"),
        (5, 'Input 0 is a int; it must be a video file'),
        (np.zeros((4, 8, 8, 3)), r'array of float64 \(4, 8, 8, 3\)'),
        (np.zeros((3, 4, 8, 8), np.uint8), r'uint8 \(3, 4, 8, 8\)'),
        (torch.zeros(0, 8, 8, 3, dtype=torch.uint8), 'at least one frame'),
        (['a', None], "no video file or folder 'a'"),
    ],
)
def test_wrong_inputs(value, message):
    with pytest.raises(UsageError, match=message):
        list_inputs(value)


def test_folders_and_pictures_that_are_no_videos(tmp_path):
    with pytest.raises(UsageError, match='no video below .*, nor images to'):
        list_inputs(tmp_path)
    Image.new('RGB', (4, 4)).save(tmp_path / 'a.png')
    with pytest.raises(UsageError, match='a.png. is a picture. Name the fol'):
        list_inputs(tmp_path / 'a.png')


def test_real_hostile_videos(inferencer, shared_data):
    results = inferencer(shared_data / 'hostile', keep_arrays=False)
    bad = {s['source'].rpartition('/')[2] for s in results['skipped']}
    assert bad == {
        'audio_only.mp4',
        'bitrot.mp4',
        'header_only.avi',
        'text_as_video.mp4',
        'truncated_60k.mp4',
        'zero_bytes.mp4',
    }
    assert len(results['predictions']) == 11
    assert 'name with spaces é,;#' in names(results)


# ------------------------------------------------------------------ models


def assert_same(one, other):
    video = some_video()
    a, b = (infer(video)['predictions'][0] for infer in (one, other))
    np.testing.assert_array_equal(
        a['motion_reconstruction'], b['motion_reconstruction']
    )


def test_the_config_in_a_checkpoint_is_never_run(
    tiny_model, inferencer, tmp_path
):
    """MMEngine's own inferencer would."""
    trap = tmp_path / 'trap'
    text = f"open({str(trap)!r}, 'w').close()\nmodel = {TINY_MODEL!r}\n"
    checkpoint = dict(
        state_dict=inferencer.model.state_dict(),
        meta=dict(cfg=text),
        message_hub=dict(runtime_info=dict(cfg=text)),
    )
    path = tmp_path / 'epoch_1.pth'
    torch.save(checkpoint, path)
    options = HINTS
    assert_same(build(path, load_options=options), inferencer)
    assert_same(build(weights=str(path), load_options=options), inferencer)
    assert_same(build(TINY_MODEL, weights=str(path)), inferencer)
    assert not trap.exists()
    # The trap is one.
    from mmengine.config import Config

    Config.fromstring(text, '.py')
    assert trap.exists()


def test_a_checkpoint_for_more_frames(inferencer, tmp_path):
    path = tmp_path / 'model.pth'
    torch.save(dict(state_dict=inferencer.model.state_dict()), path)
    options = dict(HINTS, num_frames=12, img_size=48)
    result = build(path, load_options=options)(some_video())
    shape = result['predictions'][0]['pixel_reconstruction'].shape
    assert shape == (1, 3, 12, 48, 48)


def test_config_and_weights(tiny_model, tmp_path, warnings):
    model = tiny_model()
    config, weights = tmp_path / 'config.py', tmp_path / 'epoch_1.pth'
    config.write_text(f'model = {TINY_MODEL!r}\n')
    torch.save(dict(state_dict=model.state_dict()), weights)
    infer = build(str(config), weights=str(weights))
    assert_same(infer, build(model))
    assert infer.cfg.model.type == 'MotionMAE'
    assert not warnings
    build(config)
    assert 'the model is random' in warnings[0]
    other = dict(TINY_MODEL, backbone=dict(TINY_BACKBONE, depth=3))
    with pytest.raises(CheckpointError, match='does not fit the model of'):
        build(other, weights=weights)


@pytest.mark.parametrize(
    ('model', 'settings', 'message'),
    [
        (None, {}, 'Neither a model nor weights'),
        ('missing.py', {}, "no config file 'missing.py'"),
        ('missing.pth', {}, "no config or checkpoint 'missing.pth'"),
        (5, {}, 'model is a int'),
        (dict(backbone={}), {}, 'names no model'),
        (TINY_MODEL, dict(weights='a.pth'), "no checkpoint 'a.pth'"),
        (TINY_MODEL, dict(load_options=dict(num_frames=4)), 'load_options'),
        (torch.nn.Identity(), dict(weights='a.pth'), 'weights make no sense'),
    ],
)
def test_wrong_models(model, settings, message):
    with pytest.raises(UsageError, match=message):
        build(model, **settings)


def test_weights_beside_a_checkpoint(tmp_path):
    path = tmp_path / 'a.pth'
    path.touch()
    with pytest.raises(UsageError, match='weights make no sense with the ch'):
        build(path, weights=path)
    with pytest.raises(CheckpointError, match='not a readable PyTorch'):
        build(path)


def test_an_encoder_is_fed_as_its_checkpoint_says(tmp_path):
    """An encoder alone does not know how its clips are normalised."""
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    encoder = VideoMAEModel(
        VideoMAEConfig(
            image_size=32,
            patch_size=8,
            num_frames=8,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=128,
            use_mean_pooling=False,
        )
    ).eval()
    encoder.save_pretrained(tmp_path)
    text = json.dumps(dict(image_mean=mean, image_std=std))
    (tmp_path / 'preprocessor_config.json').write_text(text)
    video = some_video(8)
    result = build(tmp_path)(video, frame_interval=1)['predictions'][0]
    clip = torch.from_numpy(video).permute(0, 3, 1, 2)[None] / 255
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (mean, std))
    with torch.no_grad():
        expected = encoder((clip - mean) / std).last_hidden_state.mean(1)
    np.testing.assert_allclose(result['feature'], expected, atol=1e-5)


# ----------------------------------------------------------------- outputs


def files_below(folder):
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob('*')
        if path.is_file()
    )


def test_files_are_named_after_the_videos(inferencer, folder, tmp_path):
    out = tmp_path / 'out'
    inferencer(folder, out_dir=str(out), out_type='img')
    assert files_below(out) == ['a-2.png', 'a.png', 'b/x.png']
    with pytest.raises(UsageError, match="a.png' exists already; choose an"):
        inferencer(folder, out_dir=str(out), out_type='img')
    before = (out / 'a.png').read_bytes()
    inferencer(folder, out_dir=out, out_type='img', seed=1, overwrite=True)
    assert (out / 'a.png').read_bytes() != before
    inferencer(
        folder / 'a.mkv',
        out_dir=out,
        out_type=('img', 'gif'),
        num_clips=2,
        statistics='visible',
    )
    assert set(files_below(out)) - {'a-2.png', 'a.png', 'b/x.png'} == {
        f'a_visible-statistics_clip{n}.{ending}'
        for n in (1, 2)
        for ending in ('png', 'gif')
    }


def test_files_hold_the_pictures(inferencer, tmp_path):
    results = inferencer(
        some_video(),
        out_dir=str(tmp_path),
        out_type=['img', 'video', 'gif', 'still', 'webp'],
        return_vis=True,
        fps=5,
    )
    (pictures,) = results['visualization']
    sheet, film = pictures['sheet'][0], pictures['film'][0]
    with Image.open(tmp_path / 'array0.png') as image:
        np.testing.assert_array_equal(np.asarray(image), sheet)
    for ending in ('png', 'webp'):
        with Image.open(tmp_path / f'array0_still.{ending}') as image:
            np.testing.assert_array_equal(np.asarray(image), film[4])
    with av.open(str(tmp_path / 'array0.mp4')) as container:
        assert container.streams.video[0].average_rate == 5
        frames = [f.to_ndarray(format='rgb24') for f in container.decode()]
    assert len(frames) == len(film) == 8
    height, width = film.shape[1:3]
    for frame, expected in zip(frames, film, strict=True):
        off = frame[:height, :width].astype(int) - expected
        assert np.abs(off).mean() < 6  # lossy, and half the colours
    with Image.open(tmp_path / 'array0.gif') as image:
        assert image.n_frames == 8
        assert image.info['duration'] == 200
        for t in range(8):
            image.seek(t)
            shown = np.asarray(image.convert('RGB')).astype(int)
            assert np.abs(shown - film[t]).mean() < 6
    assert files_below(tmp_path) == [
        'array0.gif',
        'array0.mp4',
        'array0.png',
        'array0_still.png',
        'array0_still.webp',
    ]


def test_predictions_in_files(inferencer, tmp_path, capsys):
    video = some_video()
    text, full = tmp_path / 'all.json', tmp_path / 'all.pkl'
    inferencer(video, pred_out_file=str(text), print_result=True)
    results = inferencer(video, pred_out_file=str(full))
    (expected,) = results['predictions']
    (written,) = json.loads(text.read_text())['predictions']
    assert written == {
        name: expected[name]
        for name in ('name', 'source', 'frame_inds', 'statistics', 'errors')
    }
    assert str(written['errors']) in capsys.readouterr().out
    with open(full, 'rb') as file:
        (pickled,) = pickle.load(file)['predictions']
    assert set(pickled) == set(expected)
    np.testing.assert_array_equal(pickled['mask'], expected['mask'])
    with pytest.raises(UsageError, match="all.json' exists already"):
        inferencer(video, pred_out_file=str(text))
    inferencer(video, pred_out_file=str(text), overwrite=True, seed=1)
    assert json.loads(text.read_text())['predictions'] != [written]


def test_predictions_without_arrays(inferencer):
    results = inferencer(some_video(), keep_arrays=False, return_vis=True)
    assert set(results['predictions'][0]) == {
        'name',
        'source',
        'frame_inds',
        'statistics',
        'errors',
    }
    assert results['visualization'][0]['sheet'].ndim == 4


def test_nothing_is_drawn_unasked(inferencer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert inferencer(some_video())['visualization'] is None
    assert files_below(tmp_path) == []


def test_show(inferencer, monkeypatch):
    shown = []
    monkeypatch.setattr(
        Image.Image,
        'show',
        lambda self, title: shown.append((title, np.asarray(self))),
    )
    results = inferencer(some_video(), show=True, return_vis=True)
    ((title, picture),) = shown
    assert title == 'array0'
    sheet = results['visualization'][0]['sheet'][0]
    np.testing.assert_array_equal(picture, sheet)


def test_progress_bar(tiny_model, capsys):
    infer = MotionMAEInferencer(tiny_model(), device='cpu')
    infer([some_video(), some_video()])
    assert '2/2' in capsys.readouterr().err
