# Copyright (c) MotionMAE contributors. All rights reserved.
"""Strategies of ``FlexibleRunner``: they load, and run no code."""

import pickle
from functools import wraps
from typing import Any

from ..utils.errors import CheckpointError
from ..utils.patching import once
from .mmengine_configs import drop_config
from .mmengine_loading import explain_failure, forget_content
from .trust import loading_checkpoint

_CLOSED: set[Any] = set()  # methods


@once
def close_strategies() -> None:
    """Strategies load checkpoints in ways of their own.

    Those of DeepSpeed and ColossalAI pass by MMEngine's ``CheckpointLoader``,
    and their loaders unpickle anything; ``FlexibleRunner.resume`` runs the
    config that a strategy hands on. Here ``load_checkpoint`` and ``resume``
    of every strategy, also of one that is defined later, run with
    :func:`loading_checkpoint` and hand on no config.

    Remove when: MMEngine's strategies load with ``weights_only=True``.
    """
    from mmengine._strategy.base import BaseStrategy

    def close_new(cls: type, **kwargs: Any) -> None:
        super(BaseStrategy, cls).__init_subclass__(**kwargs)
        _close(cls)

    BaseStrategy.__init_subclass__ = classmethod(close_new)
    _close_all(BaseStrategy)


def close_mended_strategies() -> None:
    """``compat`` gives some strategies other methods, open ones."""
    from mmengine._strategy.base import BaseStrategy

    _close_all(BaseStrategy)


def _close_all(base: type) -> None:
    """Close a strategy and all that derive from it."""
    classes = [base]
    for strategy in classes:  # it grows
        _close(strategy)
        classes += strategy.__subclasses__()


def _close(strategy: type) -> None:
    """Close the methods that a class defines itself."""
    for name in ('load_checkpoint', 'resume'):
        method = vars(strategy).get(name)
        if method is not None and method not in _CLOSED:
            closed = _closed(method)
            _CLOSED.add(closed)
            setattr(strategy, name, closed)


def _closed(load: Any) -> Any:
    @wraps(load)
    def load_data(self: Any, filename: str, *args: Any, **kwargs: Any) -> Any:
        try:
            with loading_checkpoint():
                content = load(self, filename, *args, **kwargs)
        except pickle.UnpicklingError as error:
            message = explain_failure(str(filename), error)
            raise CheckpointError(message) from error
        finally:
            forget_content()
        drop_config(content)
        return content

    return load_data
