# Copyright (c) MotionMAE contributors. All rights reserved.
"""MMAction2's own ways to apply a model, on what is fine-tuned here."""

import importlib.util
import json
import pickle
import sys
import uuid
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from conftest import ROOT
from mmaction.apis import (
    ActionRecogInferencer,
    MMAction2Inferencer,
    inference_recognizer,
    init_recognizer,
)
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.runner import Runner
from PIL import Image

from mmmotionmae.checkpoints import trust_checkpoints
from mmmotionmae.utils.errors import CheckpointError
from mmmotionmae.utils.video_files import video_writer

CONFIG = (
    'configs/recognition/'
    'vit-base-p16_motionmae-videos-pre_8xb16-16x4x1-amp-100e_videos-rgb.py'
)
SMALL = {
    'model.data_preprocessor': dict(type='AugmentingDataPreprocessor'),
    'model.backbone.init_cfg': None,
    'model.backbone.patch_size': 8,
    'model.backbone.embed_dims': 16,
    'model.backbone.depth': 2,
    'model.backbone.num_heads': 2,
    'model.cls_head.in_channels': 16,
    'model.cls_head.init_std': 0.5,  # or all scores are nearly the same
    'optim_wrapper.type': 'OptimWrapper',
    'optim_wrapper.paramwise_cfg.num_layers': 2,
    'train_cfg.max_epochs': 1,
    'default_hooks.logger.interval': 100,
}
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def of_size(value, size):
    """A config for frames of this size instead of 224 pixels."""
    if isinstance(value, dict):
        return {key: of_size(item, size) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(of_size(item, size) for item in value)
    return size if value == 224 else value


@pytest.fixture(scope='module')
def trained(tmp_path_factory, shapes_dir):
    """A config file of ours, shrunk, and the checkpoint of its training."""
    folder = tmp_path_factory.mktemp('trained')
    with pytest.MonkeyPatch.context() as patch:
        for name in ('LISTS', 'VIDEOS'):
            patch.setenv(name, str(shapes_dir))
        patch.setenv('NUM_CLASSES', '8')
        config = Config.fromfile(ROOT / CONFIG)
        cfg = Config(of_size(config.to_dict(), 32))
        for stage in ('train', 'val', 'test'):
            loader = cfg[f'{stage}_dataloader']
            loader.update(
                num_workers=0,
                persistent_workers=False,
                pin_memory=False,
                batch_size=4,
            )
        for name in ('dtype', 'loss_scale'):
            cfg.optim_wrapper.pop(name, None)
        cfg.merge_from_dict(
            SMALL
            | dict(
                work_dir=str(folder / 'run'),
                experiment_name=uuid.uuid4().hex,
            )
        )
        cfg.dump(folder / 'config.py')
        Runner.from_cfg(cfg).train()
    (folder / 'classes.txt').write_text('\n'.join('abcdefgh'))
    return folder


@pytest.fixture
def paths(trained):
    return str(trained / 'config.py'), str(trained / 'run/epoch_1.pth')


@pytest.fixture
def videos(shapes_dir):
    lines = (shapes_dir / 'val.txt').read_text().splitlines()
    return [str(shapes_dir / line.split()[0]) for line in lines[:3]]


def pipeline_of(config):
    return Config.fromfile(config).test_dataloader.dataset.pipeline


def single_view(config):
    """What the inferencers make of our pipeline: one view, with decord."""
    pipeline = [dict(step) for step in pipeline_of(config)]
    names = {
        'VideoInit': 'DecordInit',
        'VideoDecode': 'DecordDecode',
        'ThreeCrop': 'CenterCrop',
    }
    for step in pipeline:
        if step['type'] in ('VideoInit', 'VideoDecode'):
            step.pop('decoder', None)
        if step['type'] == 'SampleFrames':
            step['num_clips'] = 1
        step['type'] = names.get(step['type'], step['type'])
    return pipeline


@torch.no_grad()
def score_by_hand(config, checkpoint, pipeline, video):
    """Mean of the softmax over all views, (num_classes,)."""
    model = MODELS.build(Config.fromfile(config).model)
    weights = torch.load(checkpoint, weights_only=True)['state_dict']
    model.load_state_dict(weights, strict=True)
    model.eval()
    results = dict(filename=video, label=-1, start_index=0, modality='RGB')
    clips = Compose(pipeline)(results)['inputs'].float()
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1, 1) for values in (MEAN, STD)
    )
    features = model.backbone((clips - mean) / std)
    return model.cls_head.fc_cls(features).softmax(-1).mean(0)


def assert_close(scores, expected):
    torch.testing.assert_close(
        torch.as_tensor(scores), expected, rtol=0, atol=2e-6
    )


