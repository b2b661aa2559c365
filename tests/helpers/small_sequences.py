# Copyright (c) MotionMAE contributors. All rights reserved.
"""Small sequences for the tests of label propagation."""

import cv2
import numpy as np
import torch
from mmaction.structures import ActionDataSample

ORIGINAL, IMAGE, PATCH = (45, 71), (48, 80), 8

# The published forms, with small windows for the small frames.
DINO = dict(topk=5, temperature=0.1, radius=2, num_context=3)
CRW = dict(
    topk=7,
    temperature=0.7,
    radius=4,
    window='circle',
    first_local=False,
    num_context=3,
    pad_context=True,
    keep_ties=False,
    codec=dict(
        type='SegmentationCodec',
        downsample='bilinear',
        min_max=False,
        nearest='opencv',
        first_frame='decoded',
    ),
)


def draw_sequence(num_frames, ids=(3, 7, 200), seed=4):
    """Textured rectangles that move over texture.

    Returns:
        Frames (T, H, W, 3) and masks (T, H, W) of ``ORIGINAL`` size, uint8.
    """
    rng = np.random.default_rng(seed)
    height, width = ORIGINAL
    background = rng.integers(0, 256, (height, width, 3), np.uint8)
    frames, masks = [], []
    boxes = [
        (rng.integers(0, 20), rng.integers(0, 35), rng.integers(-3, 4, 2))
        for _ in ids
    ]
    textures = [
        (rng.integers(0, 156, 3) + rng.integers(0, 100, (18, 26, 3)))
        for _ in ids
    ]
    for t in range(num_frames):
        frame, mask = background.copy(), np.zeros(ORIGINAL, np.uint8)
        for number, (y, x, (dy, dx)), texture in zip(
            ids, boxes, textures, strict=True
        ):
            top, left = max(y + t * dy, 0), max(x + t * dx, 0)
            place = np.s_[top : top + 18, left : left + 26]
            rows, columns = mask[place].shape
            frame[place] = texture[:rows, :columns]
            mask[place] = number
        frames.append(frame)
        masks.append(mask)
    return np.stack(frames), np.stack(masks)


def pack(frames, masks, late_masks=None):
    """What the pipeline makes of them: video (T, 3, h, w) and data sample."""
    resized = [cv2.resize(frame, IMAGE[::-1]) for frame in frames]
    video = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)
    sample = ActionDataSample(
        metainfo=dict(original_shape=ORIGINAL, img_shape=IMAGE)
    )
    if late_masks:
        sample.set_metainfo(dict(late_masks=late_masks))
    sample.set_field(dict(enumerate(masks)), 'gt_masks')
    return video, sample


def features_of(video, patch_size=PATCH):
    """(T, L, D), float64, of length 1: the pixels of each patch."""
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    result = []
    for frame in video.permute(0, 2, 3, 1).double().numpy():
        frame = (frame - mean) / std
        patches = [
            frame[y : y + patch_size, x : x + patch_size].flatten()
            for y in range(0, frame.shape[0], patch_size)
            for x in range(0, frame.shape[1], patch_size)
        ]
        result.append([p / np.linalg.norm(p) for p in patches])
    return np.array(result)
