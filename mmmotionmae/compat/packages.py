# Copyright (c) MotionMAE contributors. All rights reserved.
"""Packages that cannot be imported as they are."""

import importlib.metadata
import importlib.util
import logging
import os.path as osp
import pkgutil
import sys
import types
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from ..utils.patching import replace


def stand_in_for_drn() -> None:
    """The MMAction2 1.2.0 wheel lacks ``mmaction/models/localizers/drn``.

    Without that folder ``import mmaction.models`` fails (mmaction2 #2714).
    The stand-in lets the import pass and raises when a DRN is built.

    Remove when: a wheel of MMAction2 with the folder is on PyPI.

    Raises:
        ImportError: Not here, but where a DRN is built.
    """
    import mmaction
    from torch import nn

    folder = Path(mmaction.__file__).parent / 'models' / 'localizers' / 'drn'
    name = 'mmaction.models.localizers.drn'
    if folder.is_dir() or name in sys.modules:
        return
    from mmaction.registry import MODELS

    class DRN(nn.Module):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise ImportError(
                'This installation of MMAction2 lacks the DRN localizer '
                '(its PyPI wheel ships without mmaction/models/localizers/'
                'drn). Install MMAction2 from source to use DRN.'
            )

    package, module = types.ModuleType(name), types.ModuleType(f'{name}.drn')
    package.__path__ = []
    vars(module)['DRN'] = DRN
    sys.modules[name], sys.modules[f'{name}.drn'] = package, module
    MODELS.register_module(module=DRN)


def switch_off_broken_multimodal() -> None:
    """MMAction2's VindLU breaks ``import mmaction.models``.

    It is imported as soon as ``transformers`` is installed, needs the
    undeclared ``timm``, and a function that ``transformers`` 4.57 dropped.
    Where either is missing, MMAction2's own switch is turned off, so that its
    placeholders stand in for the multi-modal models.

    Remove when: MMAction2 imports VindLU lazily.
    """
    from mmaction.utils import dependency

    if not dependency.WITH_MULTIMODAL:
        return
    missing = None
    if importlib.util.find_spec('timm') is None:
        missing = 'timm is not installed'
    elif importlib.util.find_spec('torchvision') is None:
        missing = 'timm needs torchvision, which is not installed'
    else:
        from transformers import modeling_utils

        if not hasattr(modeling_utils, 'apply_chunking_to_forward'):
            missing = 'transformers is too new for them'
    if missing:
        dependency.WITH_MULTIMODAL = False
        print_log(
            f"MMAction2's multi-modal models (VindLU) are off: {missing}.",
            logger='current',
            level=logging.DEBUG,
        )


def do_without_pkg_resources() -> None:
    """MMEngine 0.10 needs ``pkg_resources``, which setuptools 82 dropped.

    Without it every config that inherits from ``mmaction::...`` fails. The
    two functions that use it are replaced by ``importlib.metadata``.

    Remove when: an MMEngine without ``pkg_resources`` is on PyPI.
    """
    if importlib.util.find_spec('pkg_resources') is not None:
        return

    def is_installed(package: str) -> bool:
        try:
            importlib.metadata.distribution(package)
            return True
        except importlib.metadata.PackageNotFoundError:
            spec = importlib.util.find_spec(package)
            return spec is not None and spec.origin is not None

    def get_installed_path(package: str) -> str:
        module = package
        if importlib.util.find_spec(package) is None:
            # e.g. `mmcv-lite` installs the module `mmcv`
            top = importlib.metadata.distribution(package).read_text(
                'top_level.txt'
            )
            module = (top or package).split('\n')[0]
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise RuntimeError(f'cannot find the folder of {package!r}')
        return osp.dirname(spec.origin)

    for new in (is_installed, get_installed_path):
        owners = ('utils', 'utils.package_utils', 'config.config', 'hub.hub')
        replace(new.__name__, new, [f'mmengine.{owner}' for owner in owners])


def find_compiled_mmcv() -> None:
    """MMEngine 0.10 needs ``pkgutil.find_loader``, which Python 3.14 dropped.

    Without it every optimizer with a constructor fails, which all of ours
    have. The function that asks for the full MMCV is replaced.

    Remove when: an MMEngine without ``pkgutil.find_loader`` is on PyPI.
    """
    if hasattr(pkgutil, 'find_loader'):
        return

    def mmcv_full_available() -> bool:
        if importlib.util.find_spec('mmcv') is None:
            return False
        return importlib.util.find_spec('mmcv._ext') is not None

    owners = (
        'mmengine.utils.dl_utils',
        'mmengine.utils.dl_utils.misc',
        'mmengine.model.utils',
        'mmengine.optim.optimizer.default_constructor',
    )
    replace('mmcv_full_available', mmcv_full_available, owners)