def test_recognizer_scores_as_by_hand(paths, videos):
    model = init_recognizer(*paths, device='cpu')
    pipeline = pipeline_of(paths[0])
    found = []
    for video in videos:
        sample = inference_recognizer(model, video)
        expected = score_by_hand(*paths, pipeline, video)
        assert_close(sample.pred_score, expected)
        assert sample.pred_label.tolist() == [int(expected.argmax())]
        found.append(sample.pred_score)
    assert len(videos) == 3 and not torch.allclose(found[0], found[1])


def test_recognizer_scores_as_the_tool_does(paths, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location(
        'test_tool', ROOT / 'tools/test.py'
    )
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    options = [f'experiment_name={uuid.uuid4().hex}']
    flags = ['--work-dir', 'run', '--dump', 'out.pkl', '--cfg-options']
    tool.test(tool.parse_args([*paths, *flags, *options]))
    dumped = pickle.loads(Path('out.pkl').read_bytes())

    model = init_recognizer(*paths, device='cpu')
    dataset = Config.fromfile(paths[0]).test_dataloader.dataset
    lines = Path(dataset.ann_file).read_text().splitlines()
    assert len(dumped) == len(lines) == 16
    for sample, line in list(zip(dumped, lines, strict=True))[:6]:
        video = str(Path(dataset.data_prefix.video, line.split()[0]))
        scores = inference_recognizer(model, video).pred_score
        assert_close(sample['pred_score'], scores)


def test_inferencers_score_as_by_hand(paths, videos, trained, tmp_path):
    pipeline = single_view(paths[0])
    expected = [score_by_hand(*paths, pipeline, video) for video in videos]
    inferencer = ActionRecogInferencer(
        *paths, device='cpu', label_file=str(trained / 'classes.txt')
    )
    assert inferencer.visualizer.dataset_meta == dict(classes=[*'abcdefgh'])
    for batch_size in (1, 2):
        found = inferencer(videos, batch_size=batch_size)['predictions']
        assert len(found) == 3
        for prediction, scores in zip(found, expected, strict=True):
            assert_close(prediction['pred_scores'], scores)
            assert prediction['pred_labels'] == [int(scores.argmax())]

    inferencer = MMAction2Inferencer(
        rec=paths[0], rec_weights=paths[1], device='cpu'
    )
    out = tmp_path / 'out.json'
    found = inferencer(videos[0], pred_out_file=str(out))['predictions']
    assert json.loads(out.read_text())['predictions'] == found
    assert_close(found[0]['rec_scores'][0], expected[0])


def test_real_video(paths, shared_data):
    folder = shared_data / 'actions7'
    line = (folder / 'val_list.txt').read_text().splitlines()[0]
    video = str(folder / line.split()[0])
    model = init_recognizer(*paths, device='cpu')
    scores = inference_recognizer(model, video).pred_score
    assert_close(scores, score_by_hand(*paths, pipeline_of(paths[0]), video))
    inferencer = ActionRecogInferencer(*paths, device='cpu')
    (found,) = inferencer(video)['predictions']
    expected = score_by_hand(*paths, single_view(paths[0]), video)
    assert_close(found['pred_scores'], expected)
    assert len(scores) == len(found['pred_scores']) == 8


def test_encoder_file_is_not_taken_for_a_classifier(paths, trained):
    with pytest.raises(RuntimeError, match='cls_head'):
        init_recognizer(
            paths[0], str(trained / 'run/backbone.pth'), device='cpu'
        )


def test_inferencer_reads_the_config_in_the_checkpoint(paths, videos):
    inferencer = ActionRecogInferencer(None, paths[1], device='cpu')
    (found,) = inferencer(videos[0])['predictions']
    expected = score_by_hand(*paths, single_view(paths[0]), videos[0])
    assert_close(found['pred_scores'], expected)


# ------------------------- what a checkpoint may do (append to this file) ---


CODE = "x = __import__('os').mkdir('ran')"
TYPE = "dict(type='os.mkdir', path='ran')"


def tampered(path, text=None, **meta):
    """A copy of a checkpoint with another config in it."""
    content = torch.load(path, weights_only=True)
    if text is not None:
        content['message_hub']['runtime_info']['cfg'] = text
        content['meta']['cfg'] = text
    content['meta'].update(meta)
    torch.save(content, 'tampered.pth')
    return 'tampered.pth'


@pytest.fixture
def nothing_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    package = tmp_path / 'evil'
    package.mkdir()
    (package / '__init__.py').write_text("import os; os.mkdir('ran')\n")
    (package / 'registry.py').write_text('')
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop('evil', None)
    assert not Path('ran').exists()


def config_in(path):
    content = torch.load(path, weights_only=True)
    return content['message_hub']['runtime_info']['cfg']


def test_code_in_the_config_of_a_checkpoint_is_refused(paths, nothing_runs):
    checkpoint = tampered(paths[1], f'{config_in(paths[1])}\n{CODE}\n')
    with pytest.raises(CheckpointError, match='not plain data.*ran'):
        ActionRecogInferencer(None, checkpoint, device='cpu')


def test_names_that_are_not_registered_are_not_called(paths, nothing_runs):
    text, step = config_in(paths[1]), "dict(type='PackActionInputs')"
    assert step in text
    for new in (
        f'model = {TYPE}\n',
        text.replace(step, TYPE),
        text.replace(step, "dict(type='evil.Transform')"),
    ):
        checkpoint = tampered(paths[1], new)
        with pytest.raises(KeyError, match='registry'):
            ActionRecogInferencer(None, checkpoint, device='cpu')


@pytest.mark.parametrize(
    'setting', ["type='exec(1)'", "type='DecordInit', sys_path='evil'"]
)
def test_what_registered_modules_would_run(paths, nothing_runs, setting):
    """MMCV evaluates some types; file clients import from a path."""
    text = config_in(paths[1]) + f'\nx = [dict({setting})]\n'
    checkpoint = tampered(paths[1], text)
    with pytest.raises(CheckpointError, match="exec|sys_path='evil'"):
        ActionRecogInferencer(None, checkpoint, device='cpu')


def test_modules_that_a_checkpoint_names_are_not_imported(
    paths, videos, nothing_runs
):
    old, text = 'imports=[', config_in(paths[1])
    assert old in text
    checkpoint = tampered(paths[1], text.replace(old, "imports=['evil', "))
    inferencer = ActionRecogInferencer(None, checkpoint, device='cpu')
    assert inferencer(videos[0])['predictions']


def test_trusted_configs_are_run(paths, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trust_checkpoints()
    checkpoint = tampered(paths[1], f'{config_in(paths[1])}\n{CODE}\n')
    ActionRecogInferencer(None, checkpoint, device='cpu')
    assert Path('ran').is_dir()


def test_checkpoint_without_a_config_is_named(paths, trained):
    with pytest.raises(CheckpointError, match='backbone.pth holds no config'):
        ActionRecogInferencer(
            None, str(trained / 'run/backbone.pth'), device='cpu'
        )


def test_resuming_runs_no_old_config(paths, nothing_runs):
    cfg = Config.fromfile(paths[0])
    cfg.update(
        work_dir='run',
        resume=True,
        load_from=tampered(paths[1], config=CODE),
        experiment_name=uuid.uuid4().hex,
    )
    runner = Runner.from_cfg(cfg)
    runner.train()  # it is at its end already
    assert runner.epoch == 1


# ------------------------------------------------------------- pictures


def test_inferencer_writes_videos_with_predictions(paths, tmp_path):
    inferencer = ActionRecogInferencer(*paths, device='cpu')
    inferencer.visualizer.dataset_meta = dict(classes=[*'abcdefgh'])
    texts = []
    draw = inferencer.visualizer.draw_texts

    def draw_texts(text, *args, **kwargs):
        texts.append(text)
        return draw(text, *args, **kwargs)

    inferencer.visualizer.draw_texts = draw_texts
    red = np.full((20, 64, 64, 3), (200, 30, 60), np.uint8)
    with video_writer(tmp_path / 'red.mp4', 10) as add_frame:
        for frame in red:
            add_frame(frame)
    found = inferencer(
        str(tmp_path / 'red.mp4'), vid_out_dir=str(tmp_path / 'out')
    )
    (prediction,) = found['predictions']
    (label,) = prediction['pred_labels']
    score = prediction['pred_scores'][label]
    assert len(texts) == len(red)
    for text in texts:
        assert text.endswith(
            f'Prediction: {label}, {score:.2f} ({"abcdefgh"[label]})'
        )
    (path,) = (tmp_path / 'out').iterdir()
    assert path.name == 'red.mp4'
    with av.open(str(path)) as file:
        written = [f.to_ndarray(format='rgb24') for f in file.decode(video=0)]
    assert len(written) == len(red)
    corners = np.float32([frame[-1, -1] for frame in written])
    np.testing.assert_allclose(corners, np.float32(red[:, 0, 0]), atol=12)


def test_inferencer_writes_gifs(paths, videos, tmp_path):
    inferencer = ActionRecogInferencer(*paths, device='cpu')
    inferencer(videos[0], vid_out_dir=str(tmp_path), out_type='gif')
    (path,) = tmp_path.iterdir()
    with Image.open(path) as image:
        assert path.suffix == '.gif' and image.n_frames == 12
