# Copyright (c) MotionMAE contributors. All rights reserved.
"""What makes a training step cheap, by counts that no busy machine changes.

And that it changes no result: a plain implementation of the same step stands
beside it.
"""

import copy

import torch
import torch.nn.functional as F
from conftest import as_batch, tube_mask
from einops import rearrange
from mmaction.models.backbones.vit_mae import Attention, Block
from mmcv.cnn.bricks.transformer import FFN
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

from mmmotionmae.models import MotionMAE

WIDTH, DEPTH, NARROW = 32, 2, 16
TOKENS, MASKED, VALUES = 64, 48, 2 * 8 * 8 * 3
VISIBLE = TOKENS - MASKED


def batch_of(num_clips=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(
        256,
        (num_clips, 3, 8, 32, 32),
        dtype=torch.uint8,
        generator=generator,
    )
    return as_batch(frames, tube_mask(num_clips, generator=generator))


class PlainMotionMAE(MotionMAE):
    """The same network, computed without any of the short cuts.

    Stock blocks on all tokens, a convolution over the whole clip, targets of
    all tokens by loops, PyTorch's loss.
    """

    @classmethod
    def of(cls, model):
        plain = copy.deepcopy(model)
        plain.__class__ = cls
        for module in plain.modules():
            if isinstance(module, Block):
                module.__class__ = Block
            elif isinstance(module, Attention):
                module.__class__ = Attention
            elif isinstance(module, FFN):
                module.__class__ = FFN
            elif isinstance(module, nn.Linear):
                module.__class__ = nn.Linear
        return plain

    def loss(self, clip, split, videos):
        def pick(tokens, index):
            return torch.stack(
                [t[i] for t, i in zip(tokens, index, strict=True)]
            )

        encoder, decoder = self.backbone, self.neck.decoders['shared']
        visible, masked, _ = split
        x = encoder.patch_embed.projection(clip).flatten(2).transpose(1, 2)
        x = pick(x + encoder.pos_embed, visible)
        for block in encoder.blocks:
            x = block(x)
        x = decoder.embed(encoder.norm(x))
        position = decoder.pos_embed.expand(len(clip), -1, -1)
        x = torch.cat(
            (
                x + pick(position, visible),
                decoder.mask_token + pick(position, masked),
            ),
            dim=1,
        )
        for block in decoder.blocks:
            x = block(x)
        x = decoder.norm(x)[:, -masked.size(1) :]
        # In float64: the mean of a constant tubelet, rounded to float32, would
        # be off by more than the 1e-6 that its zero deviation is padded with.
        pixel = videos['pixel'].double() / 255
        motion = pixel.diff(dim=2)
        motion = torch.cat((motion[:, :, :1], motion), dim=2)
        losses = {}
        for name, video in (('pixel', pixel), ('motion', motion)):
            tubelets = rearrange(
                video,
                'b c (t p0) (h p1) (w p2) -> b (t h w) c (p0 p1 p2)',
                p0=2,
                p1=8,
                p2=8,
            )
            mean = tubelets.mean(-1, keepdim=True)
            std = tubelets.var(-1, unbiased=True, keepdim=True).sqrt()
            target = ((tubelets - mean) / (std + 1e-6)).flatten(2).float()
            losses[f'loss_{name}'] = F.mse_loss(
                self.head.predictors[name](x), pick(target, masked)
            )
        return losses


def train(model, batches, lr=1e-3):
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=lr, betas=(0.9, 0.95), fused=True
    )
    curve = []
    for batch in batches:
        data = model.data_preprocessor(batch, training=True)
        losses = model(**data, mode='loss')
        loss = losses['loss_pixel'] + losses['loss_motion']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    return torch.tensor(curve)


def test_the_loss_curve_is_that_of_the_plain_path(tiny_model):
    """200 steps, relative difference at most 1e-4."""
    model = tiny_model()
    model.init_weights()
    plain = PlainMotionMAE.of(model)
    batches = [batch_of(seed=step) for step in range(8)] * 25
    fast, slow = train(model, batches), train(plain, batches)
    assert fast[-8:].mean() < 0.97 * fast[:8].mean()
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=0)


