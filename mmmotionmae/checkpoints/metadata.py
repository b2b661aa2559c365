# Copyright (c) MotionMAE contributors. All rights reserved.
"""Settings that a checkpoint holds beside its tensors, read as data.

Checkpoints of MMEngine hold the config of their run as Python source. MMEngine
reads it by running it, so that whoever wrote the file runs code here. What
stands there needs no running: dicts, lists, tuples and plain values.
"""

import ast
from collections.abc import Mapping
from math import inf, nan
from typing import Any, NoReturn

# What `str` makes of floats that are no literals of Python.
_FLOATS = dict(inf=inf, nan=nan)


def parse_config_text(text: str) -> dict[str, Any]:
    r"""Read what ``Config.pretty_text`` writes, without running it.

    Understood are assignments to plain names of ``None``, booleans, numbers
    (also ``inf``, ``nan`` and signed ones), strings (also joined by ``+``),
    lists, tuples, dicts in braces and ``dict(...)``, in any nesting. Nothing
    is imported or called, and no file is read.

    Args:
        text: Python source, as under ``meta['cfg']`` of a checkpoint.

    Returns:
        Name -> value, in the order of the text; tuples stay tuples.

    Raises:
        ValueError: For anything else. It names the line.

    Examples:
        >>> parse_config_text("model = dict(type='A', size=(8, -1.0))")
        {'model': {'type': 'A', 'size': (8, -1.0)}}
        >>> parse_config_text("a = 1\nb = open('x')")
        Traceback (most recent call last):
        ValueError: Line 2 of the config text is not plain data: open('x')
    """
    try:
        statements = ast.parse(text).body
        config: dict[str, Any] = {}
        for statement in statements:
            name, value = _read_assignment(statement)
            config[name] = value
        return config
    except SyntaxError as error:
        raise ValueError(
            f'Line {error.lineno} of the config text is not valid Python: '
            f'{error.msg}.'
        ) from error
    except (RecursionError, MemoryError) as error:
        raise ValueError(
            'The config text is nested too deeply (line unknown).'
        ) from error


def _read_assignment(statement: ast.stmt) -> tuple[str, Any]:
    """Name and value of ``name = value``."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
        # `_base_` would stand for the content of other files.
        if isinstance(target, ast.Name) and target.id != '_base_':
            return target.id, _read(statement.value)
    _refuse(statement)


def _read(node: ast.expr | None) -> Any:
    """The value that an expression stands for."""
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str()):
            return node.value
        case ast.Name(id='inf' | 'nan'):
            return _FLOATS[node.id]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
            return _read_signed(node)
        case ast.BinOp(op=ast.Add()):
            left, right = _read(node.left), _read(node.right)
            if isinstance(left, str) and isinstance(right, str):
                return left + right
        case ast.List():
            return [_read(item) for item in node.elts]
        case ast.Tuple():
            return tuple(_read(item) for item in node.elts)
        case ast.Dict():
            return _read_braces(node)
        case ast.Call(func=ast.Name(id='dict')):
            return _read_dict_call(node)
    _refuse(node)


def _read_signed(node: ast.UnaryOp) -> int | float:
    value = _read(node.operand)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _refuse(node)
    return -value if isinstance(node.op, ast.USub) else value


def _read_braces(node: ast.Dict) -> dict[Any, Any]:
    """The dict of ``{key: value}``, with plain keys."""
    values = {}
    for key, value in zip(node.keys, node.values, strict=True):
        name = _read(key) if key else _refuse(node)  # no key: `**other`
        if isinstance(name, (dict, list, tuple)):
            _refuse(node)
        values[name] = _read(value)
    return values


def _read_dict_call(node: ast.Call) -> dict[Any, Any]:
    """The dict of ``dict(key=value)``, ``dict({...})`` or both."""
    values: dict[Any, Any] = {}
    if node.args:
        # MMEngine writes `dict({...})` for keys that are no identifiers.
        if len(node.args) > 1 or not isinstance(node.args[0], ast.Dict):
            _refuse(node)
        values = _read_braces(node.args[0])
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in values:
            _refuse(node)
        values[keyword.arg] = _read(keyword.value)
    return values


def _refuse(node: ast.AST | None) -> NoReturn:
    if node is None:
        raise ValueError('The config text is not plain data.')
    code = ' '.join(ast.unparse(node).split())
    code = code if len(code) < 60 else f'{code[:57]}...'
    raise ValueError(
        f'Line {getattr(node, "lineno", "?")} of the config text is not '
        f'plain data: {code}'
    )


def part_of_settings(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A part of what a file says of itself; empty if it is no dict."""
    value = settings.get(name)
    return dict(value) if isinstance(value, Mapping) else {}


def read_model_config(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the model, as data; nothing in it is run.

    Args:
        settings: What lies beside the weights, with ``meta``: there is
            ``model``, or the text of a whole config, ``cfg``.

    Returns:
        Empty if there is none that can be read.
    """
    meta = part_of_settings(settings, 'meta')
    if 'model' in meta:
        return part_of_settings(meta, 'model')
    text = meta.get('cfg')
    if not isinstance(text, str):
        return {}
    try:
        return part_of_settings(parse_config_text(text), 'model')
    except ValueError:  # another way to write a config
        return {}
