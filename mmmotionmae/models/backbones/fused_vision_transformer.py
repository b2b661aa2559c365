# Copyright (c) MotionMAE contributors. All rights reserved.
from collections.abc import Iterator
from typing import Any

from mmaction.models.backbones.vit_mae import VisionTransformer
from mmaction.registry import MODELS
from torch import nn

from ..utils.transformer import fuse_blocks


@MODELS.register_module()
class FusedVisionTransformer(VisionTransformer):
    """MMAction2's ``VisionTransformer``, quicker and smaller in memory.

    A drop-in for fine-tuning: same arguments, parameters and state-dict keys,
    so that checkpoints go both ways and layer-wise learning rates
    (``LearningRateDecayOptimizerConstructor``) work. Same result, up to
    rounding: attention is fused, so that no N x N matrix is kept for the
    backward pass, and the hidden layer of each MLP is kept once, not twice.

    Beyond that, its first layers can be frozen. They get no gradients and
    stay in evaluation mode; for clips that want no gradient themselves,
    nothing of them is kept for the backward pass.

    Args:
        *args: As in ``VisionTransformer``.
        frozen_stages (int): What is frozen, as in MMPretrain. -1: nothing;
            0: the patch embedding and the positions; k: these and the first
            k blocks; the depth: everything, with the final norm. Defaults
            to -1.
        **kwargs: As in ``VisionTransformer``.

    Raises:
        ValueError: If ``frozen_stages`` is less than -1 or more than there
            are blocks.
    """

    def __init__(
        self, *args: Any, frozen_stages: int = -1, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        fuse_blocks(self.blocks)
        depth = len(self.blocks)
        if not -1 <= frozen_stages <= depth:
            raise ValueError(
                f'frozen_stages must be from -1 to the {depth} blocks that '
                f'there are, not {frozen_stages}.'
            )
        self.frozen_stages = frozen_stages
        # Before a wrapper (DDP) or an optimiser looks for gradients.
        if frozen_stages >= 0:
            self.pos_embed.requires_grad_(False)
        for module in self._frozen_modules():
            module.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> 'FusedVisionTransformer':
        """Change the mode of what is not frozen."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    def _frozen_modules(self) -> Iterator[nn.Module]:
        if self.frozen_stages < 0:
            return
        yield from (self.patch_embed, self.pos_drop)
        yield from self.blocks[: self.frozen_stages]
        if self.frozen_stages == len(self.blocks):
            yield self.norm
            if self.fc_norm is not None:
                yield self.fc_norm
