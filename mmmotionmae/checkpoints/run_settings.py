# Copyright (c) MotionMAE contributors. All rights reserved.
"""What a checkpoint of MMEngine says of the run that wrote it."""

from collections.abc import Mapping
from typing import Any

from .config_text import parse_config_text


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
