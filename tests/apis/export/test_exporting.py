# Copyright (c) MotionMAE contributors. All rights reserved.
"""A file appears if it is right, whole, and was asked for."""

import copy
import sys

import numpy as np
import pytest
import torch
from helpers.exported_models import encoder, recognizer

from mmmotionmae.apis import UsageError
from mmmotionmae.apis.export import ClipModel, export_model, exporting
from mmmotionmae.apis.export import file_formats as onnx_file
from mmmotionmae.apis.export.exporting import largest_difference, open_onnx
from mmmotionmae.apis.export.file_formats import make_program

pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

SHALLOW = dict(depth=1)


def test_weights_too_large_for_a_file(tmp_path, monkeypatch):
    vit = encoder('MotionMAEViT', **SHALLOW)
    path = tmp_path / 'x.onnx'
    clips = torch.randn(1, 3, 8, 32, 32)
    with monkeypatch.context() as patch:
        patch.setattr(onnx_file, 'BYTES_IN_FILE', 10_000)
        exported = export_model(vit, path)
    data = tmp_path / 'x.onnx.data'
    assert {*tmp_path.iterdir()} == {path, data}
    weights = sum(v.nbytes for v in vit.state_dict().values())
    assert path.stat().st_size < weights < exported.num_bytes
    assert exported.num_bytes == sum(p.stat().st_size for p in (path, data))
    before = open_onnx(path)(clips)
    # One file again: the old weights must not stay behind.
    export_model(vit, path, overwrite=True, check=False)
    assert {*tmp_path.iterdir()} == {path}
    torch.testing.assert_close(open_onnx(path)(clips), before)


@pytest.mark.parametrize(
    'suffix', [pytest.param('onnx', marks=pytest.mark.slow), 'pt2']
)
def test_file_that_is_wrong_is_not_written(tmp_path, monkeypatch, suffix):
    def make_wrong_program(model, batch_size):
        wrong = copy.deepcopy(model)
        wrong.encoder.blocks[0].norm1.bias.data += 0.1
        return make_program(wrong, batch_size)

    path = tmp_path / 'folder' / f'x.{suffix}'
    path.parent.mkdir()
    path.write_bytes(b'earlier')
    monkeypatch.setattr(exporting, 'make_program', make_wrong_program)
    with pytest.raises(UsageError, match=r'off by .* more than 1e-04: .*x\.'):
        export_model(encoder('MotionMAEViT', **SHALLOW), path, overwrite=True)
    assert path.read_bytes() == b'earlier'
    assert [*path.parent.iterdir()] == [path]
    if suffix == 'onnx':
        return
    # It is the check that finds out.
    exported = export_model(
        encoder('MotionMAEViT', **SHALLOW), path, overwrite=True, check=False
    )
    assert exported.difference is None and exported.batch_sizes == ()


def test_how_far_off():
    model = ClipModel(encoder('MotionMAEViT', **SHALLOW), 'tokens')
    with torch.no_grad():
        largest = model(model.random_clips(2, seed=0)).abs().max()

    def wrong_by(error):
        def run(clips):
            output = model(clips).detach()
            output[-1, 3, 5] += error
            return output

        return largest_difference(model, run, [2])

    assert wrong_by(0) == 0
    assert wrong_by(0.25 * largest) == pytest.approx(0.25)
    assert wrong_by(float('nan')) == np.inf
    assert largest_difference(model, lambda x: model(x)[:, 1:], [2]) == np.inf


@pytest.mark.parametrize(
    'options,message',
    [
        (dict(path='x.pth'), r"ends in \.onnx or \.pt2; 'x\.pth' does not"),
        (dict(path='there.onnx'), 'there.onnx exists: --overwrite'),
        (dict(dtype='int8'), "float32, float16, not 'int8'"),
        (dict(opset=17), 'opset must be from 18 to 23, not 17'),
        (dict(classes=['a', 'b']), '2 names of classes.* 5 classes'),
        (dict(output='features'), 'output must be one of'),
    ],
)
def test_mistakes(tmp_path, options, message):
    (tmp_path / 'there.onnx').touch()
    path = tmp_path / options.pop('path', 'x.onnx')
    with pytest.raises(UsageError, match=message):
        export_model(recognizer(**SHALLOW), path, **options)
    assert [p.name for p in tmp_path.iterdir()] == ['there.onnx']


@pytest.mark.parametrize('package', ['onnx', 'onnxscript', 'onnxruntime'])
def test_package_is_missing(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    vit = encoder('MotionMAEViT', **SHALLOW)
    with pytest.raises(UsageError, match=package) as error:
        export_model(vit, tmp_path / 'x.onnx')
    assert "pip install 'mmmotionmae[export]'" in str(error.value)
    assert '\n' not in str(error.value)
    if package == 'onnx':  # .pt2 needs none of them
        export_model(vit, tmp_path / 'x.pt2')
