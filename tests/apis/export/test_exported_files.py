# Copyright (c) MotionMAE contributors. All rights reserved.
"""Files, run by their own runtimes, compute what MMAction2's models do."""

import hashlib
import json

import numpy as np
import pytest
import torch
from helpers.exported_models import MEAN, STD, encoder, recognizer
from torch import nn

from mmmotionmae import __version__
from mmmotionmae.apis.export import export_model
from mmmotionmae.apis.export.file_formats import load_program

onnx = pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

SHALLOW = dict(depth=1)


def session_of(path):
    return onnxruntime.InferenceSession(
        path, providers=['CPUExecutionProvider']
    )


def run(path, clips):
    """Without any code of the project."""
    if path.suffix == '.onnx':
        session = session_of(path)
        return torch.from_numpy(session.run(None, {'clips': clips.numpy()})[0])
    with torch.no_grad():
        return torch.export.load(path).module()(clips)


@torch.no_grad()
def stock_outputs(model, clips):
    """By MMAction2's own forward pass; model is a recognizer or encoder."""
    stock = recognizer(
        depth=len(model.backbone.blocks),
        use_learnable_pos_emb=isinstance(
            model.backbone.pos_embed, nn.Parameter
        ),
        init_values=0.1 if hasattr(model.backbone.blocks[0], 'gamma_1') else 0,
    )
    stock.load_state_dict(model.state_dict())
    logits = stock.cls_head(stock.backbone(clips))
    return dict(
        logits=logits,
        scores=logits.softmax(1),
        pooled=stock.backbone(clips),
    )


def normalise(frames):
    mean, std = (torch.tensor(v).view(3, 1, 1, 1) for v in (MEAN, STD))
    return (frames.float() - mean) / std


