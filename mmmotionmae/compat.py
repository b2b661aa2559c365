# Copyright (c) MotionMAE contributors. All rights reserved.
"""What is broken upstream, and what mends it.

This is the only file that knows of defects in MMAction2 1.2, MMEngine 0.10
and PyTorch. Each function mends one of them, leaves everything alone where
the defect is absent, and says when it can go. :func:`apply` runs them all; it
is called once, by ``import mmmotionmae``, before ``mmaction.models`` is
imported.

Two defects are mended by the version ranges in ``setup.cfg`` alone:
``importlib_metadata``, which MMAction2 imports but does not require, and
NumPy 2, whose removed names (``np.Inf``, ``np.trapz``) MMAction2 still uses.
"""

import atexit
import importlib.metadata
import importlib.util
import logging
import os
import os.path as osp
import pickle
import re
import struct
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub, print_log


class CheckpointError(RuntimeError):
    """A checkpoint file that cannot, or must not, be loaded."""


def apply() -> None:
    """Mend everything. Safe to call more than once."""
    _stand_in_for_drn()
    _switch_off_broken_multimodal()
    _do_without_pkg_resources()
    _save_plain_checkpoints()
    _write_files_atomically()
    _load_checkpoints_safely()
    _allow_amp_on_cpu()
    _allow_launchers_on_cpu()
    _allow_ddp_on_cpu()
    _wrap_only_what_can_be_trained()
    _draw_predictions()
    _keep_spaces_in_options()
    _score_in_float32()


def _once(function: Callable) -> Callable:
    """Run ``function`` on the first call only."""
    done = False

    @wraps(function)
    def wrapper() -> None:
        nonlocal done
        if not done:
            done = True
            function()

    return wrapper


def _warn(message: str) -> None:
    print_log(message, logger='current', level=logging.WARNING)


# ------------------------------------------------------------- importing


def _stand_in_for_drn() -> None:
    """The MMAction2 1.2.0 wheel lacks ``mmaction/models/localizers/drn``.

    Without that folder ``import mmaction.models`` fails (mmaction2 #2714).
    The stand-in lets the import pass and raises when a DRN is built.

    Remove when: a wheel of MMAction2 with the folder is on PyPI.
    """
    import mmaction

    folder = Path(mmaction.__file__).parent / 'models' / 'localizers' / 'drn'
    name = 'mmaction.models.localizers.drn'
    if folder.is_dir() or name in sys.modules:
        return
    from mmaction.registry import MODELS

    class DRN(torch.nn.Module):
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


def _switch_off_broken_multimodal() -> None:
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
            level=logging.INFO,
        )


def _do_without_pkg_resources() -> None:
    """MMEngine 0.10 needs ``pkg_resources``, which setuptools 82 dropped.

    Without it every config that inherits from ``mmaction::...`` fails. The
    two functions that use it are replaced by ``importlib.metadata``.

    Remove when: an MMEngine without ``pkg_resources`` is on PyPI.
    """
    if importlib.util.find_spec('pkg_resources') is not None:
        return
    import mmengine.config.config
    import mmengine.hub.hub
    import mmengine.utils.package_utils

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

    for owner in (
        mmengine.utils,
        mmengine.utils.package_utils,
        mmengine.config.config,
        mmengine.hub.hub,
    ):
        for new in (is_installed, get_installed_path):
            if hasattr(owner, new.__name__):
                setattr(owner, new.__name__, new)


# ----------------------------------------------------------- checkpoints


