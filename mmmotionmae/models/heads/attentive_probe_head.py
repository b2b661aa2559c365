# Copyright (c) MotionMAE contributors. All rights reserved.
"""A classifier of frozen features that chooses what it looks at.

Shapes: N clips, C channels, t h w token grid, L = t*h*w tokens, H heads, K
classes.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from mmaction.models.heads import BaseHead
from mmaction.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn


class AttentivePooling(BaseModule):
    """One learned query that attends to all tokens, then an MLP.

    A pre-norm block of cross-attention: the tokens are normalised, the query
    is not, and no linear layer follows the attention. (V-JEPA's code has
    one, but does not call it.)

    Args:
        embed_dims (int): Channels C.
        num_heads (int): Heads H of the attention.
        mlp_ratio (float): Hidden width of the MLP over C. Defaults to 4.
        qkv_bias (bool): Whether query, keys and values have a bias. Defaults
            to True.
        init_std (float): Standard deviation of the initial query and
            weights; cut off at -2 and 2. Defaults to 0.02.

    Raises:
        ValueError: If the heads do not divide the channels.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        init_std: float = 0.02,
    ) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(
                f'{num_heads} heads do not divide {embed_dims} channels.'
            )
        self.num_heads = num_heads
        self.init_std = init_std
        hidden = int(embed_dims * mlp_ratio)
        self.query = nn.Parameter(torch.zeros(1, 1, embed_dims))
        self.norm1 = nn.LayerNorm(embed_dims)
        self.q = nn.Linear(embed_dims, embed_dims, bias=qkv_bias)
        self.kv = nn.Linear(embed_dims, 2 * embed_dims, bias=qkv_bias)
        self.norm2 = nn.LayerNorm(embed_dims)
        self.mlp = nn.Sequential(
            nn.Linear(embed_dims, hidden),
            nn.GELU(),
            nn.Linear(hidden, embed_dims),
        )

    def init_weights(self) -> None:
        """Draw the initial query and weights, as V-JEPA does."""
        super().init_weights()
        nn.init.trunc_normal_(self.query, std=self.init_std)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                last = module is self.mlp[-1]
                std = self.init_std / math.sqrt(2) if last else self.init_std
                nn.init.trunc_normal_(module.weight, std=std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L, C) to (N, C)."""
        heads = dict(h=self.num_heads)
        # Not `len`, which would fix the batch size of an exported model.
        query = self.query.expand(tokens.size(0), -1, -1)
        q = rearrange(self.q(query), 'n q (h d) -> n h q d', **heads)
        k, v = rearrange(
            self.kv(self.norm1(tokens)),
            'n l (two h d) -> two n h l d',
            two=2,
            **heads,
        )
        attended = F.scaled_dot_product_attention(q, k, v)
        x = query + rearrange(attended, 'n h q d -> n q (h d)')
        return (x + self.mlp(self.norm2(x))).squeeze(1)


@MODELS.register_module()
class AttentiveProbeHead(BaseHead):
    """Attentive probe: cross-attention of one learned query, then a linear.

    V-JEPA's classifier (Revisiting Feature Prediction for Learning Visual
    Representations from Video, arXiv 2404.08471, section on frozen
    evaluation; facebookresearch/jepa, src/models/attentive_pooler.py). It
    is a fair judge of encoders whose tokens were never trained to be
    averaged, such as those of masked autoencoders.

    It takes the feature map of ``VisionTransformer(return_feat_map=True,
    use_mean_pooling=False)``, whose final norm has been pre-trained.

    Args:
        num_classes (int): Number of classes K.
        in_channels (int): Channels C of the feature map.
        num_heads (int): Heads of the attention; V-JEPA takes as many as the
            encoder has. Defaults to 12.
        mlp_ratio (float): Hidden width of the MLP over C. Defaults to 4.
        qkv_bias (bool): Whether query, keys and values have a bias. Defaults
            to True.
        init_std (float): Standard deviation of the initial query and
            weights. The classifying layer keeps PyTorch's initialisation, as
            in V-JEPA. Defaults to 0.02.
        **kwargs: As in ``BaseHead``.

    Raises:
        ValueError: If the heads do not divide the channels.

    Examples:
        >>> import torch
        >>> head = AttentiveProbeHead(5, in_channels=8, num_heads=2)
        >>> head(torch.rand(2, 8, 4, 7, 7)).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        init_std: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, in_channels, **kwargs)
        self.pooling = AttentivePooling(
            in_channels, num_heads, mlp_ratio, qkv_bias, init_std
        )
        self.fc_cls = nn.Linear(in_channels, num_classes)

    def forward(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Classify.

        Args:
            x: (N, C, t, h, w).
            **kwargs: What recognizers hand to every head; not used.

        Returns:
            Scores (N, K), float32, before any softmax.
        """
        tokens = rearrange(x, 'n c t h w -> n (t h w) c')
        # MMAction2 takes them to NumPy, which knows no bfloat16.
        return self.fc_cls(self.pooling(tokens)).float()
