# Copyright (c) MotionMAE contributors. All rights reserved.
"""Videos for the tests of the inferencer."""

from fractions import Fraction

import av
import cv2
import numpy as np


def some_video(num_frames=40, height=32, width=32, seed=0):
    """Smooth pictures that move: uint8 (T, H, W, 3)."""
    phase = np.random.default_rng(seed).uniform(0, 6, 3)
    t, y, x = np.mgrid[:num_frames, :height, :width].astype(np.float64)
    waves = [
        np.sin((x + 2 * y) / 5 - t / 3 + phase[0]),
        np.cos((x - y) / 7 + t / 4 + phase[1]),
        np.sin(y / 4 + x / 9 + t / 6 + phase[2]),
    ]
    return (120 + 100 * np.stack(waves, -1)).round().astype(np.uint8)


def write_lossless(path, frames, rate=12):
    """Write RGB frames as FFV1, which loses nothing."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('ffv1', rate=rate, pix_fmt='bgr0')
        stream.height, stream.width = frames.shape[1:3]
        for t, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, 'rgb24')
            picture.pts, picture.time_base = t, Fraction(1, rate)
            container.mux(stream.encode(picture.reformat(format='bgr0')))
        container.mux(stream.encode(None))


def write_frames(folder, frames):
    """Write RGB frames as PNG files."""
    folder.mkdir(parents=True)
    for t, frame in enumerate(frames):
        cv2.imwrite(str(folder / f'{t}.png'), frame[..., ::-1])
