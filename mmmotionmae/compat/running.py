# Copyright (c) MotionMAE contributors. All rights reserved.
"""Training and testing; on a CPU, too."""

import ast
import atexit
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn

import torch

from ..utils.patching import once


@once
def allow_amp_on_cpu() -> None:
    """``AmpOptimWrapper`` asserts that there is an accelerator.

    On a CPU it is built for bfloat16 without loss scaling, which bfloat16
    does not need (its exponent is as wide as that of float32).

    Remove when: MMEngine's ``AmpOptimWrapper`` accepts a CPU.

    Raises:
        ValueError: Not here, but where such a wrapper is built: on a CPU, for
            another type than bfloat16.
    """
    from mmengine.device import get_device
    from mmengine.optim import AmpOptimWrapper, OptimWrapper

    on_accelerator = AmpOptimWrapper.__init__

    @wraps(on_accelerator)
    def init(
        self: AmpOptimWrapper,
        loss_scale: Any = 'dynamic',
        dtype: Any = None,
        use_fsdp: bool = False,
        **kwargs: Any,
    ) -> None:
        if get_device() != 'cpu':
            on_accelerator(
                self,
                loss_scale=loss_scale,
                dtype=dtype,
                use_fsdp=use_fsdp,
                **kwargs,
            )
            return
        if dtype not in ('bfloat16', torch.bfloat16):
            raise ValueError(
                'Mixed precision on a CPU works in bfloat16 only: use '
                "`--amp bf16`, or dtype='bfloat16' in optim_wrapper."
            )
        OptimWrapper.__init__(self, **kwargs)
        self._scale_update_param = None
        self.loss_scaler = torch.amp.GradScaler('cpu', enabled=False)
        self.cast_dtype = torch.bfloat16

    AmpOptimWrapper.__init__ = init


@once
def allow_launchers_on_cpu() -> None:
    """MMEngine's launchers call ``torch.cuda.set_device`` in any case.

    On a machine without CUDA that raises, and the default back end, NCCL,
    would fail next. There the call is left out and gloo is used.

    Remove when: ``mmengine.dist.utils`` asks for CUDA before it uses it.
    """
    from mmengine.dist import utils

    if torch.cuda.is_available():
        return

    def on_cpu(launch: Callable) -> Callable:

        @wraps(launch)
        def wrapper(backend: str, *args: Any, **kwargs: Any) -> None:
            set_device = torch.cuda.set_device
            torch.cuda.set_device = lambda device: None
            try:
                launch(
                    'gloo' if backend == 'nccl' else backend, *args, **kwargs
                )
            finally:
                torch.cuda.set_device = set_device

        return wrapper

    for name in ('_init_dist_pytorch', '_init_dist_mpi', '_init_dist_slurm'):
        setattr(utils, name, on_cpu(getattr(utils, name)))