def to_plain(value: Any, path: str = 'checkpoint') -> Any:
    """Rebuild ``value`` from what ``torch.load(weights_only=True)`` accepts.

    NumPy scalars become Python numbers, NumPy arrays tensors (or lists of
    strings), ``HistoryBuffer`` a dict of tensors, paths strings; any other
    object its ``repr``, with a warning that names it.

    Args:
        value: What is to be saved.
        path: Where ``value`` sits, for the warning.

    Returns:
        The same content in dicts, lists, tuples, tensors and plain scalars.
    """
    if value is None or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.generic):  # np.float64 is a float: ask first
        return value.item()
    scalars: tuple[type[Any], ...] = (bool, int, float, complex, str, bytes)
    for plain in scalars:
        if isinstance(value, plain):
            return plain(value)
    if isinstance(value, (torch.dtype, torch.device, torch.Size)):
        return value
    if isinstance(value, HistoryBuffer):
        log, count = value.data
        return dict(
            type='HistoryBuffer',
            log_history=torch.from_numpy(np.asarray(log)),
            count_history=torch.from_numpy(np.asarray(count)),
            max_length=value.max_length,
        )
    if isinstance(value, np.ndarray):
        if value.dtype.kind in 'biuf' and value.dtype.itemsize <= 8:
            # A copy: torch takes neither reversed nor byte-swapped arrays.
            native = value.dtype.newbyteorder('=')
            return torch.from_numpy(np.array(value, native, order='C'))
        return to_plain(value.tolist(), path)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        items = (
            (to_plain(k, path), to_plain(v, f'{path}.{k}'))
            for k, v in value.items()
        )
        if not isinstance(value, OrderedDict):
            return dict(items)
        plain_dict = OrderedDict(items)
        if hasattr(value, '_metadata'):  # versions inside a state dict
            vars(plain_dict)['_metadata'] = value._metadata
        return plain_dict
    if isinstance(value, (list, tuple, set, frozenset)):
        items = (to_plain(v, f'{path}[{i}]') for i, v in enumerate(value))
        return tuple(items) if isinstance(value, tuple) else list(items)
    _warn(
        f'{path} is a {type(value).__name__}, which a safe checkpoint '
        'cannot hold; its text is saved instead.'
    )
    return repr(value)


def _from_plain(value: Any) -> Any:
    if isinstance(value, Mapping) and value.get('type') == 'HistoryBuffer':
        return HistoryBuffer(
            value['log_history'].cpu().numpy(),
            value['count_history'].cpu().numpy(),
            value['max_length'],
        )
    return value


@_once
def _save_plain_checkpoints() -> None:
    """MMEngine 0.10 saves objects that safe loading refuses.

    Every checkpoint holds the ``HistoryBuffer`` objects of the message hub,
    so that resume and test fail on torch >= 2.6 (mmengine #1655). Everything
    is saved as plain types, and the message hub reads both forms.

    Remove when: MMEngine's own checkpoints load with ``weights_only=True``.
    """
    import mmengine.runner.checkpoint
    import mmengine.runner.runner

    save = mmengine.runner.checkpoint.save_checkpoint
    load_state_dict = MessageHub.load_state_dict

    @wraps(save)
    def save_checkpoint(checkpoint: dict, *args: Any, **kwargs: Any) -> None:
        save(to_plain(checkpoint), *args, **kwargs)

    @wraps(load_state_dict)
    def load_plain(self: MessageHub, state_dict: Any) -> None:
        if isinstance(state_dict, dict) and 'log_scalars' in state_dict:
            scalars = state_dict['log_scalars']
            state_dict = dict(
                state_dict,
                log_scalars={k: _from_plain(v) for k, v in scalars.items()},
            )
        load_state_dict(self, state_dict)

    for owner in (
        mmengine.runner,
        mmengine.runner.checkpoint,
        mmengine.runner.runner,
    ):
        owner.save_checkpoint = save_checkpoint
    MessageHub.load_state_dict = load_plain


@_once
def _write_files_atomically() -> None:
    """MMEngine writes checkpoints in place.

    A run that is killed while it writes leaves a truncated file, on which
    ``--resume`` then fails. The bytes go to a temporary name first.

    Remove when: ``LocalBackend.put`` renames.
    """
    from mmengine.fileio import LocalBackend

    put = LocalBackend.put

    @wraps(put)
    def put_atomically(
        self: LocalBackend, obj: bytes, filepath: str | Path
    ) -> None:
        temporary = f'{filepath}.{os.getpid()}.tmp'
        try:
            put(self, obj, temporary)
            os.replace(temporary, filepath)
        except BaseException:
            if osp.exists(temporary):
                os.remove(temporary)
            raise

    LocalBackend.put = put_atomically


