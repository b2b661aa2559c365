# Copyright (c) MotionMAE contributors. All rights reserved.
"""Export of a model to a file, which is then run beside it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...utils.choices import DEFAULT_OPSET, EXPORT_TYPES, OPSETS
from ...utils.errors import UsageError
from ...utils.files import complete_files
from ...utils.provenance import hash_file, versions
from .clip_model import ClipModel
from .file_formats import (
    load_program,
    make_program,
    save_onnx,
    save_program,
)

WEIGHTS_SUFFIX = '.data'


def size_of(path: Path) -> int:
    """Bytes of a model, with the weights that lie beside it."""
    weights = path.with_name(path.name + WEIGHTS_SUFFIX)
    return sum(p.stat().st_size for p in (path, weights) if p.exists())


def require(*packages: str) -> None:
    """Make sure that optional packages can be imported.

    Raises:
        UsageError: If one cannot.
    """
    for package in packages:
        try:
            import_module(package)
        except ImportError as error:
            raise UsageError(
                f'ONNX needs {package}, which cannot be imported ({error}): '
                "pip install 'mmmotionmae[export]'."
            ) from error


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


SUFFIXES = ('.onnx', '.pt2')


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        path: The file.
        num_bytes: Its size, with weights that lie beside it.
        metadata: What it tells of itself.
        batch_sizes: Those that it was checked with; empty if it was not.
        difference: The largest difference from the model, see
            :func:`largest_difference`; None if it was not checked.
    """

    path: Path
    num_bytes: int
    metadata: dict[str, Any]
    batch_sizes: tuple[int, ...]
    difference: float | None


def export_model(
    model: nn.Module,
    path: str | Path,
    output: str | None = None,
    *,
    uint8: bool = False,
    batch_size: int | None = None,
    dtype: str = 'float32',
    opset: int = DEFAULT_OPSET,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: Sequence[str] | None = None,
    source: str | Path | None = None,
    overwrite: bool = False,
    check: bool = True,
) -> Exported:
    """Write a model for deployment: ONNX or an exported program of PyTorch.

    The file takes clips of the size that the encoder was built for. It is
    read again and run beside the model, on noise; only if both agree does it
    appear under its name.

    Args:
        model: See :class:`ClipModel`.
        path: ``.onnx``, or ``.pt2`` for ``torch.export.load``.
        output: See :class:`ClipModel`.
        uint8: Likewise.
        batch_size: The only number of clips that the file takes at a time.
            Defaults to any.
        dtype: What the weights are stored and computed in: ``'float32'`` or
            ``'float16'``. Input and output are float32 either way.
        opset: Version of ONNX's operators, from 18 to 23.
        mean: See :class:`ClipModel`.
        std: Likewise.
        classes: Names of the classes, kept in the file.
        source: The checkpoint, whose name and SHA-256 are kept in the file.
        overwrite: Whether to replace a file.
        check: Whether to run the file. ONNX needs onnxruntime for that.

    Returns:
        The file and what was found out about it.

    Raises:
        UsageError: If there is a file already, the file would be of no known
            kind, something does not fit the model, a package is missing, or
            the file does not compute what the model does.

    Examples:
        >>> import tempfile, torch
        >>> from mmmotionmae.models import MotionMAEViT
        >>> vit = MotionMAEViT(
        ...     img_size=32, patch_size=8, embed_dims=16, depth=1,
        ...     num_heads=2, num_frames=8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = f'{folder}/vit.pt2'
        ...     exported = export_model(vit, file, 'pooled', uint8=True)
        ...     module = torch.export.load(file).module()
        >>> exported.difference < 1e-4
        True
        >>> module(torch.zeros(3, 3, 8, 32, 32, dtype=torch.uint8)).shape
        torch.Size([3, 16])
    """
    path = Path(path)
    check_target(path, overwrite)
    if dtype not in EXPORT_TYPES:
        raise UsageError(
            f'dtype must be one of {", ".join(EXPORT_TYPES)}, not {dtype!r}.'
        )
    if opset not in OPSETS:
        raise UsageError(
            f'opset must be from {OPSETS[0]} to {OPSETS[-1]}, not {opset}.'
        )
    is_onnx = path.suffix == '.onnx'
    if is_onnx:
        require('onnx', 'onnxscript', *(['onnxruntime'] if check else []))
    try:
        reference = ClipModel(model, output, uint8, mean, std)
    except ValueError as error:
        raise UsageError(str(error)) from error
    reference = reference.with_dtype(torch.float32)
    exported = reference.with_dtype(getattr(torch, dtype))
    metadata = exported.describe() | _origin(classes, source, reference)
    sizes = _batch_sizes(batch_size) if check else ()
    difference = None
    program = make_program(exported, batch_size)
    with complete_files(
        path.parent, path.name, path.name + WEIGHTS_SUFFIX
    ) as folder:
        target = folder / path.name
        if is_onnx:
            save_onnx(program, target, reference.output, metadata, opset)
        else:
            save_program(program, target, metadata)
        if check:
            run = (open_onnx if is_onnx else open_program)(target)
            difference = largest_difference(reference, run, sizes)
            if not difference <= EXPORT_TYPES[dtype]:
                raise UsageError(
                    f'The exported model is off by {difference:.1e} of its '
                    f'largest output, more than {EXPORT_TYPES[dtype]:.0e}: '
                    f'{path} was not written.'
                )
    return Exported(path, size_of(path), metadata, sizes, difference)


def check_target(path: Path, overwrite: bool) -> None:
    """Make sure that a model can be written there.

    Raises:
        UsageError: If there is a file, or the suffix is none of ours.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(
            f'The name of an exported model ends in {" or ".join(SUFFIXES)}; '
            f'{path.name!r} does not.'
        )
    if path.exists() and not overwrite:
        raise UsageError(f'{path} exists: --overwrite replaces it.')


def _origin(
    classes: Sequence[str] | None,
    source: str | Path | None,
    model: ClipModel,
) -> dict[str, Any]:
    """The part of the metadata that the model does not know."""
    origin: dict[str, Any] = {**versions('torch')}
    if source is not None:
        origin['source'] = Path(source).name
        digest = hash_file(str(source))
        if digest is not None:
            origin['source_sha256'] = digest
    if classes is not None and model.num_classes is not None:
        if len(classes) != model.num_classes:
            raise UsageError(
                f'There are {len(classes)} names of classes, but the model '
                f'has {model.num_classes} classes.'
            )
        origin['classes'] = list(classes)
    return origin


def _batch_sizes(batch_size: int | None) -> tuple[int, ...]:
    """Two batches to check with; of two sizes, if the file takes both."""
    return (1, 3) if batch_size is None else (batch_size, batch_size)
