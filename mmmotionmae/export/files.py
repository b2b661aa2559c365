# Copyright (c) MotionMAE contributors. All rights reserved.
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from ..utils.errors import UsageError

WEIGHTS_SUFFIX = '.data'


@contextmanager
def complete_model(path: Path) -> Iterator[Path]:
    """Let a model appear under its name only once it is complete.

    Args:
        path: The file. It is replaced if it exists, and so are its weights,
            if they lie beside it in ``<path>.data``. Missing parent folders
            are made.

    Yields:
        Where to write: a file of the same name in a temporary folder. It is
        moved at the end, and what lies beside it, too; after an error nothing
        is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=path.parent, prefix=f'.{path.name}.'
    ) as folder:
        written = Path(folder) / path.name
        yield written
        weights = written.with_name(path.name + WEIGHTS_SUFFIX)
        old_weights = path.with_name(weights.name)
        if weights.exists() or old_weights.exists():
            # At no time beside the weights of another model.
            path.unlink(missing_ok=True)
        if weights.exists():
            os.replace(weights, old_weights)
        else:
            old_weights.unlink(missing_ok=True)
        os.replace(written, path)


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
