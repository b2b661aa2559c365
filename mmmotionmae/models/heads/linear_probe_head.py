# Copyright (c) MotionMAE contributors. All rights reserved.
"""A linear classifier of frozen features.

Shapes: N clips, C channels, t h w token grid, K classes.
"""

from typing import Any

from mmaction.models.heads import BaseHead
from mmaction.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class LinearProbeHead(BaseHead):
    """Linear probe: average the tokens, standardise, classify.

    Masked Autoencoders Are Scalable Vision Learners (arXiv 2111.06377),
    appendix A.1, "linear probing": a batch normalisation without weights of
    its own comes before the linear layer. It brings features of any scale to
    the same one, so that a learning rate suits every encoder. MAE puts it
    after the class token, which a video encoder has not.

    It takes the feature map of ``VisionTransformer(return_feat_map=True,
    use_mean_pooling=False)``, whose final norm has been pre-trained.

    MMAction2's ``LearningRateDecayOptimizerConstructor`` refuses batch
    normalisation; where the encoder is frozen, none is needed.

    Args:
        num_classes (int): Number of classes K.
        in_channels (int): Channels C of the feature map.
        init_cfg (dict or list[dict], optional): Initialisation. Defaults to
            that of MAE: weights from a normal distribution of standard
            deviation 0.01, cut off at -2 and 2, and no bias.
        **kwargs: As in ``BaseHead``.

    Examples:
        >>> import torch
        >>> head = LinearProbeHead(num_classes=5, in_channels=8)
        >>> head(torch.rand(2, 8, 4, 7, 7)).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        init_cfg: dict | list[dict] | None = dict(
            type='TruncNormal', layer='Linear', std=0.01
        ),
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, in_channels, init_cfg=init_cfg, **kwargs)
        self.norm = nn.BatchNorm1d(in_channels, affine=False, eps=1e-6)
        self.fc_cls = nn.Linear(in_channels, num_classes)

    def forward(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Classify.

        Args:
            x: (N, C, t, h, w).
            **kwargs: What recognizers hand to every head; not used.

        Returns:
            Scores (N, K), float32, before any softmax.
        """
        x = self.norm(x.mean((2, 3, 4)))
        # MMAction2 takes them to NumPy, which knows no bfloat16.
        return self.fc_cls(x).float()
