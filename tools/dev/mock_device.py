# Copyright (c) MotionMAE contributors. All rights reserved.
"""A GPU that is not there: CUDA's rules and waits, values of the CPU.

PyTorch's slot for a third device is filled with one that computes on the CPU,
but behaves like CUDA in two respects:

- Tensors of two devices do not go together, single values on the CPU and
  indices aside; nor do a generator and a tensor of two devices.
- Whatever makes the host wait for a GPU is recorded, with the place in the
  code: values that are fetched, shapes that depend on values, copies that
  block, and copies from memory that is not pinned, for which the driver may
  block whatever it is told.

The device is registered for the whole process and cannot be taken back; so it
belongs into a process of its own. Its random numbers are the CPU's.

Source of the rules: PyTorch's ``TensorIterator``, ``memcpy_and_sync`` and
``set_sync_debug_mode``; "API synchronization behavior" of the CUDA runtime.
"""

import functools
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

try:
    from torch.utils.backend_registration import (
        _setup_privateuseone_for_python_backend as _setup,
    )
except ImportError:  # PyTorch before 2.9
    _setup = None  # type: ignore[assignment]

NAME = 'mockgpu'
AVAILABLE = _setup is not None

# The shape, or a check, depends on values.
_SHAPE_OF_VALUES = {
    '_linalg_check_errors',
    '_unique',
    '_unique2',
    'allclose',
    'bincount',
    'equal',
    'is_nonzero',
    'linalg_eigh',
    'linalg_svd',
    'masked_select',
    'nonzero',
    'unique_consecutive',
    'unique_dim',
    'unique_dim_consecutive',
}
_INDEXING = {
    '_index_put_impl_',
    '_unsafe_index',
    '_unsafe_index_put',
    'index',
    'index_put',
    'index_put_',
}
_COPYING = {'_to_copy', 'copy_'}
# They take no single value of the CPU in place of a tensor.
_STRICT = {
    'cat',
    'embedding',
    'gather',
    'index_add_',
    'index_select',
    'scatter',
    'scatter_',
    'scatter_add_',
    'stack',
}
_CODE = ('kornia', 'mmaction', 'mmcv', 'mmengine', 'mmmotionmae')


class DeviceError(RuntimeError):
    """Devices that do not go together."""


class Wait(NamedTuple):
    """One wait of the host.

    Attributes:
        reason: The operation.
        place: Where in the code: the innermost file and line of MMAction2,
            MMEngine, kornia or this package.
    """

    reason: str
    place: str


class _Hooks(torch._C._acc.PrivateUse1Hooks if AVAILABLE else object):  # type: ignore
    def is_available(self) -> bool:
        return True

    def has_primary_context(self, dev_id: int) -> bool:
        return True

    def is_built(self) -> bool:
        return True


class _Module:
    """What PyTorch asks of ``torch.mockgpu``."""

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        pass

    def manual_seed(self, seed: int) -> None:
        pass

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)


class MockTensor(Tensor):
    """A tensor of the device.

    Args:
        raw: Its values, on the CPU.
    """

    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor) -> 'MockTensor':  # noqa: D102
        return Tensor._make_wrapper_subclass(
            cls,
            raw.shape,
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=torch.device(NAME, 0),
        )

    def __init__(self, raw: Tensor) -> None:
        self.raw = raw

    def __repr__(self) -> str:  # type: ignore[override]
        return f'MockTensor({tuple(self.shape)}, {self.dtype})'

    def tolist(self) -> Any:
        """As any tensor; PyTorch refuses it to subclasses."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Compute on the CPU."""
        return _run(func, args, kwargs or {})


class MockGPU(TorchDispatchMode):
    """The device, while it is entered, and its record.

    ``device='mockgpu'`` works inside only.

    Attributes:
        waits: What made the host wait so far, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        register()
        self.waits: list[Wait] = []

    def __enter__(self) -> 'MockGPU':
        """Start."""
        _recorders.append(self)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """Stop."""
        super().__exit__(*error)
        _recorders.remove(self)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Compute on the CPU."""
        return _run(func, args, kwargs or {})

    @contextmanager
    def recording(self) -> Iterator[list[Wait]]:
        """Record the waits of a block of code."""
        before, self.waits = self.waits, []
        try:
            yield self.waits
        finally:
            self.waits = before + self.waits


_recorders: list[MockGPU] = []
# Kept, so that no other tensor comes to lie there.
_pinned: dict[int, torch.UntypedStorage] = {}


def count(waits: Sequence[Wait]) -> dict[str, int]:
    """How often each reason occurs at each place."""
    return dict(Counter(f'{w.reason} at {w.place}' for w in waits))


def _note(reason: str) -> None:
    if not _recorders:
        return
    frames = [
        f'{"/".join(Path(frame.filename).parts[-2:])}:{frame.lineno}'
        for frame in traceback.extract_stack()
        if {*Path(frame.filename).parts} & {*_CODE}
    ]
    _recorders[-1].waits.append(Wait(reason, frames[-1] if frames else '?'))


def _is_ours(value: Any) -> bool:
    return isinstance(value, MockTensor)


