# Copyright (c) MotionMAE contributors. All rights reserved.
"""Whether an exported file computes what the model does."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from .clip_model import ClipModel
from .program import load_program

Run = Callable[[Tensor], Tensor]


def open_onnx(path: Path, num_threads: int = 0) -> Run:
    """Load an ONNX file; it runs in onnxruntime on the CPU.

    Args:
        path: The file.
        num_threads: Of each operator. 0: one for each core.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(
        path, options, providers=['CPUExecutionProvider']
    )

    def run(clips: Tensor) -> Tensor:
        (output,) = session.run(None, {'clips': clips.cpu().numpy()})
        return torch.from_numpy(output)

    return run


def open_program(path: Path) -> Run:
    """Load a ``.pt2`` file."""
    module = load_program(path)[0].module()

    def run(clips: Tensor) -> Tensor:
        with torch.no_grad():
            return module(clips)

    return run


def largest_difference(
    model: ClipModel, run: Run, batch_sizes: Sequence[int]
) -> float:
    """Compare with the model, on noise.

    Args:
        model: What the file was made of, in float32.
        run: What :func:`open_onnx` or :func:`open_program` returns.
        batch_sizes: Sizes of the batches to compare on.

    Returns:
        The largest absolute difference over the largest absolute output of
        its batch; infinite where shapes differ or values are not finite.
    """
    worst = 0.0
    for seed, batch_size in enumerate(batch_sizes):
        clips = model.random_clips(batch_size, seed)
        with torch.no_grad():
            expected = model(clips).cpu()
        output = run(clips).cpu()
        if output.shape != expected.shape:
            return float('inf')
        difference = (output - expected).abs().max() / expected.abs().max()
        worst = max(worst, difference.nan_to_num(float('inf')).item())
    return worst
