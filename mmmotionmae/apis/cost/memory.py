# Copyright (c) MotionMAE contributors. All rights reserved.
"""Memory of a training step on one device, estimated on paper.

Assumed:

- Backward needs the inputs of linear layers and norms, queries, keys and
  values, and the hidden layer of each MLP once (``gelu_linear``), of MMCV's
  own MLP twice. Fused attention keeps no matrix of all pairs of tokens;
  MMAction2's own keeps one for each head.
- In mixed precision, matrix products have 2 bytes a value, and so have what
  they keep and the copies of their weights; norms, the sum that runs through
  the blocks, the target's error and softmax have 4.
- At the peak, that is at the end of the forward pass, there is also what the
  loss or the last block needs for a moment, and the batch itself.
- Gradients are counted in full; they come when activations go.

Left out: what the device's runtime and libraries take, and free gaps of the
allocator; dropout and layer scale.

Tokens: L of a clip, V visible, M decoded. D and E are the widths of encoder
and decoder, K the values of a tubelet.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .network import Network, head_input

SINGLE = 4  # bytes of a float32
HEAD_CLIPS = 2  # batch normalisation refuses one


@dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    Attributes:
        activations: What the backward pass needs of the forward pass, the
            batch, and what is needed for a moment at the peak.
        weights: In float32, and the copies of mixed precision.
        gradients: In float32. DDP's buckets are these, not copies of them.
        optimizer: State of the optimiser.
    """

    activations: int
    weights: int
    gradients: int
    optimizer: int

    @property
    def total(self) -> int:
        """Of all."""
        return (
            self.activations + self.weights + self.gradients + self.optimizer
        )


def memory_of(
    network: Network,
    clips: int,
    half: bool,
    states: int,
) -> Memory:
    """Estimate a training step.

    Args:
        network: The network.
        clips: Of one forward pass on one device.
        half: Whether in mixed precision.
        states: Values that the optimiser keeps for each weight.
    """
    parameters, trained = network.parameters['total'], network.trained
    return Memory(
        clips * activations_of(network, half),
        SINGLE * parameters + (2 * trained if half else 0),
        SINGLE * trained,
        SINGLE * trained * states,
    )


def activations_of(network: Network, half: bool) -> int:
    """Bytes of activations for each clip, at the peak."""
    kind = _pretraining if network.kind == 'pre-training' else _recognition
    return kind(network, 2 if half else SINGLE)


def block_bytes(
    queries: int,
    keys: int,
    dim: int,
    width: int,
    mlp_ratio: float = 4,
    key_dim: int | None = None,
    heads: int = 0,
) -> int:
    """Bytes that one transformer block keeps for the backward pass.

    Args:
        queries: Tokens that attend, and go through projection and MLP.
        keys: Tokens that are attended to.
        dim: Width of the queries.
        width: Bytes of a value in matrix products, 4 or 2.
        mlp_ratio: Hidden width of the MLP over ``dim``.
        key_dim: Width of the tokens attended to, if they are others.
        heads: Heads of a block that is not fused.
    """
    hidden = int(mlp_ratio * dim)
    first = queries if key_dim else keys  # tokens in the first norm
    kept = first * dim * (SINGLE + width)  # inputs of norm and projection
    kept += (queries + 2 * keys) * dim * width  # queries, keys, values
    # Inputs of the second projection, the second norm and the MLP.
    kept += queries * dim * (width + SINGLE + width)
    kept += queries * hidden * width  # before the GELU
    if width < SINGLE:
        # What is cast anew: the latent, in each block; the queries' tokens,
        # where these are a part.
        if key_dim:
            kept += keys * key_dim * width
        elif queries < keys:
            kept += queries * dim * width
    if heads:
        # After the GELU. Softmax: in single precision, and a copy.
        kept += queries * hidden * width
        kept += heads * queries * keys * matrix_width(width)
    return kept


def matrix_width(width: int) -> int:
    """Bytes for each pair of tokens and head where attention is not fused.

    On a GPU autocast has softmax in float32, and casts a copy for the next
    product.
    """
    return SINGLE if width == SINGLE else SINGLE + width