def block_flops(width, tokens, queries=None):
    """Of one block, forward: projections, MLP of ratio 4, attention."""
    queries = tokens if queries is None else queries
    q, kv, out = (
        width * width * queries,
        2 * width * width * tokens,
        width * width * queries,
    )
    mlp = 2 * 4 * width * width * queries
    attention = 2 * queries * tokens * width
    return 2 * (q + kv + out + mlp + attention)


def count_flops(model):
    """Of each part, forward, one clip; attention as matrix products."""
    data = model.data_preprocessor(batch_of(1), training=True)
    with (
        FlopCounterMode(display=False) as counter,
        sdpa_kernel(SDPBackend.MATH),
    ):
        model(**data, mode='loss')
    counts = counter.get_flop_counts()
    return {
        name: sum(counts[f'MotionMAE.{name}'].values())
        for name in ('backbone', 'neck', 'head.predictors')
        if f'MotionMAE.{name}' in counts
    } | dict(total=sum(counts['Global'].values()))


def test_counted_operations_are_those_of_visible_and_masked_tokens(
    tiny_model,
):
    counts = count_flops(tiny_model(neck=dict(depth=2)))
    backbone = 2 * VISIBLE * VALUES * WIDTH + DEPTH * block_flops(
        WIDTH, VISIBLE
    )
    neck = (
        2 * VISIBLE * WIDTH * NARROW
        + block_flops(NARROW, TOKENS)
        + block_flops(NARROW, TOKENS, MASKED)
    )
    predictions = 2 * 2 * MASKED * NARROW * VALUES
    # Sums of squares, of targets and errors, are computed as products.
    squares = 2 * 2 * 2 * MASKED * VALUES
    assert counts['backbone'] == backbone
    assert counts['neck'] == neck
    assert counts['total'] == backbone + neck + predictions + squares


def test_options_that_save_operations(tiny_model):
    def build(ratio=0.0, **neck):
        return tiny_model(
            neck=dict(depth=2, **neck),
            data_preprocessor=dict(
                type='MotionMAEDataPreprocessor', decoder_mask_ratio=ratio
            ),
        )

    embed = 2 * VISIBLE * WIDTH * NARROW
    half = VISIBLE + MASKED // 2
    assert count_flops(build(0.5))['neck'] == embed + block_flops(
        NARROW, half
    ) + block_flops(NARROW, half, MASKED // 2)
    cross = MASKED * (2 * NARROW + 8 * NARROW) * NARROW + 2 * VISIBLE * (
        WIDTH * NARROW + MASKED * NARROW
    )
    assert count_flops(build(attention='cross'))['neck'] == 2 * 2 * cross


def peak_bytes(function):
    """The most that was allocated at a time, over what was before."""
    with profile(profile_memory=True) as prof:
        function()
    changes = [
        event
        for event in prof.profiler.kineto_results.events()
        if event.name() == '[memory]'
    ]
    changes.sort(key=lambda event: event.start_ns())
    total = most = 0
    for event in changes:
        total += event.nbytes()
        most = max(most, total)
    return most


def test_a_step_allocates_less_than_the_plain_one(tiny_model):
    model = tiny_model(neck=dict(depth=2))
    plain = PlainMotionMAE.of(model)

    def step(network):
        data = network.data_preprocessor(batch_of(8), training=True)
        losses = network(**data, mode='loss')
        (losses['loss_pixel'] + losses['loss_motion']).backward()
        network.zero_grad()

    for network in (model, plain):
        step(network)
    assert peak_bytes(lambda: step(model)) < 0.7 * peak_bytes(
        lambda: step(plain)
    )


def test_what_a_step_keeps_for_its_backward_pass(tiny_model):
    """Activations per token of a block: 11 widths, not 16."""
    model = tiny_model(backbone=dict(depth=8))
    parameters = {p.data_ptr() for p in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def saved(depth):
        kept.clear()
        blocks = model.backbone.blocks[:depth]
        x = torch.randn(4, VISIBLE, WIDTH, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            for block in blocks:
                x = block(x)
        return sum(kept.values())

    per_block = (saved(8) - saved(4)) / 4
    one_width = 4 * 4 * VISIBLE * WIDTH
    # Two inputs and outputs of norms, q, k, v, the attended, and four widths
    # of hidden layer; little more: statistics of norms and attention.
    assert per_block <= 12.5 * one_width