def _run(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Check and record an operation, and compute it on the CPU."""
    name = func.overloadpacket.__name__
    tensors = [
        value
        for value in tree_flatten((args, kwargs))[0]
        if isinstance(value, Tensor)
    ]
    ours = [tensor for tensor in tensors if isinstance(tensor, MockTensor)]
    target = kwargs.get('device')
    device = None if target is None else torch.device(target)
    on_gpu = bool(ours) if device is None else device.type == NAME
    _check(name, args, kwargs, tensors, on_gpu)
    if name in _COPYING:
        _note_copy(name, args, kwargs, device)
    elif ours:
        _note_wait(name, func, args, tensors)

    def to_raw(value: Any) -> Any:
        return value.raw if isinstance(value, MockTensor) else value

    options = {key: tree_map(to_raw, value) for key, value in kwargs.items()}
    pins = options.get('pin_memory') and not on_gpu
    if device is not None and device.type == NAME:
        options['device'] = torch.device('cpu')
    for option in ('pin_memory', 'non_blocking'):
        if options.get(option):
            options[option] = False
    known = {id(tensor.raw): tensor for tensor in ours}
    inputs = tree_map(to_raw, tuple(args))
    with torch._C._DisableTorchDispatch():
        result = func(*inputs, **options)
        if name == '_to_copy' and result is inputs[0]:
            result = result.clone()

    def to_ours(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        tensor = known.get(id(value))
        if tensor is not None:
            if tensor.shape != value.shape:
                raise NotImplementedError(f'{func} changes a shape in place')
            return tensor
        if pins:
            _pin(value)
        return MockTensor(value) if on_gpu else value

    if name == 'copy_':
        return args[0]
    return tree_map(to_ours, result)


def _check(
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    tensors: Sequence[Tensor],
    on_gpu: bool,
) -> None:
    """Make sure that devices go together."""
    generator = kwargs.get('generator')
    if on_gpu and generator is not None and generator.device.type != NAME:
        raise DeviceError(f'{name}: a generator on {generator.device}.')
    ours = [tensor for tensor in tensors if _is_ours(tensor)]
    host = [
        tensor
        for tensor in tensors
        if not _is_ours(tensor) and (tensor.dim() or name in _STRICT)
    ]
    if not ours or not host or name in _COPYING:
        return
    if name in _INDEXING and _is_ours(args[0]):
        values = args[2] if len(args) > 2 else None  # of `index_put`
        if not any(tensor is values for tensor in host):
            return
    found = [(tensor.device.type, tuple(tensor.shape)) for tensor in tensors]
    raise DeviceError(f'{name}: tensors of several devices: {found}.')


def _note_copy(
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    device: torch.device | None,
) -> None:
    """Record a copy between devices, if it blocks."""
    if name == 'copy_':
        to_gpu, source = _is_ours(args[0]), args[1]
        wants = args[2] if len(args) > 2 else kwargs.get('non_blocking')
    else:
        source, wants = args[0], kwargs.get('non_blocking')
        to_gpu = _is_ours(source) if device is None else device.type == NAME
    if to_gpu == _is_ours(source):
        return
    if not to_gpu:
        if not wants:
            _note('copy to the host')
    elif not wants:
        _note('copy to the device that blocks')
    elif not is_pinned(source):
        _note('copy to the device from memory that is not pinned')


def _note_wait(
    name: str, func: Any, args: Sequence[Any], tensors: Sequence[Tensor]
) -> None:
    """Record an operation that needs values on the host."""
    if name == '_local_scalar_dense':
        _note('a value is read')
    elif name in _SHAPE_OF_VALUES or str(func) == (
        'aten.repeat_interleave.Tensor'
    ):
        _note(f'{name}: its shape depends on values')
    elif name in _INDEXING:
        indices = [index for index in args[1] if index is not None]
        masks = [index for index in indices if index.dtype == torch.bool]
        value = args[2] if len(args) > 2 else None
        # `x[mask] = 0` is a `masked_fill_`.
        fills = value is not None and value.numel() == 1
        if masks and not (fills and len(indices) == len(masks) == 1):
            _note('indexing by a mask')
        if any(index.dim() and not _is_ours(index) for index in indices):
            _note('indexing by indices on the host')


def _pin(tensor: Tensor) -> Tensor:
    storage = tensor.untyped_storage()
    _pinned[storage.data_ptr()] = storage
    return tensor


def is_pinned(tensor: Tensor) -> bool:
    """Whether a tensor of the CPU lies in memory that counts as pinned."""
    return tensor.untyped_storage().data_ptr() in _pinned


@functools.cache
def register() -> None:
    """Register the device in this process, for good.

    Raises:
        NotImplementedError: If this PyTorch takes no device from Python.
    """
    if _setup is None:
        raise NotImplementedError(
            f'PyTorch {torch.__version__} takes no device from Python; '
            '2.9 does.'
        )
    _setup(NAME, backend_module=_Module(), hook=_Hooks())
    # What does not come through `__torch_dispatch__`: `torch.tensor` with a
    # device, or of tensors.
    library = torch.library.Library('aten', 'IMPL')
    kernels: dict[str, Callable] = dict(
        _local_scalar_dense=_read_value,
        empty_strided=_make_empty,
        copy_=_copy_over,
    )
    for name, kernel in kernels.items():
        library.impl(name, kernel, 'PrivateUse1')
    _kept.append(library)
    # There is no allocator of pinned memory on a CPU.
    patches: dict[str, Callable] = dict(
        pin_memory=lambda self, device=None: _pin(self.clone()),
        is_pinned=lambda self, device=None: (
            not _is_ours(self) and is_pinned(self)
        ),
    )
    for name, patch in patches.items():
        setattr(Tensor, name, patch)


_kept: list[torch.library.Library] = []


def _read_value(tensor: MockTensor) -> Any:
    _note('a value is read')
    return tensor.raw.item()


def _make_empty(
    size: Sequence[int],
    stride: Sequence[int],
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool | None = None,
) -> MockTensor:
    return MockTensor(torch.empty_strided(size, stride, dtype=dtype))


def _copy_over(
    target: Tensor, source: Tensor, non_blocking: bool = False
) -> Tensor:
    _note_copy('copy_', (target, source, non_blocking), {}, None)
    raw = source.raw if isinstance(source, MockTensor) else source
    (target.raw if isinstance(target, MockTensor) else target).copy_(raw)
    return target
