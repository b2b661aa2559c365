# Copyright (c) MotionMAE contributors. All rights reserved.
"""Arguments of MMAction2's video vision transformer."""

from functools import wraps
from typing import Any

from ..utils.arguments import argument_names, unknown_argument
from ..utils.errors import UsageError, UsageTypeError
from ..utils.patching import once


@once
def refuse_unknown_arguments() -> None:
    """``VisionTransformer`` swallows arguments that it does not know.

    So ``patch_sise=8`` trains another model than the one that was asked for.
    ``pretrained`` it knows, but loses.

    Remove when: ``VisionTransformer`` has no ``**kwargs``.

    Raises:
        UsageTypeError: Not here, but where one is built with such an
            argument; it names the nearest one.
    """
    from mmaction.models.backbones.vit_mae import VisionTransformer

    init = VisionTransformer.__init__

    @wraps(init)
    def check(self: VisionTransformer, *args: Any, **kwargs: Any) -> None:
        names = argument_names(type(self))
        for name in kwargs:
            if name not in names:
                raise UsageTypeError(unknown_argument(type(self), name))
        if kwargs.get('pretrained'):
            raise UsageError(
                f'{type(self).__name__} does not load pretrained='
                f'{kwargs["pretrained"]!r}: give it init_cfg=dict('
                "type='Pretrained', checkpoint=..., prefix='backbone.')."
            )
        init(self, *args, **kwargs)

    VisionTransformer.__init__ = check


@once
def refuse_heads_that_do_not_divide() -> None:
    """``Attention`` rounds the width of a head down, and fails in training.

    Remove when: ``Attention`` raises an error when it is built.

    Raises:
        UsageError: Not here, but where one is built.
    """
    from mmaction.models.backbones.vit_mae import Attention

    init = Attention.__init__

    @wraps(init)
    def check(
        self: Attention,
        embed_dims: int,
        num_heads: int = 8,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        if num_heads < 1 or embed_dims % num_heads:
            raise UsageError(
                f'num_heads={num_heads} does not divide embed_dims='
                f'{embed_dims}: each head of an attention gets an equal part '
                'of the width.'
            )
        init(self, embed_dims, num_heads, *args, **kwargs)

    Attention.__init__ = check
