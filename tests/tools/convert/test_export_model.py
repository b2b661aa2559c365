# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/convert/export_model.py`."""

import json
import subprocess
import sys

import export_model as tool  # noqa: E402
import numpy as np
import pytest
import torch
from helpers.exported_models import MEAN, STD, recognizer, recognizer_config
from mmaction.registry import MODELS
from mmengine.config import Config
from torch import nn

from mmmotionmae.apis import UsageError
from mmmotionmae.apis.export.file_formats import load_program
from mmmotionmae.cli.running import run_tool
from mmmotionmae.utils.errors import CheckpointError

CLASSES = ['run', 'jump', 'été', 'sit, then stand', 'wave']

# What someone writes who has the file, NumPy and onnxruntime.
CLASSIFY = """
import json, sys
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
about = session.get_modelmeta().custom_metadata_map
frames = np.load(sys.argv[2])  # (videos, T, H, W, C), uint8, RGB
size = [int(about[k]) for k in ('num_frames', 'height', 'width', 'channels')]
assert [*frames.shape[1:]] == size
if about['normalized_by'] == 'caller':
    mean, std = json.loads(about['mean']), json.loads(about['std'])
    frames = (frames - np.float32(mean)) / np.float32(std)
assert about['input_layout'] == 'NCTHW'
clips = frames.transpose(0, 4, 1, 2, 3).astype(about['input_type'])
(scores,) = session.run(None, {'clips': clips})
classes = json.loads(about['classes'])
print(json.dumps([classes[i] for i in scores.argmax(1)]))
np.save(sys.argv[3], scores)
assert not {'torch', 'mmengine', 'mmmotionmae'} & {*sys.modules}
"""


def run(*argv):
    tool.export(tool.parse_args([str(a) for a in argv]))


def save(model, config, path, **meta):
    """As MMEngine's runner does."""
    text = Config(dict(model=config)).pretty_text
    state = dict(state_dict=model.state_dict(), meta=dict(cfg=text, **meta))
    torch.save(state, path)
    return path


@pytest.fixture
def classifier():
    model = recognizer('FusedVisionTransformer', depth=1)
    # So that not one class wins every time.
    nn.init.zeros_(model.backbone.fc_norm.bias)
    nn.init.zeros_(model.cls_head.fc_cls.bias)
    return model


@pytest.fixture
def checkpoint(classifier, tmp_path):
    return save(
        classifier,
        recognizer_config('FusedVisionTransformer', depth=1),
        tmp_path / 'classifier.pth',
        dataset_meta=dict(classes=CLASSES),
    )


@pytest.fixture
def pretrained(tiny_model, tmp_path):
    model = tiny_model()
    config = dict(
        type='MotionMAE',
        backbone=dict(
            type='MotionMAEViT',
            img_size=32,
            patch_size=8,
            num_frames=8,
            embed_dims=32,
            depth=2,
            num_heads=2,
        ),
        neck=dict(
            type='MotionMAEDecoder', embed_dims=16, depth=1, num_heads=2
        ),
    )
    path = save(model, config, tmp_path / 'pretrained.pth')
    return model, path


