# Copyright (c) MotionMAE contributors. All rights reserved.
"""Label propagation as it is published, in plain loops and float64.

A context is a list of frames (features (L, D), labels (L, C), local); cells
are numbered row by row.
"""

import math

import numpy as np


def in_square(dy, dx, radius):
    return abs(dy) <= radius and abs(dx) <= radius


def in_circle(dy, dx, radius):
    return math.sqrt(dy * dy + dx * dx) < radius


WINDOWS = dict(square=in_square, circle=in_circle)


def compare(cell, feature, context, width, radius, window):
    """Cosine, nearness and label of each cell of each frame, in turn."""
    cosines, near, labels = [], [], []
    for features, frame_labels, local in context:
        for key, (other, label) in enumerate(
            zip(features, frame_labels, strict=True)
        ):
            dy = cell // width - key // width
            dx = cell % width - key % width
            cosines.append(float(np.dot(feature, other)))
            near.append(
                not local or radius is None or WINDOWS[window](dy, dx, radius)
            )
            labels.append(label)
    return cosines, near, np.array(labels)


def dino(query, context, width, topk, temperature, radius, window='square'):
    """exp(a / T), 0 outside the window; all from the k-th on; a mean."""
    result = []
    for cell, feature in enumerate(query):
        cosines, near, labels = compare(
            cell, feature, context, width, radius, window
        )
        weights = np.array(
            [
                math.exp(a / temperature) if inside else 0.0
                for a, inside in zip(cosines, near, strict=True)
            ]
        )
        kth = sorted(weights, reverse=True)[min(topk, len(weights)) - 1]
        weights[weights < kth] = 0
        result.append(weights @ labels / weights.sum())
    return np.array(result)


def crw(query, context, width, topk, temperature, radius, window='circle'):
    """a / T, -1e10 outside the window; the k largest; their softmax."""
    result = []
    for cell, feature in enumerate(query):
        cosines, near, labels = compare(
            cell, feature, context, width, radius, window
        )
        logits = np.array(
            [
                a / temperature if inside else -1e10
                for a, inside in zip(cosines, near, strict=True)
            ]
        )
        chosen = np.argsort(-logits, kind='stable')[:topk]
        weights = np.exp(logits[chosen] - logits[chosen[0]])
        result.append(weights @ labels[chosen] / weights.sum())
    return np.array(result)


def contexts(frames, given, num_context, first_local=True, padded=False):
    """The context of the last of ``frames``, as the two papers choose it.

    Args:
        frames: (features, labels) of the frames before.
        given: Numbers of those whose labels are known; 0 among them.
        num_context: How many frames before.
        first_local: Whether the window holds for known frames, too.
        padded: Whether copies of frame 0 stand in for frames before it.
    """
    past = [n for n in range(1, len(frames)) if n not in given]
    if padded:
        past = [0] * num_context + past
    past = past[-num_context:] if num_context else []
    return [(*frames[number], first_local) for number in given] + [
        (*frames[number], True) for number in past
    ]
