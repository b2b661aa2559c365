# Copyright (c) MotionMAE contributors. All rights reserved.
"""`MotionMAEInferencer`: clips, masks, predictions, features."""

import math

import cv2
import numpy as np
import pytest
import torch
from conftest import as_batch
from einops import rearrange
from helpers.inferencer_inputs import some_video, write_frames, write_lossless
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from sklearn.metrics import r2_score

from mmmotionmae.apis import UsageError
from mmmotionmae.apis.inferencer import MotionMAEInferencer

PIXELS = 8 * 8 * 2  # of a tubelet, for each channel


@pytest.fixture
def inferencer(tiny_model):
    return MotionMAEInferencer(tiny_model(), device='cpu', show_progress=False)


def first(results):
    return results['predictions'][0]


def tubelets(video):
    """(C, T, H, W) to (L, C, P)."""
    return rearrange(
        video, 'c (t p) (h q) (w r) -> (t h w) c (p q r)', p=2, q=8, r=8
    )


def test_the_prediction_is_that_of_the_model(inferencer):
    video = some_video()
    result = first(inferencer(video, mask_ratio=0.75))
    # The clip in the middle: 8 frames, 4 apart, span 29 of 40.
    indices = [5 + 4 * i for i in range(8)]
    assert result['frame_inds'] == [indices]
    clip = video[indices].transpose(3, 0, 1, 2)
    levels = result['input'][0] * 255
    np.testing.assert_allclose(levels, clip, rtol=1e-6)
    mask = torch.from_numpy(result['mask'])
    model = inferencer.model
    data = model.data_preprocessor(
        as_batch(torch.from_numpy(clip)[None], mask)
    )
    with torch.no_grad():
        (sample,) = model(**data, mode='predict')
    for name in ('pixel_reconstruction', 'motion_reconstruction'):
        np.testing.assert_array_equal(result[name], sample.get(name))
    difference = np.diff(clip.astype(np.float64), axis=1) / 255
    difference = np.concatenate([difference[:, :1], difference], 1)
    np.testing.assert_allclose(result['motion'][0], difference, atol=1e-6)


def test_resized_by_the_short_side_and_cropped_in_the_centre(inferencer):
    video = some_video(29, height=48, width=65)
    result = first(inferencer(video))
    width = round(65 * 32 / 48)
    for i, index in enumerate(result['frame_inds'][0]):
        frame = cv2.resize(video[index], (width, 32))
        left = (width - 32) // 2
        expected = frame[:, left : left + 32].transpose(2, 0, 1)
        got = (result['input'][0][:, i] * 255).round()
        np.testing.assert_array_equal(got, expected)


def test_several_clips_are_spread_over_the_video(inferencer):
    video = some_video(40)
    result = first(inferencer(video, num_clips=3, frame_interval=2))
    # 15 frames each, the last one ends with the video; 12.5 is rounded.
    starts = [inds[0] for inds in result['frame_inds']]
    assert starts == [0, 12, 25]
    assert result['frame_inds'][2][-1] == 39
    assert result['pixel_reconstruction'].shape == (3, 3, 8, 32, 32)
    assert result['mask'].shape == (3, 64)
    assert len(result['errors']) == 3
    assert len(np.unique(result['mask'], axis=0)) == 3


def test_a_short_video_repeats_its_last_frame(inferencer):
    result = first(inferencer(some_video(11)))
    assert result['frame_inds'] == [[0, 4, 8, 8, 8, 8, 8, 8]]


@pytest.mark.parametrize('kind', ['tube', 'random', 'frame'])
def test_masks(inferencer, kind):
    result = first(
        inferencer(some_video(), mask=kind, mask_ratio=0.75, seed=3)
    )
    rng = np.random.RandomState(3)
    mask = np.zeros((4, 16), bool)
    if kind == 'tube':
        mask[:, rng.permutation(16)[:12]] = True
    elif kind == 'frame':
        mask[rng.permutation(4)[:3]] = True
    else:
        for row in mask:
            row[rng.permutation(16)[:12]] = True
    np.testing.assert_array_equal(result['mask'], mask.reshape(1, 64))


