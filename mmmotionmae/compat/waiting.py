# Copyright (c) MotionMAE contributors. All rights reserved.
"""Waits of the host in a step of fine-tuning, which a GPU then idles for."""

from functools import wraps
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import BaseDataElement
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..utils.patching import once
from ..utils.transfer import copy_without_waiting


@once
def copy_batches_without_waiting() -> None:
    """``ActionDataPreprocessor`` waits for each clip and each label.

    Clips are copied without a wait (from pinned memory, which a loader has
    if it is told to), and equal fields of all data samples in one copy.

    Remove when: it copies with ``non_blocking``, and data samples can be
    pinned.
    """
    from mmaction.models.data_preprocessors import ActionDataPreprocessor

    original = ActionDataPreprocessor.cast_data

    @wraps(original)
    def cast_data(self: ActionDataPreprocessor, data: Any) -> Any:
        if isinstance(data, Tensor) and data.device.type == 'cpu':
            return data.to(self.device, non_blocking=True)
        if isinstance(data, list) and all(
            isinstance(sample, BaseDataElement) for sample in data
        ):
            return copy_samples(data, self.device)
        return original(self, data)

    ActionDataPreprocessor.cast_data = cast_data


def copy_samples(
    samples: list[BaseDataElement], device: torch.device
) -> list[BaseDataElement]:
    """Copy data samples to a device, equal fields of all of them at once.

    Args:
        samples: Of a batch.
        device: Where to.

    Returns:
        New samples, in the same order.
    """
    copies = [sample.new() for sample in samples]
    alike: dict[Any, list[tuple[int, Tensor]]] = {}
    for number, sample in enumerate(samples):
        for name, value in sample.items():
            if isinstance(value, Tensor):
                kind = (name, value.dtype, value.shape, value.device)
                alike.setdefault(kind, []).append((number, value))
            elif hasattr(value, 'to'):
                copies[number].set_data({name: value.to(device)})
    for (name, *_), found in alike.items():
        values = torch.stack([value for _, value in found])
        for (number, _), value in zip(
            found, copy_without_waiting(values, device), strict=True
        ):
            copies[number].set_data({name: value})
    return copies


@once
def blend_without_waiting() -> None:
    """Mixup and CutMix fetch each label, and bring their draws in between.

    ``torch.tensor`` of labels on a GPU waits for each of them, and an index
    on the host for all that was launched before. The labels stay where they
    are, and the order of a batch is copied without a wait. Draws and results
    are the same.

    Remove when: ``BaseMiniBatchBlending`` stacks the labels, and draws its
    permutations on the device.
    """
    from mmaction.models.utils.blending_utils import BaseMiniBatchBlending

    original = BaseMiniBatchBlending.__call__

    @wraps(original)
    def call(
        self: BaseMiniBatchBlending,
        imgs: Tensor,
        batch_data_samples: list,
        **kwargs: Any,
    ) -> tuple:
        labels = [sample.gt_label for sample in batch_data_samples]
        # As one-hot rows it takes them without looking into them.
        if labels[0].size(0) == 1 and (self.num_classes or 0) > 1:
            classes = torch.cat(labels).to(imgs.device, torch.long)
            rows = F.one_hot(classes, self.num_classes)
            for sample, row in zip(batch_data_samples, rows, strict=True):
                sample.set_gt_label(row)
        with _PermutationsOn(imgs.device):
            return original(self, imgs, batch_data_samples, **kwargs)

    BaseMiniBatchBlending.__call__ = call


class _PermutationsOn(TorchFunctionMode):
    """Brings what ``torch.randperm`` draws on the host to a device."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.randperm:
            return copy_without_waiting(result, self.device)
        return result


@once
def score_without_waiting() -> None:
    """Training accuracy goes through NumPy: two copies here, two back.

    On a GPU each of them is a wait; the accuracy is computed there instead.
    (Where scores are equal, another of them may be taken to be larger.) And
    NumPy has no bfloat16, so hard labels and mixed precision in bfloat16
    would end in a ``TypeError``: scores are taken in float32. The loss is
    computed in float32 either way.

    Remove when: ``BaseHead.loss_by_feat`` takes bfloat16 scores, and leaves
    them where they are.
    """
    from mmaction.models.heads.base import BaseHead

    original = BaseHead.loss_by_feat

    @wraps(original)
    def loss_by_feat(
        self: Any, cls_scores: Tensor, data_samples: list
    ) -> dict[str, Any]:
        scores = cls_scores.float()
        labels = torch.stack([sample.gt_label for sample in data_samples])
        # Probabilities of classes; they are not scored.
        soft = labels.shape == scores.shape
        if scores.device.type == 'cpu' or soft:
            return original(self, scores, data_samples)
        labels = copy_without_waiting(labels, scores.device).flatten()
        best = (
            scores.detach().topk(min(max(self.topk), scores.size(1))).indices
        )
        hits = best == labels[:, None]
        losses: dict[str, Any] = {
            f'top{k}_acc': hits[:, :k].any(1).double().mean()
            for k in self.topk
        }
        if self.label_smooth_eps:
            labels = F.one_hot(labels, self.num_classes)
            labels = (
                1 - self.label_smooth_eps
            ) * labels + self.label_smooth_eps / self.num_classes
        loss = self.loss_cls(scores, labels)
        return losses | (
            loss if isinstance(loss, dict) else {'loss_cls': loss}
        )

    BaseHead.loss_by_feat = loss_by_feat
