# Copyright (c) MotionMAE contributors. All rights reserved.
"""The command line of `tools/analysis/describe.py`."""

import json

from analysis import describe as tool
from conftest import ROOT


def test_command_line(capsys, tmp_path):
    path = ROOT / 'configs' / 'demo'
    config = str(
        path / 'motionmae_vit-tiny-p8_1xb32-8x1x1-40e_moving-shapes.py'
    )
    out = tmp_path / 'figures.json'
    args = [config, '--gpus', '4', '--videos', '640', '--json', str(out)]
    options = ['--cfg-options', 'train_cfg.max_epochs=3']
    assert tool.main([*args, *options]) == 0
    printed = capsys.readouterr().out
    assert '128 clips a step = 4 GPUs x 32 videos x 1 clips' in printed
    assert '5 an epoch, 15 in all, 1,920 clips' in printed
    found = json.loads(out.read_text())
    assert found['length']['clips'] == 1920
    assert found['tokens']['visible'] == 32
    assert tool.main(args) == 2
    assert 'figures.json' in capsys.readouterr().err


def test_mistakes(capsys):
    base = ROOT / 'configs' / '_base_' / 'default_runtime.py'
    for config, message in (
        ('no/such.py', "no config file 'no/such.py'"),
        (str(base), 'has no model'),
    ):
        assert tool.main([config]) == 2
        assert message in capsys.readouterr().err


def test_a_cluster(capsys, tmp_path):
    config = str(
        ROOT / 'configs/motionmae/motionmae_vit-base-p16_'
        '32xb64-16x4x1-amp-1600e_kinetics400-rgb.py'
    )
    out = tmp_path / 'figures.json'
    args = ['--gpu-memory', '80', '--network', '400', '--tflops', '400']
    more = ['--gpus', '1024', '--gpus-per-node', '16', '--json', str(out)]
    assert tool.main([config, *args, *more]) == 0
    printed = capsys.readouterr().out
    assert 'cluster    1024 GPUs, 16 a node, 64 nodes' in printed
    text = ' '.join(printed.split())
    assert '1024 GPUs are more than the recipe allows' in text
    found = json.loads(out.read_text())['cluster']
    assert found['machine']['outside'] == 400e9
    assert found['machine']['flops'] == 400e12
    assert found['batch']['largest'] == 512
    assert tool.main([config, *args]) == 2
    assert 'needs --gpus N' in capsys.readouterr().err