def test_a_mask_depends_on_the_seed_alone(inferencer):
    videos = [some_video(seed=seed) for seed in range(3)]
    alone = first(inferencer(videos[2]))['mask']
    np.random.seed(7)
    expected = np.random.rand()
    np.random.seed(7)
    for size in (1, 2):
        among = inferencer(videos, batch_size=size)['predictions']
        for result in among:
            np.testing.assert_array_equal(result['mask'], alone)
    other = first(inferencer(videos[2], seed=1))['mask']
    assert (other != alone).any()
    # The caller's random numbers go on as if nothing had been drawn.
    assert np.random.rand() == expected


def test_a_batch_is_its_videos_one_by_one(inferencer):
    videos = [some_video(30 + seed, seed=seed) for seed in range(3)]
    settings = dict(num_clips=2, features=True)
    batched = inferencer(videos, batch_size=2, **settings)['predictions']
    for video, result in zip(videos, batched, strict=True):
        single = first(inferencer(video, **settings))
        assert result['frame_inds'] == single['frame_inds']
        for name in (
            'pixel_reconstruction',
            'motion_reconstruction_map',
            'feature',
        ):
            np.testing.assert_allclose(result[name], single[name], atol=1e-5)
        for a, b in zip(result['errors'], single['errors'], strict=True):
            assert a['pixel'] == pytest.approx(b['pixel'], rel=1e-4)
            assert a['motion'] == pytest.approx(b['motion'], abs=1e-4)
    assert [r['name'] for r in batched] == ['array0', 'array1', 'array2']


def test_errors_are_those_of_the_masked_tokens(inferencer):
    result = first(inferencer(some_video(), num_clips=2, mask_ratio=0.75))
    for i, errors in enumerate(result['errors']):
        mask = result['mask'][i]
        for name, truth in (('pixel', 'input'), ('motion', 'motion')):
            true = tubelets(result[truth][i].astype(np.float64))[mask]
            pred = tubelets(result[f'{name}_reconstruction'][i])[mask]
            mse = np.mean((true - pred) ** 2)
            assert errors[name]['mse'] == pytest.approx(mse, rel=1e-4)
            mean = true.mean(-1, keepdims=True)
            std = true.std(-1, ddof=1, keepdims=True) + 1e-6
            true, pred = (true - mean) / std, (pred - mean) / std
            assert errors[name]['loss'] == pytest.approx(
                np.mean((true - pred) ** 2), rel=1e-3
            )
            assert errors[name]['r2'] == pytest.approx(
                r2_score(true.ravel(), pred.ravel()), abs=1e-3
            )
        psnr = 20 * math.log10(1 / math.sqrt(errors['pixel']['mse']))
        assert errors['pixel']['psnr'] == pytest.approx(psnr, abs=1e-6)


def test_the_motion_map_is_the_size_of_the_prediction(inferencer):
    result = first(inferencer(some_video()))
    motion = result['motion_reconstruction'][0]
    for t, y, x in ((0, 0, 0), (3, 17, 30), (7, 31, 31), (5, 9, 2)):
        total = 0.0
        for c in range(3):
            total += float(motion[c, t, y, x]) ** 2
        expected = math.sqrt(total / 3)
        got = result['motion_reconstruction_map'][0, t, y, x]
        assert got == pytest.approx(expected, rel=1e-5)
    assert result['motion_reconstruction_map'].shape == (1, 8, 32, 32)


@pytest.mark.parametrize('norm', ['tubelet', 'clip', 'none'])
def test_statistics_of_the_visible_tubelets(tiny_model, norm):
    """Nothing of what was masked is in the reconstruction."""
    model = tiny_model(
        head=dict(type='MotionMAEHead', pixel_norm=norm, motion_norm=norm)
    )
    infer = MotionMAEInferencer(model, device='cpu', show_progress=False)
    video = some_video()
    shown = first(infer(video, statistics='visible', mask_ratio=0.75))
    true = first(infer(video, mask_ratio=0.75))
    assert shown['statistics'] == 'visible' and true['statistics'] == 'true'
    mask = true['mask'][0]
    for name, truth in (('pixel', 'input'), ('motion', 'motion')):
        values = tubelets(true[truth][0].astype(np.float64))
        with_true = tubelets(true[f'{name}_reconstruction'][0])
        got = tubelets(shown[f'{name}_reconstruction'][0])
        np.testing.assert_array_equal(got[~mask], with_true[~mask])
        if norm == 'none':
            np.testing.assert_array_equal(got, with_true)
            continue
        # Take the true statistics out again, and those of the visible in.
        mean, std = values.mean(-1), values.std(-1, ddof=1)
        if norm == 'clip':
            every = values.transpose(1, 0, 2).reshape(3, -1)
            mean[:], std[:] = every.mean(1), every.std(1, ddof=1)
        normal = (with_true - mean[..., None]) / (std[..., None] + 1e-6)
        visible = values[~mask]
        for c in range(3):
            new_mean = visible[:, c].mean()
            new_std = visible[:, c].std(ddof=1)
            if norm == 'tubelet':
                new_std = np.mean([v.std(ddof=1) for v in visible[:, c]])
            np.testing.assert_allclose(
                got[mask, c],
                normal[mask, c] * (new_std + 1e-6) + new_mean,
                atol=1e-4,
            )