_trust = False


def trust_checkpoints(trust: bool = True) -> None:
    """Let checkpoint files run code when they are loaded.

    Args:
        trust: Whether every file loaded from now on comes from a source that
            may run code on this machine. At the start nothing is trusted.
    """
    global _trust
    _trust = trust


@contextmanager
def _torch_load_policy(trust: bool) -> Iterator[None]:
    """Make every ``torch.load`` inside safe, or, if trusted, unsafe."""
    safe = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
    unsafe = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
    before = {name: os.environ.pop(name, None) for name in (safe, unsafe)}
    os.environ[unsafe if trust else safe] = '1'
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@_once
def _load_checkpoints_safely() -> None:
    """MMEngine leaves it to torch's version whether loading runs code.

    Downloaded files and torch < 2.6 unpickle anything; torch >= 2.6 fails
    with a message that offers to switch the protection off. Here every file,
    from whatever source, is loaded with ``weights_only=True``; one that needs
    more raises :class:`CheckpointError`, unless :func:`trust_checkpoints` was
    called.

    Remove when: MMEngine passes ``weights_only=True`` everywhere.
    """
    from mmengine.runner import CheckpointLoader

    load = CheckpointLoader.load_checkpoint.__func__

    def load_checkpoint(
        cls: type,
        filename: str,
        map_location: Any = None,
        logger: Any = 'current',
    ) -> Any:
        if osp.isdir(filename):
            raise CheckpointError(
                f'{filename} is a folder; a checkpoint file is needed.'
            )
        try:
            with _torch_load_policy(_trust):
                return load(cls, filename, map_location, logger)
        except Exception as error:
            message = _explain(str(filename), error)
            if message is None:
                raise
            raise CheckpointError(message) from error

    CheckpointLoader.load_checkpoint = classmethod(load_checkpoint)


def _explain(filename: str, error: Exception) -> str | None:
    """Why a checkpoint was not loaded; None if ``error`` says so itself."""
    if isinstance(error, (FileNotFoundError, PermissionError)):
        return None
    text, path = str(error), osp.expanduser(filename)
    # A text file, too, is refused for the objects that it seems to name.
    from_torch, local = 'GLOBAL' in text, osp.isfile(path)
    if local:
        with open(path, 'rb') as file:
            from_torch = file.read(4) in (b'PK\x03\x04', b'\x80\x02\x8a\n')
    refused = isinstance(error, pickle.UnpicklingError)
    if from_torch and refused and not _trust:
        name = re.search(r'GLOBAL (\S+)', text)
        objects = f'Python objects ({name[1]})' if name else 'Python objects'
        return (
            f'{filename} holds {objects} that could run code when '
            'loaded, so it was not loaded. If you trust its source, pass '
            '--trust-checkpoint (in Python: '
            'mmmotionmae.compat.trust_checkpoints()).'
        )
    damaged = (
        refused
        or isinstance(error, (EOFError, IndexError, struct.error))
        or any(
            word in text
            for word in ('PytorchStreamReader', 'archive', 'corrupt')
        )
    )
    if damaged or (local and (not from_torch or isinstance(error, OSError))):
        return (
            f'{filename} is not a readable PyTorch checkpoint: it is '
            'truncated, or a file of another kind.'
        )
    return None


# ------------------------------------------------------ training on a CPU


