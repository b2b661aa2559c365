# Copyright (c) MotionMAE contributors. All rights reserved.
"""What a classifier costs, of whatever kind: PyTorch counts it."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mmmotionmae.models.utils.tubelet import Grid

CLIPS = 2  # batch normalisation refuses one


def measure_head(model: Any, grid: Grid) -> dict[str, int]:
    """Run the head of a recognizer on the meta device.

    Args:
        model: On that device; its backbone is a ViT, it has no neck.
        grid: (t, h, w) of a clip's tokens.

    Returns:
        ``head_flops`` of the forward pass, and ``head_bytes`` that it keeps
        for the backward pass in float32, its weights left out; both for each
        clip.
    """
    vit = model.backbone
    shape = (CLIPS, vit.embed_dims, *(grid if vit.return_feat_map else ()))
    features = torch.empty(shape, device='meta')
    weights = {id(parameter) for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        # Of views, the tensor that they are part of.
        base = tensor if tensor._base is None else tensor._base
        if id(base) not in weights:
            kept[id(base)] = base
        return tensor

    with (
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        model.cls_head(features)
    num_bytes = sum(t.numel() * t.element_size() for t in kept.values())
    return dict(
        head_flops=counter.get_total_flops() // CLIPS,
        head_bytes=num_bytes // CLIPS,
    )