def test_all_kinds_of_input_give_the_same(inferencer, tmp_path):
    video = some_video(33)
    write_lossless(tmp_path / 'video.mkv', video)
    write_frames(tmp_path / 'frames', video)
    inputs = [
        video,
        torch.from_numpy(video),
        str(tmp_path / 'video.mkv'),
        tmp_path / 'video.mkv',
        tmp_path / 'frames',
    ]
    expected = first(inferencer(video))
    for result in inferencer(inputs)['predictions']:
        for name in ('mask', 'input', 'pixel_reconstruction'):
            np.testing.assert_array_equal(result[name], expected[name])
    for decoder in ('decord', 'opencv'):
        result = first(inferencer(inputs[2], decoder=decoder))
        np.testing.assert_array_equal(result['input'], expected['input'])


def test_videomae_predicts_no_motion(tiny_model):
    model = tiny_model(head=dict(type='MotionMAEHead', motion_weight=0.0))
    infer = MotionMAEInferencer(model, device='cpu', show_progress=False)
    results = infer(some_video(), return_vis=True)
    result = first(results)
    assert 'motion_reconstruction' not in result
    assert set(result['errors'][0]) == {'pixel'}
    pictures = results['visualization'][0]
    assert set(pictures) == {'sheet', 'film'}


def test_features_of_all_kinds_of_models(tiny_model):
    """They are what the models themselves give."""
    video = some_video()
    model = tiny_model()
    infer = MotionMAEInferencer(model, device='cpu', show_progress=False)
    result = first(infer(video, features=True))
    clips = torch.from_numpy(result['input'])
    preprocessor = model.data_preprocessor
    clips = (clips * 255 - preprocessor.mean) / preprocessor.std
    vit = model.backbone
    with torch.no_grad():
        expected = vit(clips)
    np.testing.assert_allclose(result['feature'], expected.mean(1), atol=1e-5)
    assert 'feature' not in first(infer(video))
    encoder = MotionMAEInferencer(vit, device='cpu', show_progress=False)
    result = first(encoder(video, pooling='none'))
    np.testing.assert_allclose(
        result['feature'], expected.reshape(1, 4, 4, 4, 32), atol=1e-5
    )
    assert set(result) == {'name', 'source', 'frame_inds', 'feature'}
    first_block = first(encoder(video, block=0))['feature']
    last_block = first(encoder(video, block=-1))['feature']
    assert np.abs(first_block - last_block).max() > 0.1


def test_features_of_a_classifier(tiny_model):
    cfg = dict(
        type='Recognizer3D',
        data_preprocessor=dict(
            type='ActionDataPreprocessor',
            mean=[10.0, 20.0, 30.0],
            std=[50.0, 60.0, 70.0],
            format_shape='NCTHW',
        ),
        backbone=dict(
            type='FusedVisionTransformer',
            img_size=32,
            patch_size=8,
            num_frames=8,
            embed_dims=32,
            depth=2,
            num_heads=2,
        ),
        cls_head=dict(type='TimeSformerHead', num_classes=5, in_channels=32),
    )
    video = some_video(8)
    infer = MotionMAEInferencer(
        dict(model=cfg), device='cpu', show_progress=False
    )
    result = first(infer(video, frame_interval=1))
    batch = dict(
        inputs=[torch.from_numpy(video).permute(3, 0, 1, 2)[None]],
        data_samples=[ActionDataSample()],
    )
    model = infer.model
    with torch.no_grad():
        inputs = model.data_preprocessor(batch)['inputs']
        expected = model.extract_feat(inputs, stage='backbone')[0]
    np.testing.assert_allclose(result['feature'], expected, atol=1e-5)


