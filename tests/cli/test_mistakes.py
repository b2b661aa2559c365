# Copyright (c) MotionMAE contributors. All rights reserved.
"""Mistakes in configs, and full disks, are told in one line."""

import copy
import errno
import os

import pytest
import torch
from conftest import TINY_BACKBONE, TINY_MODEL
from mmaction.registry import (
    DATASETS,
    HOOKS,
    MODELS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    TRANSFORMS,
)

from mmmotionmae.cli.mistakes import explain_mistake
from mmmotionmae.cli.running import run_tool
from mmmotionmae.utils.errors import UsageError

PROBE = dict(num_classes=5, in_channels=32)
DATA = dict(pipeline=[])


def line_of(registry, cfg):
    """What a tool says where this is built."""
    with pytest.raises(Exception) as caught:
        registry.build(copy.deepcopy(cfg))
    if isinstance(caught.value, UsageError):
        return str(caught.value)
    return explain_mistake(caught.value)


def model(**parts):
    cfg = copy.deepcopy(TINY_MODEL)
    for name, changes in parts.items():
        cfg.setdefault(name, {}).update(changes)
    return cfg


VIT = {**TINY_BACKBONE}
VIT.pop('type')
ADAM = dict(params=[torch.ones(1)])


@pytest.mark.parametrize(
    'registry,owner,given,wrong,meant',
    [
        (MODELS, 'MotionMAEViT', VIT, 'patch_sise', 'patch_size'),
        (MODELS, 'VisionTransformer', VIT, 'patch_sise', 'patch_size'),
        (MODELS, 'FusedVisionTransformer', VIT, 'patch_sise', 'patch_size'),
        (
            MODELS,
            'FusedVisionTransformer',
            VIT,
            'frozn_stages',
            'frozen_stages',
        ),
        (MODELS, 'MotionMAEDecoder', {}, 'dept', 'depth'),
        (MODELS, 'MotionMAE', dict(backbone=TINY_BACKBONE), 'neckk', 'neck'),
        (MODELS, 'LinearProbeHead', PROBE, 'topks', 'topk'),
        (MODELS, 'AttentiveProbeHead', PROBE, 'num_head', 'num_heads'),
        (MODELS, 'PixelTarget', {}, 'norms', 'norm'),
        (MODELS, 'FrameDifferenceTarget', {}, 'wieght', 'weight'),
        (DATASETS, 'RobustVideoDataset', DATA, 'num_repeat', 'num_repeats'),
        (TRANSFORMS, 'TubeMasking', {}, 'mask_ration', 'mask_ratio'),
        (HOOKS, 'LoggerHook', {}, 'intervall', 'interval'),
        (HOOKS, 'CheckFiniteHook', {}, 'intervall', 'interval'),
        (OPTIMIZERS, 'AdamW', ADAM, 'weigth_decay', 'weight_decay'),
    ],
)
def test_misspelt_arguments(registry, owner, given, wrong, meant):
    line = line_of(registry, {**given, 'type': owner, wrong: 1})
    assert line == (
        f'{owner} has no argument {wrong!r}; did you mean {meant}?'
    )


def test_misspelt_argument_deep_in_a_model():
    line = line_of(MODELS, model(backbone=dict(patch_sise=8)))
    assert line == (
        "MotionMAEViT has no argument 'patch_sise'; did you mean patch_size?"
    )


def test_argument_that_is_near_to_none():
    line = line_of(TRANSFORMS, dict(type='TubeMasking', zzz=1))
    assert line == (
        "TubeMasking has no argument 'zzz'. It has mask_ratio, patch_size, "
        'tubelet_size.'
    )


@pytest.mark.parametrize(
    'registry,name,meant',
    [
        (MODELS, 'MotionMAEVit', 'MotionMAEViT'),
        (TRANSFORMS, 'TubeMaskin', 'TubeMasking'),
        (OPTIM_WRAPPERS, 'AmpOptimWraper', 'AmpOptimWrapper'),
    ],
)
def test_misspelt_types(registry, name, meant):
    line = line_of(registry, dict(type=name))
    assert line == (
        f'There is no {registry.name} {name!r}; did you mean {meant}?'
    )


@pytest.mark.parametrize(
    'cfg',
    [
        model(backbone=dict(num_heads=5)),
        model(neck=dict(num_heads=5)),
        dict(TINY_BACKBONE, type='VisionTransformer', num_heads=5),
        dict(TINY_BACKBONE, type='FusedVisionTransformer', num_heads=5),
        dict(PROBE, type='AttentiveProbeHead', num_heads=5),
    ],
)
def test_heads_that_do_not_divide_the_width(cfg):
    line = line_of(MODELS, cfg)
    assert '5' in line and '\n' not in line
    width = 16 if cfg.get('neck', {}).get('num_heads') == 5 else 32
    assert f'embed_dims={width}' in line or f'divide {width} channels' in line


def test_values_that_a_module_of_ours_refuses():
    line = line_of(TRANSFORMS, dict(type='TubeMasking', mask_ratio=2))
    assert line == 'mask_ratio must be between 0 and 1, not 2.'
    line = line_of(TRANSFORMS, dict(type='LoadSequence', size=8, side='top'))
    assert line.startswith("LoadSequence: side must be 'short' or 'long', not")
    line = line_of(MODELS, dict(type='AttentiveProbeHead'))
    assert line.startswith('AttentiveProbeHead: ') and "'num_classes'" in line


def test_errors_that_are_no_mistakes_stay():
    class Broken:
        def __init__(self):
            [].index(3)

    registry = MODELS
    registry.register_module(module=Broken)
    for error in (
        ValueError('x'),
        RuntimeError('x'),
        KeyError('x'),
        OSError(errno.EPIPE, 'x'),
        OSError('x'),
    ):
        try:
            raise error
        except Exception as caught:
            assert explain_mistake(caught) is None
    try:
        registry.build(dict(type='Broken'))
    except ValueError as caught:
        # The module is of a test, not of the package.
        assert explain_mistake(caught) is None

    def tool():
        raise RuntimeError('a defect')

    with pytest.raises(RuntimeError, match='a defect'):
        run_tool(tool)


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT])
def test_full_disks(number, capsys):
    def tool():
        raise OSError(number, os.strerror(number), 'a/b.pth')

    assert run_tool(tool) == 2
    assert capsys.readouterr().err == (
        'error: The disk is full: a/b.pth could not be written. What was '
        'written before is whole. Make room and start it again (a training: '
        'with --resume).\n'
    )


def test_files_in_the_way(tmp_path, capsys):
    (tmp_path / 'file').touch()
    assert run_tool(lambda: (tmp_path / 'file' / 'a').write_text('')) == 2
    path = str(tmp_path / 'file' / 'a')
    assert capsys.readouterr().err == f'error: Not a directory: {path!r}.\n'
    assert run_tool(lambda: tmp_path.write_text('')) == 2
    assert 'Is a directory' in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='needs /dev/full')
def test_how_torch_tells_of_a_full_disk():
    """As an OSError only if it does not open the file itself."""
    with pytest.raises(OSError) as caught, open('/dev/full', 'wb') as file:
        torch.save(torch.ones(10**5), file)
    assert caught.value.errno == errno.ENOSPC
