# Copyright (c) MotionMAE contributors. All rights reserved.
"""Floating-point operations of matrix products, counted on paper.

A product of (n, k) and (k, m) has 2nkm; everything else (norms, GELU,
softmax, targets) is below a percent. Symbols: L tokens, V visible, M decoded;
D and E widths of encoder and decoder; K values of a tubelet.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from model_sizes import Size


@dataclass(frozen=True)
class Work:
    """FLOPs of some layers.

    Attributes:
        linear: Of linear layers, the projections of attention among them.
        attention: Of attention, for each pair of a query and a key.
    """

    linear: int = 0
    attention: int = 0

    @property
    def total(self) -> int:
        """Of both."""
        return self.linear + self.attention

    def __add__(self, other: 'Work') -> 'Work':
        return Work(
            self.linear + other.linear, self.attention + other.attention
        )

    def __mul__(self, times: int) -> 'Work':
        return Work(self.linear * times, self.attention * times)


@dataclass(frozen=True)
class Flops:
    """FLOPs of the forward pass of one clip.

    Attributes:
        encoder: Embedding and blocks.
        decoder: Embedding and blocks; of all decoders.
        head: Last layers.
    """

    encoder: Work
    decoder: Work = Work()
    head: int = 0

    @property
    def forward(self) -> int:
        """Of the forward pass."""
        return self.encoder.total + self.decoder.total + self.head

    @property
    def training(self) -> int:
        """Forward and backward.

        The backward pass has two products for each one of the forward pass.
        (One in the embedding, which passes no gradient on: not looked at.)
        What activation checkpointing computes again is not counted.
        """
        return 3 * self.forward


def block_work(
    queries: int,
    keys: int,
    dim: int,
    key_dim: int | None = None,
    mlp_ratio: float = 4,
) -> Work:
    """FLOPs of one transformer block.

    Args:
        queries: Tokens that attend, and go through projection and MLP.
        keys: Tokens that are attended to.
        dim: Width.
        key_dim: Width of the tokens that are attended to. Defaults to the
            same.
        mlp_ratio: Hidden width of the MLP over the width.
    """
    query_and_projection = 2 * 2 * queries * dim**2
    keys_and_values = 2 * 2 * keys * dim * (key_dim or dim)
    mlp = 2 * 2 * queries * dim * int(mlp_ratio * dim)
    return Work(
        query_and_projection + keys_and_values + mlp,
        2 * 2 * queries * keys * dim,
    )


def encoder_work(size: Size, embedded: int, visible: int) -> Work:
    """FLOPs of the encoder.

    Args:
        size: Of the network.
        embedded: Tokens that are embedded.
        visible: Tokens V that go through the blocks.
    """
    dim = size.embed_dims
    embedding = Work(2 * embedded * size.values * dim)
    block = block_work(visible, visible, dim, mlp_ratio=size.mlp_ratio)
    return embedding + block * size.depth


def decoder_work(
    size: Size,
    visible: int,
    decoded: int,
    attention: str = 'self',
    short_last_block: bool = False,
) -> Work:
    """FLOPs of one decoder.

    Args:
        size: Of the network.
        visible: Tokens V of the latent.
        decoded: Tokens M that are predicted.
        attention: ``'self'``: all tokens attend to all. ``'cross'``: the
            decoded ones to the latent.
        short_last_block: Whether the last block leaves out what only the
            visible tokens need: it has queries, projection and MLP of the
            decoded ones alone.
    """
    in_dim, dim, depth = size.embed_dims, size.decoder_dims, size.decoder_depth
    ratio = size.decoder_mlp_ratio
    if attention == 'cross':
        # Keys and values are made of the latent; there is no embedding.
        return block_work(decoded, visible, dim, in_dim, ratio) * depth
    embedding = Work(2 * visible * in_dim * dim)
    tokens = visible + decoded
    full, last = (
        block_work(queries, tokens, dim, mlp_ratio=ratio)
        for queries in (tokens, decoded if short_last_block else tokens)
    )
    return embedding + full * (depth - 1) + last


def pretraining_flops(
    size: Size,
    tokens: int,
    visible: int,
    targets: Sequence[str] = ('pixel',),
    sharing: str = 'shared',
    attention: str = 'self',
    decoder_mask_ratio: float = 0.0,
    embed_masked: bool = False,
    short_last_block: bool = False,
) -> Flops:
    """FLOPs of a masked autoencoder.

    Args:
        size: Of the network.
        tokens: Tokens L of a clip.
        visible: How many of them, V, are not masked.
        targets: What is predicted, each by a last layer of its own.
        sharing: ``'shared'``: one decoder. ``'independent'``: one for each
            target.
        attention: See :func:`decoder_work`.
        decoder_mask_ratio: Share of the masked tokens that are not decoded.
        embed_masked: Whether masked tokens are embedded, too, and dropped
            afterwards.
        short_last_block: See :func:`decoder_work`.
    """
    decoded = round((tokens - visible) * (1 - decoder_mask_ratio))
    decoder = decoder_work(size, visible, decoded, attention, short_last_block)
    return Flops(
        encoder_work(size, tokens if embed_masked else visible, visible),
        decoder * (len(targets) if sharing == 'independent' else 1),
        len(targets) * 2 * decoded * size.decoder_dims * size.values,
    )


def recognition_flops(size: Size, tokens: int, num_classes: int = 0) -> Flops:
    """FLOPs of an encoder that sees all tokens, and of a classifier.

    Args:
        size: Of the network.
        tokens: Tokens L of a clip.
        num_classes: Classes; 0: there is no classifier.
    """
    return Flops(
        encoder_work(size, tokens, tokens),
        head=2 * size.embed_dims * num_classes,
    )
