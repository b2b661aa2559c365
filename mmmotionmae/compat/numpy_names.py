# Copyright (c) MotionMAE contributors. All rights reserved.
"""Names that NumPy has dropped."""

import sys
import types
from typing import Any

import numpy as np

# The modules that use them, by their own global `np`.
_USERS = {
    'mmaction.datasets.transforms.pose_transforms': ('Inf',),
    'mmaction.evaluation.functional.accuracy': ('trapz',),
    'mmaction.evaluation.functional.ava_evaluation.metrics': ('NAN',),
    'mmaction.evaluation.metrics.multimodal_metric': ('in1d',),
    'mmaction.utils.misc': ('Inf',),
}

# Before 2.0 it is called `trapz`.
_trapezoid: Any = getattr(np, 'trapezoid', getattr(np, 'trapz', None))


def give_back_numpy_names() -> None:
    """MMAction2 uses names of NumPy that are gone: 2.0's and 2.4's removals.

    Poses (``np.Inf``), the area under the curve of ActivityNet (``np.trapz``),
    the metric of AVA (``np.NAN``) and recall of retrieval (``np.in1d``) fail
    without them. Only the modules
    that use them get them back; NumPy itself stays as it is, so that others
    who ask it for a name are told the truth.

    Remove when: MMAction2 runs with NumPy 2.
    """
    for name, needed in _USERS.items():
        if all(hasattr(np, attribute) for attribute in needed):
            continue
        module = sys.modules.get(name)
        if getattr(module, 'np', None) is np:
            vars(module)['np'] = _NumPy('numpy')


class _NumPy(types.ModuleType):
    """NumPy with the names that it had before 2.0."""

    Inf = np.inf
    NAN = np.nan
    trapz = staticmethod(_trapezoid)

    @staticmethod
    def in1d(
        ar1: Any,
        ar2: Any,
        assume_unique: bool = False,
        invert: bool = False,
    ) -> np.ndarray:
        """A mask, (N,), bool: which of ``ar1``, (N,), are in ``ar2``."""
        flat = np.asarray(ar1).ravel()
        return np.isin(flat, ar2, assume_unique=assume_unique, invert=invert)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)