@pytest.mark.parametrize('flags', [['--uint8'], []])
def test_classify_with_the_file_alone(
    classifier, checkpoint, tmp_path, capsys, flags
):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    out = tmp_path / 'x.onnx'
    run(checkpoint, out, *flags)
    lines = capsys.readouterr().out.splitlines()
    shape = '(B, 3, 8, 32, 32), RGB'
    assert f'{out}: 0.' in lines[-5] and lines[-5].endswith(' MB')
    assert lines[-4] == (
        f'  clips: uint8 {shape}, in [0, 255]'
        if flags
        else f'  clips: float32 {shape}, normalised with mean {MEAN}, '
        f'std {STD}'
    )
    assert lines[-2] == '  names of 5 classes'
    assert 'checked with batches of 1 and 3: the largest' in lines[-1]

    # Six videos of several classes.
    generator = np.random.default_rng(0)
    colors = generator.integers(256, size=(6, 1, 1, 1, 3))
    noise = generator.integers(-40, 40, size=(6, 8, 32, 32, 3))
    frames = (colors + noise).clip(0, 255).astype(np.uint8)
    np.save(tmp_path / 'frames.npy', frames)
    clips = torch.from_numpy(frames).permute(0, 4, 1, 2, 3)
    batch = dict(inputs=list(clips[:, None]), data_samples=[None] * 6)
    with torch.no_grad():
        inputs = classifier.data_preprocessor(batch)['inputs']
        features, _ = classifier.extract_feat(inputs)
        expected = classifier.cls_head(features).softmax(1)
    labels = expected.argmax(1).tolist()
    assert len({*labels}) > 1

    files = [out, tmp_path / 'frames.npy', tmp_path / 'scores.npy']
    printed = subprocess.run(
        [sys.executable, '-c', CLASSIFY, *map(str, files)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert json.loads(printed) == [CLASSES[i] for i in labels]
    np.testing.assert_allclose(np.load(files[2]), expected, atol=1e-5)


def test_pretrained_encoder(pretrained, tmp_path, capsys):
    model, path = pretrained
    out = tmp_path / 'x.pt2'
    run(path, out, '--batch-size', 2)
    text = capsys.readouterr().out
    assert 'clips: float32 (2, 3, 8, 32, 32)' in text
    assert 'pooled: float32 (B, D), the mean of all tokens' in text
    assert 'classes' not in text
    program, metadata = load_program(out)
    assert metadata['source'] == 'pretrained.pth'
    clips = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            program.module()(clips), model.backbone(clips).mean(1)
        )
    with pytest.raises(UsageError, match='holds no classifier.* no scores'):
        run(path, tmp_path / 'y.pt2', '--output', 'scores')


def test_other_clips(checkpoint, tmp_path, capsys):
    """Twice the frames, and names of classes from a file."""
    names = tmp_path / 'classes.txt'
    names.write_text('\ufeffa\nb\n\nc d\ne\nf\n', encoding='utf-8')
    out = tmp_path / 'x.pt2'
    flags = ['--num-frames', 16, '--img-size', 48, '--no-check']
    run(checkpoint, out, *flags, '--classes', names)
    assert capsys.readouterr().out.endswith('  not checked\n')
    program, metadata = load_program(out)
    assert metadata['classes'] == ['a', 'b', 'c d', 'e', 'f']
    assert [metadata[k] for k in ('num_frames', 'height', 'width')] == [
        *(16, 48, 48)
    ]
    scores = program.module()(torch.randn(1, 3, 16, 48, 48))
    torch.testing.assert_close(scores.sum(), torch.tensor(1.0))
    with pytest.raises(UsageError, match='exists: --overwrite'):
        run(checkpoint, out)


def test_model_of_a_config(tmp_path):
    """A head that is not MMAction2's."""
    config = recognizer_config(
        'FusedVisionTransformer',
        head=dict(type='AttentiveProbeHead', num_heads=2),
        use_mean_pooling=False,
        return_feat_map=True,
        depth=1,
    )
    path, out = tmp_path / 'config.py', tmp_path / 'x.pt2'
    Config(dict(model=config)).dump(path)
    model = MODELS.build(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    file = save(model, config, tmp_path / 'x.pth')
    run(
        file, out, '--config', path, '--output', 'logits', '--dtype', 'float16'
    )
    program, metadata = load_program(out)
    assert metadata['weights_type'] == 'float16'
    clips = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        expected = model.eval().cls_head(model.backbone(clips))
        torch.testing.assert_close(
            program.module()(clips), expected, rtol=0.01, atol=0.05
        )
    del config['cls_head']['num_heads']
    config['cls_head']['type'] = 'TimeSformerHead'
    Config(dict(model=config)).dump(path)
    with pytest.raises(CheckpointError, match='pooling'):
        run(file, tmp_path / 'y.pt2', '--config', path)


@pytest.mark.parametrize(
    'out,flags,message',
    [
        ('x.pth', [], r'ends in \.onnx or \.pt2'),
        ('x.pt2', ['--batch-size', '0'], 'must be 1 or more'),
        ('x.pt2', ['--config', 'c.py', '--img-size', '64'], 'go without'),
        ('x.pt2', ['--config', 'c.py'], "no config file 'c.py'"),
    ],
)
def test_mistakes(checkpoint, tmp_path, out, flags, message):
    with pytest.raises(UsageError, match=message):
        run(checkpoint, tmp_path / out, *flags)


def test_one_line_for_the_user(tmp_path, capsys):
    args = tool.parse_args([str(tmp_path / 'no.pth'), str(tmp_path / 'x.pt2')])
    assert run_tool(lambda: tool.export(args)) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and error.count('\n') == 1
    assert 'no.pth' in error and not [*tmp_path.iterdir()]
