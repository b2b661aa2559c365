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
    classes = [BaseStrategy]
    for cls in classes:  # it grows
        _close(cls)
        classes += cls.__subclasses__()


@once
def close_mended_deepspeed() -> None:
    """``compat`` gives DeepSpeed's strategy other methods, open ones.

    Remove when: :func:`mmmotionmae.compat.deepspeed.mend_deepspeed` goes.
    """
    from mmengine._strategy.deepspeed import DeepSpeedStrategy

    _close(DeepSpeedStrategy)


def _close(strategy: type) -> None:
    """Close the methods that a class defines itself."""
    for name in ('load_checkpoint', 'resume'):
        if name in vars(strategy):
            setattr(strategy, name, _closed(vars(strategy)[name]))


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