@pytest.mark.parametrize(
    'suffix,type,output,changes',
    [
        ('onnx', 'VisionTransformer', 'logits', {}),
        ('pt2', 'FusedVisionTransformer', 'scores', {}),
        (
            'pt2',
            'FusedVisionTransformer',
            'pooled',
            dict(use_learnable_pos_emb=True, init_values=0.1),
        ),
        pytest.param(
            *('onnx', 'FusedVisionTransformer', 'logits'),
            dict(use_learnable_pos_emb=True, init_values=0.1),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_classifier(tmp_path, suffix, type, output, changes):
    model = recognizer(type, **SHALLOW, **changes)
    uint8 = output == 'scores'
    exported = export_model(
        model, tmp_path / f'a/x.{suffix}', output, uint8=uint8
    )
    assert exported.path == tmp_path / f'a/x.{suffix}'
    assert exported.batch_sizes == (1, 3)
    assert exported.difference < 1e-5
    for size in (1, 2, 5):
        frames = torch.randint(256, (size, 3, 8, 32, 32), dtype=torch.uint8)
        clips = normalise(frames)
        torch.testing.assert_close(
            run(exported.path, frames if uint8 else clips),
            stock_outputs(model, clips)[output],
            rtol=1e-4,
            atol=1e-5,
        )


@pytest.mark.parametrize('suffix', ['onnx', 'pt2'])
def test_tokens_of_a_pretrained_encoder(tmp_path, suffix):
    vit = encoder('MotionMAEViT', **SHALLOW)
    stock = encoder(
        'VisionTransformer',
        use_mean_pooling=False,
        return_feat_map=True,
        **SHALLOW,
    )
    stock.load_state_dict(vit.state_dict())
    path = tmp_path / f'x.{suffix}'
    export_model(vit, path, 'tokens')
    clips = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        expected = stock(clips).flatten(2).transpose(1, 2)
    torch.testing.assert_close(
        run(path, clips), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize('head', ['LinearProbeHead', 'AttentiveProbeHead'])
def test_probes(tmp_path, head):
    """Of any number of clips."""
    heads = dict(num_heads=2) if head == 'AttentiveProbeHead' else {}
    model = recognizer(
        'FusedVisionTransformer',
        head=dict(type=head, **heads),
        use_mean_pooling=False,
        return_feat_map=True,
        **SHALLOW,
    )
    if head == 'LinearProbeHead':
        model.cls_head.norm.running_mean.normal_()
        model.cls_head.norm.running_var.uniform_(1, 2)
    exported = export_model(model, tmp_path / 'x.pt2', 'logits')
    clips = torch.randn(4, 3, 8, 32, 32)
    with torch.no_grad():
        expected = model.cls_head(model.backbone(clips))
    torch.testing.assert_close(run(exported.path, clips), expected)


def test_onnx_file_speaks_for_itself(tmp_path):
    source = tmp_path / 'epoch_1.pth'
    source.write_bytes(b'weights')
    path = tmp_path / 'x.onnx'
    classes = ['run', 'jump', 'été', 'sit, then stand', 'wave']
    exported = export_model(
        recognizer('FusedVisionTransformer', **SHALLOW),
        path,
        uint8=True,
        classes=classes,
        source=source,
    )
    session = session_of(path)
    (clips,), (scores,) = session.get_inputs(), session.get_outputs()
    assert (clips.name, clips.type) == ('clips', 'tensor(uint8)')
    assert clips.shape == ['batch', 3, 8, 32, 32]
    assert (scores.name, scores.shape) == ('scores', ['batch', 5])
    found = session.get_modelmeta().custom_metadata_map
    assert {key: found[key] for key in exported.metadata} == dict(
        input_layout='NCTHW',
        input_type='uint8',
        color_order='RGB',
        channels='3',
        num_frames='8',
        height='32',
        width='32',
        mean='[120.0, 110.0, 100.0]',
        std='[60.0, 50.0, 40.0]',
        normalized_by='model',
        output='scores',
        weights_type='float32',
        mmmotionmae=__version__,
        torch=torch.__version__,
        source='epoch_1.pth',
        source_sha256=hashlib.sha256(b'weights').hexdigest(),
        classes=json.dumps(classes, ensure_ascii=False),
    )
    model = onnx.load(path)
    # No operators but the standard's, of the version asked for.
    assert [(o.domain, o.version) for o in model.opset_import] == [('', 20)]
    assert exported.num_bytes == path.stat().st_size
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        'epoch_1.pth',
        'x.onnx',
    ]


def test_program_speaks_for_itself(tmp_path):
    path = tmp_path / 'x.pt2'
    exported = export_model(
        recognizer('FusedVisionTransformer', **SHALLOW),
        path,
        classes=list('abcde'),
    )
    program, metadata = load_program(path)
    assert metadata == exported.metadata
    assert metadata['classes'] == list('abcde')
    # No operators of this project, of oneDNN, of Python.
    operators = {
        node.target
        for node in program.graph.nodes
        if node.op == 'call_function'
    }
    overloads = {x for x in operators if isinstance(x, torch._ops.OpOverload)}
    assert {x.namespace for x in overloads} == {'aten'}
    assert {x.__module__ for x in operators - overloads} <= {'_operator'}
    assert torch.ops.aten.scaled_dot_product_attention.default in operators
    # Nor the clips that it was captured with.
    weights = sum(v.nbytes for v in program.state_dict.values())
    assert path.stat().st_size < weights + 2 * 3 * 8 * 32 * 32 * 4


@pytest.mark.slow
@pytest.mark.parametrize('opset,operator', [(18, 'Erf'), (23, 'Attention')])
def test_versions_of_onnx(tmp_path, opset, operator):
    path = tmp_path / 'x.onnx'
    vit = encoder('MotionMAEViT', **SHALLOW)
    assert export_model(vit, path, opset=opset).difference < 1e-5
    model = onnx.load(path)
    assert [(o.domain, o.version) for o in model.opset_import] == [('', opset)]
    assert operator in {node.op_type for node in model.graph.node}


@pytest.mark.slow
def test_half_precision(tmp_path):
    model = recognizer('FusedVisionTransformer', **SHALLOW)
    path = tmp_path / 'x.onnx'
    exported = export_model(model, path, 'logits', dtype='float16')
    assert 0 < exported.difference < 1e-2
    clips = torch.randn(2, 3, 8, 32, 32)
    logits, expected = run(path, clips), stock_outputs(model, clips)['logits']
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, rtol=0.01, atol=0.05)
    tensors = onnx.load(path).graph.initializer
    large = [v for v in tensors if np.prod(v.dims) >= 32]
    assert {v.data_type for v in large} == {onnx.TensorProto.FLOAT16}
    weights = sum(np.prod(v.dims) for v in large)
    assert weights >= sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    'suffix', [pytest.param('onnx', marks=pytest.mark.slow), 'pt2']
)
def test_one_batch_size(tmp_path, suffix):
    path = tmp_path / f'x.{suffix}'
    exported = export_model(recognizer(**SHALLOW), path, batch_size=2)
    assert exported.batch_sizes == (2, 2)
    if suffix == 'onnx':
        (clips,) = session_of(path).get_inputs()
        assert clips.shape == [2, 3, 8, 32, 32]
    with pytest.raises(Exception, match='invalid dimensions|equal to 2'):
        run(path, torch.randn(3, 3, 8, 32, 32))
