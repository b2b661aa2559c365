# Copyright (c) MotionMAE contributors. All rights reserved.
"""Each question of a user has an answer with a command that fits."""

import re
import shlex

import pytest
from conftest import ROOT
from helpers.typed_commands import bash_blocks
from mmengine.config import DictAction

from mmmotionmae.apis.runner import load_config

TEXT = (ROOT / 'docs/faq.md').read_text()
# What CONFIG is in a command: a pre-training, or what fits its options.
CONFIGS = {
    'frozen_stages': 'configs/recognition/vit-base-p16_motionmae-videos-pre'
    '_8xb16-16x4x1-amp-100e_videos-rgb.py',
    '': 'configs/motionmae/motionmae_vit-small-p16_8xb64-16x4x1-amp-800e'
    '_videos-rgb.py',
}


def options_of(command):
    """The words after ``--cfg-options``, as values by key."""
    words = shlex.split(command)
    options = {}
    for word in words[words.index('--cfg-options') + 1 :]:
        if word.startswith('--'):
            break
        key, value = word.split('=', 1)
        options[key] = DictAction._parse_iterable(value)
    return options


COMMANDS = [
    line
    for block in bash_blocks(TEXT)
    for line in re.sub(r'\\\n', ' ', block).splitlines()
    if '--cfg-options' in line
]


def test_each_question_has_a_command_or_says_what_to_install():
    answers = re.split(r'^### ', TEXT, flags=re.M)[1:]
    assert len(answers) > 30
    bare = [
        answer.splitlines()[0]
        for answer in answers
        if not bash_blocks(answer) and '`pip install' not in answer
    ]
    # What to write into a config, what to look at in the log.
    assert bare == ['`X is not in the registry`', 'Is my loss normal?']


def follow(cfg, keys):
    """What stands under keys; a KeyError where one is missing."""
    for key in keys:
        cfg = cfg[int(key)] if key.isdigit() else cfg[key]
    return cfg


@pytest.mark.parametrize('command', COMMANDS)
def test_options_fit_the_config(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = re.search(r'configs/\S+\.py', command)
    options = options_of(command)
    name = (
        found[0]
        if found
        else next(value for key, value in CONFIGS.items() if key in command)
    )
    before = load_config(name, {})
    after = load_config(name, options)
    assert options
    for key, value in options.items():
        keys = key.split('.')
        there = keys.index('clip_grad') if 'clip_grad' in keys else -1
        follow(before, keys[:there])  # else a misspelt one would be added
        assert follow(after, keys) == value, key
