# Copyright (c) MotionMAE contributors. All rights reserved.
"""The formats that checkpoints come and go in."""

from ..specs import RawCheckpoint
from .base import Format
from .huggingface import HuggingFace
from .mae_st import MAEST
from .mmaction import MMAction
from .videomae import VideoMAE

FORMATS: dict[str, Format] = {
    form.name: form
    for form in (MMAction(), VideoMAE(), HuggingFace(), MAEST())
}


def recognise(raw: RawCheckpoint) -> tuple[Format, str] | None:
    """Recognise format and kind of a checkpoint by its tensors.

    Returns:
        The format and the kind, see :class:`Checkpoint`; None if no format
        knows their names.
    """
    for form in FORMATS.values():
        kind = form.kind_of(raw)
        if kind is not None:
            return form, kind
    return None


__all__ = ['FORMATS', 'Format', 'recognise']
