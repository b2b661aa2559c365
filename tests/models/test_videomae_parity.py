# Copyright (c) MotionMAE contributors. All rights reserved.
"""`motion_weight=0` is VideoMAE: against the one in `transformers`."""

import pytest
import torch
from conftest import as_batch
from einops import rearrange
from mmaction.registry import MODELS

from mmmotionmae.checkpoints import FORMATS, Hints, RawCheckpoint

transformers = pytest.importorskip('transformers')

FRAMES, SIZE, PATCH, WIDTH, DEPTH, HEADS = 8, 32, 8, 32, 2, 2
DECODER_WIDTH, DECODER_DEPTH, DECODER_HEADS = 24, 2, 3
NUM_TOKENS, NUM_MASKED = 64, 48


def build_theirs(norm_pix_loss):
    config = transformers.VideoMAEConfig(
        image_size=SIZE,
        patch_size=PATCH,
        num_frames=FRAMES,
        tubelet_size=2,
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        decoder_hidden_size=DECODER_WIDTH,
        decoder_num_hidden_layers=DECODER_DEPTH,
        decoder_num_attention_heads=DECODER_HEADS,
        decoder_intermediate_size=4 * DECODER_WIDTH,
        qkv_bias=True,
        layer_norm_eps=1e-6,
        use_mean_pooling=False,  # the norm after the last block
        norm_pix_loss=norm_pix_loss,
    )
    model = transformers.VideoMAEForPreTraining(config)
    # VideoMAE has 1e-6 everywhere; here `transformers` took the default.
    model.decoder.norm.eps = 1e-6
    for parameter in model.parameters():  # biases and norms too
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def build_ours(pixel_norm):
    return MODELS.build(
        dict(
            type='MotionMAE',
            backbone=dict(
                type='MotionMAEViT',
                img_size=SIZE,
                patch_size=PATCH,
                num_frames=FRAMES,
                embed_dims=WIDTH,
                depth=DEPTH,
                num_heads=HEADS,
            ),
            neck=dict(
                type='MotionMAEDecoder',
                embed_dims=DECODER_WIDTH,
                depth=DECODER_DEPTH,
                num_heads=DECODER_HEADS,
            ),
            head=dict(
                type='MotionMAEHead', motion_weight=0.0, pixel_norm=pixel_norm
            ),
        )
    ).eval()


def map_names(theirs, config):
    """VideoMAE's tensors, weights or gradients, under our names."""
    raw = RawCheckpoint(theirs, config.to_dict(), 'theirs')
    tensors = FORMATS['huggingface'].read(raw, Hints()).tensors
    # Neither has a parameter for the positions; ours keeps a table.
    return {n: t for n, t in tensors.items() if not n.endswith('pos_embed')}


def relative(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.parametrize(
    ('pixel_norm', 'norm_pix_loss'), [('tubelet', True), ('none', False)]
)
def test_loss_gradients_and_tokens_equal_videomae(pixel_norm, norm_pix_loss):
    theirs, ours = build_theirs(norm_pix_loss), build_ours(pixel_norm)
    # Every parameter has a counterpart and takes its value; what is left are
    # the tables of positions.
    result = ours.load_state_dict(
        map_names(dict(theirs.named_parameters()), theirs.config),
        strict=False,
    )
    assert result.unexpected_keys == []
    assert set(result.missing_keys) == {
        'backbone.pos_embed',
        'neck.decoders.shared.pos_embed',
    }

    frames = torch.randint(256, (2, 3, FRAMES, SIZE, SIZE), dtype=torch.uint8)
    order = torch.rand(2, NUM_TOKENS).argsort(1)
    mask = torch.zeros(2, NUM_TOKENS, dtype=torch.bool)
    mask.scatter_(1, order[:, :NUM_MASKED], True)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1, 1)
    clip = (frames / 255 - mean) / std
    pixel_values = rearrange(clip, 'b c t h w -> b t c h w')

    batch = ours.data_preprocessor(as_batch(frames, mask), training=True)
    losses = ours(**batch, mode='loss')
    losses['loss_pixel'].backward()
    output = theirs(pixel_values, bool_masked_pos=mask)
    output.loss.backward()
    assert losses['loss_pixel'].item() == pytest.approx(
        output.loss.item(), rel=1e-5
    )

    gradients = map_names(
        {n: p.grad for n, p in theirs.named_parameters()}, theirs.config
    )
    assert set(gradients) == {n for n, _ in ours.named_parameters()}
    for name, parameter in ours.named_parameters():
        assert gradients[name].abs().max() > 0, name
        assert relative(parameter.grad, gradients[name]) < 1e-4, name

    with torch.no_grad():
        latent = ours(**batch, mode='tensor')
        tokens = theirs.videomae(pixel_values, bool_masked_pos=mask)
        assert relative(latent, tokens.last_hidden_state) < 1e-5
        pred = ours.head(ours.neck(latent, batch['inputs']['split']))['pixel']
    logits = rearrange(output.logits, 'b m (p c) -> b m (c p)', c=3)
    assert relative(pred, logits) < 1e-5
