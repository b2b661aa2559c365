# Copyright (c) MotionMAE contributors. All rights reserved.
"""Fixtures that several test files share."""

import copy
import functools
import gc
import importlib
import os
from pathlib import Path

import mmengine
import pytest
import torch
from helpers.global_state import isolated
from helpers.resumed_runs import train  # noqa: F401  (a fixture)
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.utils.dl_utils import collect_env
from yapf.yapflib import yapf_api

from mmmotionmae.datasets import moving_shapes

# All that registries import when asked, for what is registered in one test is
# forgotten before the next one.
for name in (
    'mmaction.engine',
    'mmaction.visualization',
    'mmmotionmae.apis',
    'mmmotionmae.engine',
    'mmmotionmae.evaluation',
    'mmmotionmae.models',
):
    importlib.import_module(name)

ROOT = Path(__file__).parents[1]
SHARED_DATA = ROOT.parent / 'shared' / 'data'

TINY_BACKBONE = dict(
    type='MotionMAEViT',
    img_size=32,
    patch_size=8,
    num_frames=8,
    tubelet_size=2,
    embed_dims=32,
    depth=2,
    num_heads=2,
)
TINY_MODEL = dict(
    type='MotionMAE',
    backbone=TINY_BACKBONE,
    neck=dict(type='MotionMAEDecoder', embed_dims=16, depth=1, num_heads=2),
)


@pytest.fixture(scope='session', autouse=True)
def _cheap_runners():
    """Do once what MMEngine does for each runner and data set.

    Its search for compilers and GPUs, the layout of a config's text, and
    collecting garbage take longer than a training of four steps.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            mmengine.runner.runner, 'collect_env', functools.cache(collect_env)
        )
        # onedl-mmengine imports it when it is used.
        for owner in (mmengine.config.config, yapf_api):
            patch.setattr(
                owner,
                'FormatCode',
                lambda text, **style: (text, True),
                raising=False,
            )
        gc.freeze()
        yield


@pytest.fixture(autouse=True)
def _isolated():
    with isolated():
        yield


@pytest.fixture
def tiny_model():
    """A function that builds the tiny model, parts of it replaced."""

    def build(**parts):
        cfg = copy.deepcopy(TINY_MODEL)
        for name, changes in parts.items():
            cfg.setdefault(name, {}).update(changes)
        return MODELS.build(cfg)

    return build


def tube_mask(batch_size=2, grid=(4, 4, 4), num_masked=12, generator=None):
    """A tube mask (B, L), written without the project's own code."""
    t, h, w = grid
    rows = []
    for _ in range(batch_size):
        order = torch.randperm(h * w, generator=generator)[:num_masked]
        row = torch.zeros(h * w, dtype=torch.bool)
        row[order] = True
        rows.append(row.repeat(t))
    return torch.stack(rows)


def as_batch(frames, mask=None):
    """What the data loader hands over: uint8 (B, C, T, H, W), mask (B, L)."""
    samples = []
    for i in range(len(frames)):
        sample = ActionDataSample()
        if mask is not None:
            sample.set_field(mask[i : i + 1], 'mask')
        samples.append(sample)
    return dict(inputs=[f[None] for f in frames], data_samples=samples)


@pytest.fixture(scope='session')
def shapes_dir(tmp_path_factory):
    """A small set of generated videos."""
    root = tmp_path_factory.mktemp('moving_shapes') / 'data'
    moving_shapes.write_dataset(
        root,
        num_pretrain=32,
        num_train=16,
        num_val=16,
        num_davis=0,
        disable=True,
    )
    return root


@pytest.fixture
def shared_data():
    if not SHARED_DATA.is_dir():
        pytest.skip(f'{SHARED_DATA} is not here')
    return SHARED_DATA


@pytest.fixture
def run_env(shapes_dir):
    """The environment of a tool that a test starts."""
    return dict(
        os.environ,
        DEMO_DATA=str(shapes_dir),
        PYTHONPATH=str(ROOT),
        OMP_NUM_THREADS='1',
    )