def test_data_samples(inferencer):
    results = inferencer(some_video(), return_datasamples=True)
    (sample,) = results['predictions']
    assert isinstance(sample, ActionDataSample)
    expected = first(inferencer(some_video()))
    assert torch.equal(
        sample.pixel_reconstruction,
        torch.from_numpy(expected['pixel_reconstruction']),
    )
    assert sample.errors == expected['errors']
    assert sample.name == 'array0'


def test_the_steps_can_be_called_one_by_one(inferencer):
    videos = inferencer._inputs_to_list([some_video(), some_video(seed=1)])
    (batch,) = inferencer.preprocess(videos, batch_size=2, mask_ratio=0.5)
    preds = inferencer.forward(batch, statistics='visible')
    pictures = inferencer.visualize(videos, preds, return_vis=True)
    results = inferencer.postprocess(preds, pictures)
    at_once = inferencer(
        [some_video(), some_video(seed=1)],
        batch_size=2,
        mask_ratio=0.5,
        statistics='visible',
        return_vis=True,
    )
    for name in ('sheet', 'film', 'motion_reconstruction_map'):
        for a, b in zip(
            results['visualization'], at_once['visualization'], strict=True
        ):
            np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(num_clips=0), 'num_clips must be at least 1, not 0'),
        (dict(frame_interval=0), 'frame_interval must be at least 1'),
        (dict(batch_size=0), 'batch_size must be at least 1'),
        (dict(fps=0), 'fps must be at least 1'),
        (dict(mask='cube'), "tube, random, frame, not 'cube'"),
        (dict(mask_ratio=1.5), 'between 0 and 1, not 1.5'),
        (dict(mask_ratio=0.01), 'masks none of 16 places'),
        (dict(seed=-1), 'seed must be from 0'),
        (dict(decoder='vlc'), "not 'vlc'"),
        (dict(statistics='none'), "true, visible, not 'none'"),
        (dict(pooling='max'), "not 'max'"),
        (dict(block=2, features=True), 'has 2 blocks; there is no block 2'),
        (dict(on_error='stop'), "raise, skip, None, not 'stop'"),
        (dict(out_type='jpg'), "still, webp, not 'jpg'"),
        (dict(pred_out_file='a.txt'), "'a.txt' does not end in"),
    ],
)
def test_wrong_arguments(inferencer, settings, message):
    with pytest.raises(UsageError, match=message):
        inferencer(some_video(), **settings)


def test_an_encoder_cannot_reconstruct(tiny_model):
    infer = MotionMAEInferencer(
        tiny_model().backbone, device='cpu', show_progress=False
    )
    with pytest.raises(UsageError, match='MotionMAEViT, without the decoder'):
        infer(some_video(), return_vis=True)
    with pytest.raises(UsageError, match='it gives features or nothing'):
        infer(some_video(), features=False)
    with pytest.raises(UsageError, match='Linear'):
        MotionMAEInferencer(torch.nn.Linear(1, 1), device='cpu')


def test_registered():
    from mmaction.registry import INFERENCERS

    assert INFERENCERS.get('MotionMAEInferencer') is MotionMAEInferencer
    assert MODELS.get('MotionMAE')


def test_transforms_that_a_target_needs(tiny_model):
    """Flow comes from the loader; a grey target is drawn grey."""
    targets = dict(
        pixel=dict(type='PixelTarget'), flow=dict(type='FlowTarget')
    )
    model = tiny_model(targets=targets, head=dict(motion_weight=0.0))
    infer = MotionMAEInferencer(model, device='cpu', show_progress=False)
    video = some_video()
    results = infer(video, return_vis=True)
    (result,), (pictures,) = results['predictions'], results['visualization']
    indices = result['frame_inds'][0]
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    now, before = (
        cv2.cvtColor(video[i], cv2.COLOR_RGB2GRAY) for i in indices[3:1:-1]
    )
    expected = -dis.calc(now, before, None).transpose(2, 0, 1)
    np.testing.assert_allclose(
        result['flow'][0][:, 3], expected, rtol=1e-3, atol=1e-3
    )
    assert result['flow_reconstruction'].shape == (1, 2, 8, 32, 32)
    assert pictures['sheet'].dtype == np.uint8
