# Copyright (c) MotionMAE contributors. All rights reserved.
from collections.abc import Callable, Sequence
from typing import Any

from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from ...models import GradientBalance

GRAPHS_PER_BLOCK = 8  # PyTorch's default for one function


@HOOKS.register_module()
class CompileBlocksHook(Hook):
    """Compile the blocks of a transformer with ``torch.compile``.

    Regional compilation: every block is compiled on its own, in place, and
    blocks of the same structure, input shape and hyper-parameters share one
    graph. An encoder of twelve blocks so compiles in the time of one. What
    lies between the blocks runs as it is, and names, weights and checkpoints
    stay the same.

    MMEngine's ``compile=True`` compiles the whole training step instead,
    data preprocessor and optimiser included. Use one of the two.

    Blocks that differ in a number, such as their drop path rate, get a graph
    each. Random draws (dropout, drop path) of ``backend='inductor'`` are
    others than without compilation.

    Args:
        blocks (Sequence[str]): Names of the lists of blocks, or ends of their
            names: ``'blocks'`` is every list of this name,
            ``'backbone.blocks'`` that of the encoder. Defaults to
            ``('blocks', )``.
        fullgraph (bool): Fail if a block does not fit into one graph.
            Defaults to True.
        dynamic (bool, optional): Whether one graph serves several shapes.
            None: from the second shape on. Defaults to False, which is the
            fastest where shapes do not vary.
        backend (str or Callable): Defaults to ``'inductor'``.
        mode (str, optional): Such as ``'max-autotune'``. Defaults to None.
        options (dict, optional): Options of the back end, instead of
            ``mode``. Defaults to None.
    """

    def __init__(
        self,
        blocks: Sequence[str] = ('blocks',),
        fullgraph: bool = True,
        dynamic: bool | None = False,
        backend: str | Callable = 'inductor',
        mode: str | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.blocks = (blocks,) if isinstance(blocks, str) else tuple(blocks)
        self.options = dict(
            fullgraph=fullgraph,
            dynamic=dynamic,
            backend=backend,
            mode=mode,
            options=options,
        )
        self._model: nn.Module | None = None

    def before_train(self, runner: Runner) -> None:
        """Compile, unless that is done."""
        self._compile(runner)

    def before_val(self, runner: Runner) -> None:
        """Compile, unless that is done."""
        self._compile(runner)

    def before_test(self, runner: Runner) -> None:
        """Compile, unless that is done."""
        self._compile(runner)

    def _compile(self, runner: Runner) -> None:
        if self._model is runner.model:
            return
        self._model = runner.model
        found = find_blocks(runner.model, self.blocks)
        configure_dynamo(len(found))
        if any(isinstance(m, GradientBalance) for m in runner.model.modules()):
            keep_graphs()
        for block in found:
            block.compile(**self.options)
        runner.logger.info(
            f'{len(found)} blocks will be compiled when they are first used; '
            'the first step is slow.'
        )


def configure_dynamo(num_blocks: int) -> None:
    """Change those settings of the compiler that do not suit blocks."""
    from torch._dynamo import config  # slow to import

    # The limit holds for a function, here the `forward` of all blocks. (It is
    # called recompile limit by now; every version takes the old name.)
    limit = GRAPHS_PER_BLOCK * num_blocks
    config.cache_size_limit = max(config.cache_size_limit, limit)
    config.accumulated_cache_size_limit = max(
        config.accumulated_cache_size_limit, limit
    )
    # DDP exchanges the gradients of one block while those of the next are
    # computed. Cutting a block to DDP's buckets gains nothing and costs
    # fused operations.
    config.optimize_ddp = False


def keep_graphs() -> None:
    """Let more than one backward pass run through compiled blocks."""
    from torch._functorch import config  # slow to import

    config.donated_buffer = False


def find_blocks(model: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """The modules in the lists of these names.

    Args:
        model: Where to look.
        names: Names of lists, or ends of names, see
            :class:`CompileBlocksHook`.

    Returns:
        The blocks, in the order of the model.

    Raises:
        ValueError: If there is no list, or an empty one only, of some name.
    """
    lists = {
        f'.{name}': module
        for name, module in model.named_modules()
        if isinstance(module, (nn.ModuleList, nn.Sequential))
    }
    found = {}
    for name in names:
        blocks = [
            block
            for path, module in lists.items()
            if path.endswith(f'.{name}')
            for block in module
        ]
        if not blocks:
            raise ValueError(
                f'The model has no blocks in a list {name!r}; '
                f'its lists are {[path[1:] for path in lists]}.'
            )
        found.update({id(block): block for block in blocks})
    return list(found.values())
