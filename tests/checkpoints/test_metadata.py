# Copyright (c) MotionMAE contributors. All rights reserved.
"""Config text is read as MMEngine reads it, and nothing of it is run."""

import math
import os
from pathlib import Path

import pytest
from mmengine.config import Config

from mmmotionmae.checkpoints.metadata import parse_config_text

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(
    path for path in (ROOT / 'configs').rglob('*.py') if path.is_file()
)


def check(path):
    config = Config.fromfile(path, import_custom_modules=False)
    assert parse_config_text(config.pretty_text) == config.to_dict()


# Formatting the text takes 0.15 s, so here every twelfth.
@pytest.mark.parametrize('path', CONFIGS[::12], ids=lambda path: path.stem)
def test_configs_are_read_as_mmengine_reads_them(path):
    check(path)


@pytest.mark.slow
@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_all_configs_are_read_as_mmengine_reads_them(path):
    check(path)


VALUES = dict(
    none=None,
    flags=[True, False],
    numbers=(1, -2, 0.5, -1e-06, 2**70),
    one=(1,),
    empty=dict(nothing={}, pair=(), row=[]),
    words='it\'s "quoted"\n\\ and (odd) {braces} # é',
    nested=[dict(a=[dict(b=(1, dict(c='d')))])],
    odd={'a-b': 1, 'c.d': dict(e=2), 3: 'three'},
    rows=[{'x-y': 1}, [1, (2, [3])]],
)


def test_what_mmengine_writes_of_values_of_all_kinds():
    text = Config(VALUES).pretty_text
    # The same as running the text, which is what MMEngine does.
    assert parse_config_text(text) == Config.fromstring(text, '.py').to_dict()
    parsed = parse_config_text(text)
    assert parsed == VALUES
    assert type(parsed['one']) is tuple and type(parsed['rows']) is list
    assert list(parsed) == sorted(VALUES)


def test_infinity_is_read_although_it_is_no_literal():
    text = Config(dict(a=math.inf, b=[-math.inf], c=math.nan)).pretty_text
    parsed = parse_config_text(text)
    assert parsed['a'] == math.inf and parsed['b'] == [-math.inf]
    assert math.isnan(parsed['c'])


def test_joined_strings_are_one():
    assert parse_config_text("a = ('b' 'c' + 'd')\n") == dict(a='bcd')
    assert parse_config_text('') == {}


@pytest.mark.parametrize(
    'code',
    [
        'open("x")',
        'list((1, 2))',
        'dict([("a", 1)])',
        'dict(**{"a": 1})',
        'dict({"a": 1}, a=2)',
        'dict(a=1, a=2)',
        'dict(1)',
        'dict.fromkeys("ab")',
        'mmengine.dict(a=1)',
        '__import__("os").system("touch x")',
        'os.environ',
        '[x for x in (1, 2)]',
        '{x: 1 for x in (1, 2)}',
        '(x for x in ())',
        'lambda: 1',
        'f"{1}"',
        '1 if True else 2',
        '[1][0]',
        '1 + 1',
        '"a" + 1',
        '"a" * 9',
        '9 ** 9',
        '-True',
        '-"a"',
        '~1',
        'not True',
        '{1, 2}',
        '{**{}}',
        '{(1,): 2}',
        '[*[1]]',
        'b"a"',
        '1j',
        '...',
        'other',
        'True and False',
        '(y := 1)',
        'dict',
    ],
)
def test_expressions_that_are_no_data_are_refused(code):
    for text in (f'a = 1\n\nb = {code}', f'a = 1\n\nb = [dict(c={code})]'):
        with pytest.raises(ValueError, match='Line 3 of the config text'):
            parse_config_text(text)


@pytest.mark.parametrize(
    'statement',
    [
        'import os',
        'from os import path',
        'open("x")',
        '"a docstring"',
        'a.b = 1',
        'a[0] = 1',
        'a, b = 1, 2',
        'a = b = 1',
        'a += 1',
        'a: int = 1',
        'del a',
        'def f(): pass',
        'class A: pass',
        'if True: a = 1',
        'for a in (): pass',
        'while True: pass',
        'with open("x"): pass',
        'assert True',
        'raise ValueError',
        'exec("1")',
        '_base_ = "other.py"',
        'a =',
    ],
)
def test_statements_that_are_no_assignments_are_refused(statement):
    with pytest.raises(ValueError, match='Line 2 of the config text'):
        parse_config_text(f'z = 1\n{statement}')


def test_nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = 'a = __import__("os").mkdir("made")'
    Config.fromstring(text, '.py')
    assert os.listdir() == ['made']  # the text does something, if it is run
    os.rmdir('made')
    with pytest.raises(ValueError, match='__import__'):
        parse_config_text(text)
    assert os.listdir() == []


def test_depth_and_odd_bytes_end_in_the_same_error():
    for text in ('a = ' + '[' * 5000, 'a = ' + '-' * 5000 + '1', 'a = "\0"'):
        with pytest.raises(ValueError, match='config text|null bytes'):
            parse_config_text(text)


def test_long_code_is_cut_in_the_error():
    with pytest.raises(ValueError) as error:
        parse_config_text(f'a = print("{"x" * 500}")')
    assert len(str(error.value)) < 120