@_once
def _allow_amp_on_cpu() -> None:
    """``AmpOptimWrapper`` asserts that there is an accelerator.

    On a CPU it is built for bfloat16 without loss scaling, which bfloat16
    does not need (its exponent is as wide as that of float32).

    Remove when: MMEngine's ``AmpOptimWrapper`` accepts a CPU.
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


@_once
def _allow_launchers_on_cpu() -> None:
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


@_once
def _allow_ddp_on_cpu() -> None:
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


@_once
def _wrap_only_what_can_be_trained() -> None:
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


# -------------------------------------------------------------- drawing


@_once
def _draw_predictions() -> None:
    """MMAction2's ``VisualizationHook`` fails on every 3D recognizer.

    It hands the visualizer an argument that this does not take, and clips
    that have one dimension too many; and the visualizer looks for the labels
    under names that MMAction2's data samples do not have. So ``test.py
    --show-dir`` fails, or would draw frames without a prediction.

    Remove when: ``--show-dir`` draws predictions for ``Recognizer3D``.
    """
    from mmaction.engine.hooks import VisualizationHook
    from mmengine.structures import LabelData

    init, draw = VisualizationHook.__init__, VisualizationHook._draw_samples

    @wraps(init)
    def rename_argument(
        self: VisualizationHook, *args: Any, **kwargs: Any
    ) -> None:
        init(self, *args, **kwargs)
        self.draw_args['show_frames'] = self.draw_args.pop('show')

    def labelled(sample: Any) -> Any:
        sample = sample.clone()
        if 'gt_label' in sample:
            sample.set_field(sample.gt_label, 'gt_labels')
        if 'pred_label' in sample:
            prediction = LabelData(
                item=sample.pred_label, score=sample.pred_score
            )
            sample.set_field(prediction, 'pred_labels')
        return sample

    @wraps(draw)
    def draw_samples(
        self: VisualizationHook,
        batch_idx: int,
        data_batch: dict,
        data_samples: Any,
        step: int = 0,
    ) -> None:
        if not self.enable:
            return
        # The first clip, (C, T, H, W), of each video.
        clips = [v[0] if v.ndim == 5 else v for v in data_batch['inputs']]
        draw(
            self,
            batch_idx,
            dict(data_batch, inputs=clips),
            [labelled(sample) for sample in data_samples],
            step,
        )

    VisualizationHook.__init__ = rename_argument
    VisualizationHook._draw_samples = draw_samples


@_once
def _keep_spaces_in_options() -> None:
    """``--cfg-options`` takes the spaces out of every value, also of a path.

    Values that are no list or tuple keep them.

    Remove when: ``DictAction`` leaves the spaces of a string alone.
    """
    from mmengine.config import DictAction

    parse = DictAction._parse_iterable

    def parse_value(val: str) -> Any:
        text = val.strip('\'"')
        if any(char in text for char in ',()[]'):
            return parse(val)
        return DictAction._parse_int_float_bool(text)

    DictAction._parse_iterable = staticmethod(parse_value)


# ------------------------------------------------------------- training


@_once
def _score_in_float32() -> None:
    """Training accuracy of bfloat16 scores ends in a ``TypeError``.

    MMAction2 1.2 turns the scores into a NumPy array, and NumPy has no
    bfloat16. So hard labels and mixed precision in bfloat16 do not go
    together. The loss is computed in float32 either way.

    Remove when: ``BaseHead.loss_by_feat`` takes bfloat16 scores.
    """
    from mmaction.models.heads.base import BaseHead

    original = BaseHead.loss_by_feat

    @wraps(original)
    def loss_by_feat(
        self: Any, cls_scores: torch.Tensor, *args: Any, **kwargs: Any
    ) -> dict:
        return original(self, cls_scores.float(), *args, **kwargs)

    BaseHead.loss_by_feat = loss_by_feat


# -------------------------------------------------------------- leaving


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


def end_process() -> NoReturn:
    """End with exit code 0, without taking the interpreter down.

    Once in some ten runs, a process that has left a gloo group of torch 2.13
    still aborts ("terminate called without an active exception") after the
    last line of Python, when what is left of the group is destroyed. What
    Python does at exit is done before: handlers, files that are flushed.

    Remove when: :func:`leave_process_group` goes, or is enough.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
