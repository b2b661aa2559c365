# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/evaluate_features.py`, and both tools on real videos."""

import json
import sys

import numpy as np
import pytest
from conftest import TINY_BACKBONE
from mmaction.registry import MODELS
from mmengine.logging import MMLogger
from test_extract_features import load_tool

from mmmotionmae.apis import UsageError
from mmmotionmae.apis.features import evaluate_features, extract_features

TOOL = load_tool('evaluate_features')
QUICK = dict(num_workers=0, device='cpu', progress=False)


@pytest.fixture(autouse=True)
def _loggers():
    MMLogger._instance_dict.clear()
    yield
    MMLogger._instance_dict.clear()


@pytest.fixture
def files(shapes_dir, tmp_path):
    """Features of two lists, of both blocks of a network."""
    vit = MODELS.build(TINY_BACKBONE)
    paths = []
    for name in ('train', 'val'):
        path = tmp_path / f'{name}.npy'
        extract_features(
            vit,
            shapes_dir / f'{name}.txt',
            path,
            data_prefix=shapes_dir,
            block=(0, 1),
            frame_interval=1,
            **QUICK,
        )
        paths.append(path)
    return paths


def evaluate(*argv):
    TOOL.evaluate(TOOL.parse_args([str(a) for a in argv]))


def test_flags(files, tmp_path, capsys):
    out = tmp_path / 'new/report.json'
    evaluate(
        *files,
        *('--method', 'linear', 'knn', '--block', 1),
        *('--neighbours', 3, 1, '--temperature', 0.2),
        *('--strengths', 0.01, 1, '--seed', 4, '--out', out),
    )
    want = evaluate_features(
        *files,
        methods=['linear', 'knn'],
        blocks=[1],
        neighbours=[3, 1],
        temperature=0.2,
        strengths=[0.01, 1],
        seed=4,
    )
    got = json.loads(out.read_text())
    assert got | dict(date='') == json.loads(json.dumps(want)) | dict(date='')
    table = capsys.readouterr().out
    assert table.splitlines()[0] == (
        '16 videos of 8 classes to learn from, 16 to test on'
    )
    assert 'k-NN, k=3' in table and 'linear, C=' in table
    assert f'written to {out}' in table


def test_files_that_are_written(files, tmp_path, capsys):
    quick = ['--method', 'knn', '--neighbours', 1]
    evaluate(*files, *quick)
    out = tmp_path / 'val.accuracy.json'
    before = out.read_text()
    with pytest.raises(UsageError, match=r'val\.accuracy\.json exists'):
        evaluate(*files, *quick)
    assert out.read_text() == before
    evaluate(*files, *quick, '--overwrite', '--temperature', 1)
    assert out.read_text() != before
    evaluate(files[0], *quick, '--leave-one-out')
    assert (tmp_path / 'train.accuracy.json').exists()
    assert '16 videos of 8 classes, leave one out' in capsys.readouterr().out
    evaluate(files[0], *quick, '--folds', 2, '--overwrite')
    assert '16 videos of 8 classes, 2 folds' in capsys.readouterr().out


def test_exit_codes(files, monkeypatch, capsys):
    def main(*argv):
        monkeypatch.setattr(sys, 'argv', ['tool', *map(str, argv)])
        return TOOL.main()

    assert main(*files, '--method', 'knn', '--neighbours', 1) == 0
    assert main(files[0], 'nothing.npy') == 2
    assert main(files[0], files[0]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[-2] == "error: There is no file 'nothing.npy'."
    assert 'of the same videos' in errors[-1]


def test_real_videos(shared_data, tmp_path):
    """Random weights know more than chance: they keep colours and places."""
    vit = MODELS.build(dict(TINY_BACKBONE, embed_dims=48, patch_size=4))
    vit.init_weights()
    folder = shared_data / 'actions7'
    train, test = (
        extract_features(
            vit,
            folder / f'{name}_list.txt',
            tmp_path / f'{name}.npy',
            data_prefix=folder,
            num_frames=2,
            **QUICK | dict(num_workers=2),
        )
        for name in ('train', 'val')
    )
    assert train.values.shape == (51, 48) and test.values.shape == (23, 48)
    assert np.isfinite(train.values).all() and not train.bad_videos
    report = evaluate_features(train, test)
    assert report['settings']['classes'] == 7
    assert all(row['videos'] == 23 for row in report['results'])
    # Chance is 14 %; training videos are of other persons.
    within = evaluate_features(train, leave_one_out=True, methods=['knn'])
    assert max(row['top1_low'] for row in within['results']) > 1 / 7