def _encoder(network: Network, tokens: int, width: int) -> tuple[int, int]:
    """Bytes of the encoder's blocks, and of one that is computed anew."""
    size, blocks = network.size, network.trained_blocks
    assert size is not None
    block = block_bytes(
        tokens,
        tokens,
        size.embed_dims,
        width,
        size.mlp_ratio,
        heads=0 if network.fused else size.num_heads,
    )
    if network.encoder_cp:
        return blocks * tokens * size.embed_dims * SINGLE, block
    return blocks * block, 0


def _decoder(network: Network, width: int) -> tuple[int, int]:
    """Activations of all decoders, in the same units."""
    size, tokens = network.size, network.tokens
    assert size is not None and tokens is not None
    visible, decoded = tokens.visible, tokens.decoded
    dim, depth = size.decoder_dims, size.decoder_depth
    cross = network.attention == 'cross'
    inputs = decoded if cross else visible + decoded
    full, last = (
        block_bytes(
            queries,
            visible if cross else inputs,
            dim,
            width,
            size.decoder_mlp_ratio,
            size.embed_dims if cross else None,
        )
        for queries in (inputs, decoded)
    )
    if network.decoder_cp:
        return network.num_decoders * depth * inputs * dim * SINGLE, last
    return network.num_decoders * ((depth - 1) * full + last), 0


def _pretraining(network: Network, width: int) -> int:
    size, tokens = network.size, network.tokens
    assert size is not None and tokens is not None
    visible, decoded = tokens.visible, tokens.decoded
    dim, dec, values = size.embed_dims, size.decoder_dims, size.values
    targets, decoders = network.targets, network.num_decoders
    predicted = sum(target.values for target in targets)
    casts = width < SINGLE
    blocks, encoder_block = _encoder(network, visible, width)
    # Embedding, blocks, the last norm.
    encoder = visible * (values * width + dim * SINGLE) + blocks
    blocks, decoder_block = _decoder(network, width)
    # The latent and the inputs of the last layers: where nothing is cast,
    # one tensor for all that read it.
    latents = decoders if casts else 1
    if casts and network.attention == 'cross':
        latents = 0  # its blocks have them
    inputs = len(targets) if casts else decoders
    decoder = blocks + latents * visible * dim * width
    decoder += decoded * dec * (decoders * SINGLE + inputs * width)
    # Errors of all targets; predictions of all, and what one is taken from; or
    # the gradient of one, and its cast copy.
    peak = decoded * predicted * SINGLE + decoded * max(
        predicted * width + max(t.source_bytes for t in targets),
        max(t.values for t in targets) * (SINGLE + (width if casts else 0)),
    )
    # Later in the backward pass blocks are computed anew.
    peak = max(decoder + peak, decoder + decoder_block, encoder_block)
    # The batch: clip, uint8 frames, what targets are taken from.
    batch = values * (SINGLE + 1) + sum(t.made_bytes for t in targets)
    return encoder + peak + tokens.total * batch


def _head_bytes(network: Network) -> int:
    """Bytes that a classifier keeps, for each clip, its weights left out."""
    model, tokens = network.model, network.tokens
    assert tokens is not None
    if getattr(model, 'cls_head', None) is None:
        return 0
    weights = {id(parameter) for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        # Of views, the tensor that they are part of.
        base = tensor if tensor._base is None else tensor._base
        if id(base) not in weights:
            kept[id(base)] = base
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.cls_head(head_input(model.backbone, tokens.grid, HEAD_CLIPS))
    num_bytes = sum(t.numel() * t.element_size() for t in kept.values())
    return num_bytes // HEAD_CLIPS


def _recognition(network: Network, width: int) -> int:
    size, tokens = network.size, network.tokens
    assert size is not None and tokens is not None
    number, dim = tokens.total, size.embed_dims
    hidden = number * int(size.mlp_ratio * dim) * width
    stream = number * dim * SINGLE
    # The batch, and the head's part.
    kept = number * size.values * SINGLE + _head_bytes(network)
    if not network.trained_blocks:
        # What a frozen block needs at a time: its MLP.
        return kept + stream + 2 * hidden
    kept += _encoder(network, number, width)[0]
    if network.embedding_trained and width < SINGLE:
        kept += number * size.values * width  # cast for the convolution
    # Gradients of the last block: of its MLP; or, when what that kept is
    # gone, of the matrices before and after softmax.
    moment = 2 * (hidden + stream)
    if not network.fused:
        pairs = 2 * size.num_heads * number**2 * SINGLE
        moment = max(moment, pairs - 2 * hidden)
    return kept + moment
