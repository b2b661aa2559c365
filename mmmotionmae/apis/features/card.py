# Copyright (c) MotionMAE contributors. All rights reserved.
"""What made features: a card to keep with them."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...utils.provenance import (
    as_read,
    circumstances,
    find_differences,
    hash_file,
    hash_weights,
)
from .encoder import ClipEncoder
from .inputs import ClipDataset
from .model import Encoder


def make_card(
    model: Any,
    encoder: Encoder,
    encode: ClipEncoder,
    clips: dict[str, Any],
    dataset: ClipDataset,
) -> dict[str, Any]:
    """What makes the features of a list of videos.

    Args:
        model: What the user gave: a path is noted.
        encoder: For its normalisation.
        encode: For its weights and settings.
        clips: Arguments of :func:`make_pipeline`.
        dataset: The videos.

    Returns:
        A dict for JSON of the form of :func:`engine.result_card.make_card`.
    """
    source = os.fspath(model) if isinstance(model, (str, Path)) else None
    pixels = dict(mean=encoder.mean, std=encoder.std, to_rgb=encoder.to_rgb)
    card = dict(
        fingerprint=dict(
            weights=hash_weights(encode.vit),
            encoder=encode.describe(),
            features=asdict(encode.settings),
            clips=clips | pixels,
            videos=dict(number=len(dataset), sha256=dataset.digest()),
        ),
        checkpoint=dict(path=source, sha256=hash_file(source)),
        device=encode.device.type,
        **circumstances(seed=None),  # nothing is random
    )
    return as_read(card)


def compare_kinds(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Why features of cards are not of one kind; empty if they are.

    They may be of different videos and blocks, and, where views are averaged,
    of a different number of views.
    """
    return find_differences(_kind(old), _kind(new))


def _kind(card: dict[str, Any]) -> dict[str, Any]:
    fingerprint = dict(card['fingerprint'], videos=None)
    fingerprint['features'] = dict(fingerprint['features'], block=None)
    if fingerprint['features']['views'] == 'mean':
        fingerprint['clips'] = dict(
            fingerprint['clips'], num_clips=None, num_crops=None
        )
    return dict(card, fingerprint=fingerprint)
