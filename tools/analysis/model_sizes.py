# Copyright (c) MotionMAE contributors. All rights reserved.
"""Sizes of networks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Sizes of a network.

    Attributes:
        embed_dims: Width of the encoder.
        depth: Blocks of the encoder.
        num_heads: Attention heads of the encoder.
        decoder_dims: Width of the decoder.
        decoder_heads: Attention heads of the decoder.
        decoder_depth: Blocks of the decoder.
        patch_size: Height and width of a tubelet, in pixels.
        tubelet_size: Frames of a tubelet.
        mlp_ratio: Hidden width of the encoder's MLPs over its width.
        decoder_mlp_ratio: Likewise of the decoder.
        channels: Of a frame.
    """

    embed_dims: int
    depth: int
    num_heads: int
    decoder_dims: int
    decoder_heads: int
    decoder_depth: int = 4
    patch_size: int = 16
    tubelet_size: int = 2
    mlp_ratio: float = 4
    decoder_mlp_ratio: float = 4
    channels: int = 3

    @property
    def values(self) -> int:
        """Values of a tubelet."""
        return self.channels * self.tubelet_size * self.patch_size**2


# The networks that the benchmarks measure; of ViT-H VideoMAE's decoder.
SIZES = {
    'small': Size(384, 12, 6, 192, 3),
    'base': Size(768, 12, 12, 384, 6),
    'large': Size(1024, 24, 16, 512, 8),
    'huge': Size(1280, 32, 16, 640, 8, decoder_depth=12),
}