@once
def allow_ddp_on_cpu() -> None:
    """``Runner.wrap_model`` gives DDP a GPU id, also for a model on the CPU.

    Remove when: MMEngine leaves ``device_ids`` out for CPU models.
    """
    from mmengine.model import MMDistributedDataParallel

    init = MMDistributedDataParallel.__init__

    @wraps(init)
    def init_on_cpu(
        self: MMDistributedDataParallel,
        module: torch.nn.Module,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        if all(p.device.type == 'cpu' for p in module.parameters()):
            kwargs['device_ids'] = None
        init(self, module, *args, **kwargs)

    MMDistributedDataParallel.__init__ = init_on_cpu


@once
def keep_each_gradient_once() -> None:
    """DDP keeps a copy of every gradient, to exchange it; MMEngine lets it.

    With ``gradient_as_bucket_view`` the gradients lie in what is exchanged:
    4 bytes less for each parameter, and the same values.

    Remove when: that is MMEngine's default, or PyTorch's.
    """
    from mmengine.model import MMDistributedDataParallel

    init = MMDistributedDataParallel.__init__

    @wraps(init)
    def init_with_views(
        self: MMDistributedDataParallel, *args: Any, **kwargs: Any
    ) -> None:
        kwargs.setdefault('gradient_as_bucket_view', True)
        init(self, *args, **kwargs)

    MMDistributedDataParallel.__init__ = init_with_views


@once
def begin_runs_before_loading() -> None:
    """``FlexibleRunner`` loads the checkpoint before hooks are set up.

    ``before_run`` comes first in ``Runner``, and ``EMAHook`` needs that: its
    averaged weights, made there, get their values from the checkpoint.

    Remove when: ``FlexibleRunner`` calls ``before_run`` before it loads.
    """
    from mmengine.runner import FlexibleRunner

    load_or_resume, call_hook = (
        FlexibleRunner.load_or_resume,
        FlexibleRunner.call_hook,
    )

    @wraps(load_or_resume)
    def begin_and_load(self: FlexibleRunner) -> None:
        call_hook(self, 'before_run')
        self._has_begun = True
        load_or_resume(self)

    @wraps(call_hook)
    def call_once(self: FlexibleRunner, fn_name: str, **kwargs: Any) -> None:
        if fn_name == 'before_run' and vars(self).pop('_has_begun', False):
            return
        call_hook(self, fn_name, **kwargs)

    FlexibleRunner.load_or_resume = begin_and_load
    FlexibleRunner.call_hook = call_once


@once
def wrap_only_what_can_be_trained() -> None:
    """``Runner.wrap_model`` gives DDP models that it refuses.

    DDP is for gradients; a model without weights, tested by several
    processes, needs none of it.

    Remove when: MMEngine leaves such models as they are.
    """
    from mmengine.device import get_device
    from mmengine.runner import Runner

    wrap_model = Runner.wrap_model

    @wraps(wrap_model)
    def wrap(
        self: Runner, model_wrapper_cfg: dict | None, model: torch.nn.Module
    ) -> torch.nn.Module:
        if any(p.requires_grad for p in model.parameters()):
            return wrap_model(self, model_wrapper_cfg, model)
        return model.to(get_device())

    Runner.wrap_model = wrap


@once
def read_options_whole() -> None:
    """``--cfg-options`` takes paths and lists of names as they are given.

    MMEngine's takes the spaces out of every value, recurses for ever where a
    comma is in brackets, ``run (a,b)/x.pth``, and cuts dicts,
    ``{'type': 'LinearLR', 'end': 5}``, at their commas.

    Remove when: ``DictAction`` reads these.
    """
    from mmengine.config import DictAction

    DictAction._parse_iterable = staticmethod(read_option)


def read_option(text: str) -> Any:
    """Value of an option: ``1``, ``True``, ``a b``, ``[a,(1,2)]``, ``1,2``.

    Args:
        text: With or without quotes. ``{...}`` is a dict as Python has it.

    Raises:
        ValueError: If brackets do not match, or a dict cannot be read.
    """
    from mmengine.config import DictAction

    text = text.strip().strip('\'"')
    kind = text[:1] + text[-1:]
    if kind == '{}':
        return _read_dict(text)
    if text.startswith('dict('):
        raise ValueError("a dict is written {'type': 'LinearLR', 'end': 5}")
    parts = _split(text[1:-1] if kind in ('()', '[]') else text)
    if kind == '()':
        return tuple(map(read_option, parts))
    if kind == '[]' or len(parts) > 1:
        return [*map(read_option, parts)]
    return DictAction._parse_int_float_bool(text)


def _read_dict(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f'{text} is no dict of Python') from error


def _split(text: str) -> list[str]:
    """Parts between commas, but for those in brackets; no empty last one."""
    parts, depth = [''], 0
    for char in text:
        depth += (char in '([{') - (char in ')]}')
        if char == ',' and not depth:
            parts.append('')
        else:
            parts[-1] += char
    if depth and ',' in text:
        raise ValueError(f'brackets do not match in {text}')
    return parts if parts[-1].strip() else parts[:-1]


def leave_process_group() -> bool:
    """Leave the process group, if there is one, before the process ends.

    A process that exits inside a gloo group of torch 2.13 may abort although
    its work is done, and the launcher then reports a failure. Call this last
    in ``main``, and then :func:`end_process`.

    Remove when: plain exits inside a gloo group end with code 0.

    Returns:
        Whether there was one.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return False
    dist.barrier()
    dist.destroy_process_group()
    return True


def end_process(code: int = 0) -> NoReturn:
    """End with an exit code, without taking the interpreter down.

    Once in some ten runs, a process that has left a gloo group of torch 2.13
    still aborts ("terminate called without an active exception") after the
    last line of Python, when what is left of the group is destroyed. What
    Python does at exit is done before: handlers, files that are flushed.

    Remove when: :func:`leave_process_group` goes, or is enough.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
