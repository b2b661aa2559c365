# Copyright (c) MotionMAE contributors. All rights reserved.
import os
import os.path as osp
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import mmengine
import torch
import torch.distributed as dist
from mmengine._strategy import DDPStrategy
from mmengine.device import get_device
from mmengine.registry import STRATEGIES
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor
from torch.utils.serialization import config as serialization

from ...checkpoints.sharded import placing
from ...models import GradientBalance
from ...utils.errors import UsageError
from ...utils.sharding import like_local, part_like, whole
from ..hooks.compile_blocks_hook import find_blocks
from ..hooks.deferred_runtime_info_hook import single_wrappers
from .copying import allow_copies
from .saving import Saver

DTYPES = ('bfloat16', 'float16', 'float32')


@STRATEGIES.register_module()
class FSDP2Strategy(DDPStrategy):
    """Spread weights, gradients and the optimiser over all processes (FSDP2).

    For models that do not fit one device, with ``runner_type=
    'FlexibleRunner'``; ``tools/train.py --fsdp`` sets both. PyTorch's
    ``fully_shard``: each process keeps a part of every parameter; the whole
    of a block is gathered while it is computed. Names, shapes, parameter
    groups and results are those of ``DDPStrategy``.

    A checkpoint is one file, as that of any other run: all processes gather
    it, a tensor at a time, and the main process writes it. It can be resumed
    by any number of processes, with this strategy or without.

    **Saving is for all processes.** ``runner.save_checkpoint``, and so the
    hooks' ``before_save_checkpoint``, run on every process; weights in the
    checkpoint are parts then, which :func:`whole` gathers.

    Args:
        blocks (Sequence[str]): Names of the lists of blocks that are gathered
            one at a time, as in :class:`CompileBlocksHook`. Defaults to
            ``('blocks',)``.
        reshard_after_forward (bool): Whether a block is given up after the
            forward pass and gathered again for the backward pass (least
            memory), or kept. Defaults to True.
        param_dtype (str, optional): Type in which blocks are gathered and
            computed: ``'bfloat16'`` halves the traffic. The parts, the
            optimiser, what lies between blocks and the losses stay float32.
            None: as they are; mixed precision is then that of
            ``AmpOptimWrapper``, as without this strategy. Defaults to None.
        reduce_dtype (str): Type in which gradients are summed up. Defaults
            to ``'float32'``.
        cpu_offload (bool): Keep parts, gradients and the optimiser in the
            memory of the host. Defaults to False.
        checkpoint (dict, optional): ``dict(sharded=True)``: each process
            writes its part, into a folder; ``dict(sharded=True,
            asynchronous=True)``: while training goes on. See
            :func:`write_sharded`. Defaults to None: one file.
        shard_size (int or str, optional): Processes among which a parameter
            is spread; groups of so many hold copies of each other (HSDP).
            ``'node'``: those of a machine. None: all. Defaults to None.
        **kwargs: As of MMEngine's ``BaseStrategy``, and ``sync_bn``.

    Raises:
        UsageError: If a setting makes no sense, here or, where it is about
            the model, when the model is built.
    """

    def __init__(
        self,
        *,
        blocks: Sequence[str] = ('blocks',),
        reshard_after_forward: bool = True,
        param_dtype: str | None = None,
        reduce_dtype: str = 'float32',
        cpu_offload: bool = False,
        shard_size: int | str | None = None,
        checkpoint: dict[str, bool] | None = None,
        **kwargs: Any,
    ) -> None:
        for name, value in dict(
            param=param_dtype, reduce=reduce_dtype
        ).items():
            if value not in (*DTYPES, *([None] if name == 'param' else [])):
                raise UsageError(
                    f'FSDP2Strategy: {name}_dtype must be one of '
                    f'{", ".join(DTYPES)}, not {value!r}.'
                )
        if kwargs.get('model_wrapper') is not None:
            raise UsageError(
                'FSDP2Strategy: model_wrapper is for DDP; this strategy '
                'changes the model in place.'
            )
        if cpu_offload and get_device() == 'cpu':
            raise UsageError(
                'FSDP2Strategy: cpu_offload=True is for training on a GPU; '
                'on a CPU everything is in the memory of the host.'
            )
        self.blocks = (blocks,) if isinstance(blocks, str) else tuple(blocks)
        self.reshard_after_forward = reshard_after_forward
        # Of all but the blocks: as it is, so that targets keep theirs.
        reduce = getattr(torch, reduce_dtype)
        self.precision = MixedPrecisionPolicy(reduce_dtype=reduce)
        self.block_precision = self.precision
        if param_dtype is not None:
            self.block_precision = MixedPrecisionPolicy(
                getattr(torch, param_dtype), reduce, torch.float32
            )
        self.cpu_offload = cpu_offload
        self.shard_size = shard_size
        options: Any = {} if checkpoint is None else checkpoint
        if (
            not isinstance(options, dict)
            or not {'sharded', 'asynchronous'}.issuperset(options)
            or not all(isinstance(on, bool) for on in options.values())
        ):
            raise UsageError(
                'FSDP2Strategy: checkpoint=dict(sharded=..., asynchronous='
                f'...) takes True and False, not {checkpoint!r}.'
            )
        self._saver = Saver(**options)
        super().__init__(**kwargs)

    # ------------------------------------------------------------ processes

    def _setup_env(self, **kwargs: Any) -> None:
        """Set up as always; one process alone is a group, too."""
        super()._setup_env(**kwargs)
        if not dist.is_initialized():
            dist.init_process_group(
                'gloo' if get_device() == 'cpu' else None,
                store=dist.HashStore(),
                rank=0,
                world_size=1,
            )

    def _setup_distributed(
        self, launcher: str = 'pytorch', backend: str = 'nccl', **kwargs: Any
    ) -> None:
        if self.cpu_offload and backend == 'nccl':
            backend = 'cpu:gloo,cuda:nccl'  # the norm of gradients
        super()._setup_distributed(launcher, backend, **kwargs)

    def _make_mesh(self, device: str) -> DeviceMesh:
        count, size = self.world_size, self.shard_size
        if size == 'node':
            size = int(os.environ.get('LOCAL_WORLD_SIZE') or count)
        if size is None or size == count:
            return init_device_mesh(
                device, (count,), mesh_dim_names=('shard',)
            )
        if not isinstance(size, int) or size < 2 or count % size:
            raise UsageError(
                f'FSDP2Strategy: shard_size={self.shard_size!r} must divide '
                f"the {count} processes, and be 2 or more, or 'node'; "
                'without it parameters are spread over all of them.'
            )
        return init_device_mesh(
            device,
            (count // size, size),
            mesh_dim_names=('replicate', 'shard'),
        )

    # ---------------------------------------------------------------- model

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        device = get_device()
        model = self.convert_model(model.to(device))
        mesh = self._make_mesh(device)
        try:
            blocks = find_blocks(model, self.blocks)
        except ValueError as error:
            raise UsageError(f'FSDP2Strategy(blocks=...): {error}') from error
        options: dict[str, Any] = dict(
            mesh=mesh,
            reshard_after_forward=self.reshard_after_forward,
            offload_policy=(
                CPUOffloadPolicy() if self.cpu_offload else OffloadPolicy()
            ),
        )
        if any(isinstance(m, GradientBalance) for m in model.modules()):
            # It goes back through all after the encoder before the forward
            # pass is over: that is gathered with the model, for as long.
            encoder: Any = model.backbone
            inside = {id(module) for module in encoder.modules()}
            blocks = [block for block in blocks if id(block) in inside]
        for block in blocks:
            fully_shard(block, mp_policy=self.block_precision, **options)
        fully_shard(model, mp_policy=self.precision, **options)
        allow_copies(model)
        return model

    def build_optim_wrapper(
        self, optim_wrapper: Any, model: Any = None
    ) -> Any:
        """Build it; the norm of the gradients is that of all processes."""
        wrapper = super().build_optim_wrapper(optim_wrapper, model)
        for single in single_wrappers(wrapper):
            if getattr(single, 'clip_grad_kwargs', None):
                single.clip_func = _gives_whole(single.clip_func)
        return wrapper

    # --------------------------------------------------------------- saving

    def model_state_dict(self) -> dict[str, Any]:
        """The weights; of those that are spread, this process's parts."""
        state: dict[str, Any] = self.model.state_dict()
        return state

    def save_checkpoint(
        self,
        filename: str,
        *,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        extra_ckpt: dict | None = None,
        callback: Callable | None = None,
    ) -> None:
        """Save a checkpoint; all processes call this."""
        checkpoint = dict(state_dict=self.model_state_dict())
        if save_optimizer and hasattr(self, 'optim_wrapper'):
            checkpoint['optimizer'] = self.optim_state_dict()
        if save_param_scheduler and hasattr(self, 'param_schedulers'):
            checkpoint['param_schedulers'] = self.scheduler_state_dict()
        checkpoint.update(extra_ckpt or {})
        checkpoint.setdefault('meta', {}).update(
            seed=self.seed,
            time=time.strftime('%Y%m%d_%H%M%S'),
            mmengine=mmengine.__version__,
        )
        if callback is not None:
            callback(checkpoint)
        self._saver.write(checkpoint, filename)

    def when_saved(self, action: Callable[[], object]) -> None:
        """Call a function once the last checkpoint is complete."""
        self._saver.when_saved(action)

    def finish_saving(self) -> None:
        """Wait until the last checkpoint is complete; for all processes.

        Raises:
            CheckpointError: If it could not be written.
        """
        self._saver.finish()

    # -------------------------------------------------------------- loading

    def load_checkpoint(
        self, filename: str, *, callback: Callable | None = None, **kwargs: Any
    ) -> dict:
        """Load a checkpoint; each process keeps its parts of it."""

        def keep_parts(checkpoint: dict) -> None:
            for section in ('state_dict', 'ema_state_dict'):
                self._keep_parts(checkpoint.get(section) or {})
            if callback is not None:
                callback(checkpoint)

        # The processes of a machine share the pages of a mapped file.
        loading: Any = serialization
        mapped = osp.isfile(filename) and not filename.endswith('.safetensors')
        with (
            loading.patch('load.mmap', True) if mapped else nullcontext(),
            placing(self._place),
        ):
            kwargs['map_location'] = 'cpu'
            content: dict = super().load_checkpoint(
                filename, callback=keep_parts, **kwargs
            )
        return content

    def _place(
        self, path: tuple[Any, ...], shape: torch.Size, dtype: torch.dtype
    ) -> Tensor | None:
        """Make what a tensor of a folder is read into: a part."""
        section, *_, name = path
        like: Any = None
        if section == 'optimizer' and hasattr(self, 'optim_wrapper'):
            wrapper: Any = self.optim_wrapper
            for key in path[1 : path.index('state')]:
                wrapper = wrapper[key]
            groups = wrapper.optimizer.param_groups
            index = int(path[path.index('state') + 1])
            like = [p for group in groups for p in group['params']][index]
        elif section in ('state_dict', 'ema_state_dict'):
            own = dict(self.model.named_parameters())
            like = own.get(str(name).removeprefix('module.'))
        if not isinstance(like, DTensor) or like.shape != shape:
            return None
        local = torch.empty_like(like.to_local(), dtype=dtype)
        return like_local(like, local.detach())

    def _keep_parts(self, state: dict) -> None:
        """Replace whole weights of these names by parts, in place."""
        own = dict(self.model.named_parameters())
        for name, value in state.items():
            like: Any = own.get(name.removeprefix('module.'))
            if _fits(like, value):
                state[name] = part_like(like, value)

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load the state of the optimiser; each process keeps its parts."""
        wrappers = [*single_wrappers(self.optim_wrapper)]
        several = len(wrappers) > 1 or 'state' not in state_dict
        states = [*state_dict.values()] if several else [state_dict]
        for wrapper, state in zip(wrappers, states, strict=False):
            groups = wrapper.optimizer.param_groups
            parameters = [p for group in groups for p in group['params']]
            for index, values in state.get('state', {}).items():
                for name, value in values.items():
                    if _fits(parameters[int(index)], value):
                        values[name] = part_like(parameters[int(index)], value)
        super().load_optim_state_dict(state_dict)


def _fits(like: Any, value: Any) -> bool:
    """Tell whether a tensor is the whole of one that is spread."""
    return (
        isinstance(like, DTensor)
        and isinstance(value, Tensor)
        and not isinstance(value, DTensor)
        and value.shape == like.shape
    )


def _gives_whole(function: Callable) -> Callable:
    def call(*args: Any, **kwargs: Any) -> Any:
        return whole(function(*args, **kwargs))

    return call
