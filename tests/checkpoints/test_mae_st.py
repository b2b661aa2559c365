# Copyright (c) MotionMAE contributors. All rights reserved.
"""MAE-ST beside what is read of its files, and written for it."""

import argparse
import shutil
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from helpers.foreign_networks import (
    NUM_CLASSES,
    SIZES,
    TINY,
    draw,
    mae_st_network,
    relative,
)

from mmmotionmae.checkpoints import (
    build_model,
    read_checkpoint,
    write_checkpoint,
)
from mmmotionmae.models.utils.tubelet import split_mask
from mmmotionmae.utils.errors import CheckpointError

SEPARATE = pytest.mark.parametrize('separate', [True, False])
HINTS = dict(num_heads=TINY.heads)


@pytest.fixture(autouse=True)
def _leave_nothing(tmp_path):
    """Checkpoints of ViT-L are large."""
    yield
    shutil.rmtree(tmp_path)


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def as_file(tensors, path, wrap='model', **beside):
    torch.save({wrap: tensors} | beside, path)
    return path


def without_key_bias(tensors):
    return {
        name: torch.zeros_like(tensor)
        if name.endswith('attn.k.bias')
        else tensor
        for name, tensor in tensors.items()
    }


# ------------------------------------------- written down from the article


def random_tensors(separate=True, cls=False, head=True):
    """A file of fine-tuning, as MAE-ST lays it out."""
    dims, side = TINY.dims, TINY.img_size // TINY.patch_size
    slots = TINY.num_frames // TINY.tubelet_size
    kernel = (TINY.tubelet_size, TINY.patch_size, TINY.patch_size)
    shapes = {
        'patch_embed.proj.weight': (dims, 3, *kernel),
        'patch_embed.proj.bias': (dims,),
        'norm.weight': (dims,),
        'norm.bias': (dims,),
    }
    if separate:
        shapes['pos_embed_spatial'] = (1, side**2, dims)
        shapes['pos_embed_temporal'] = (1, slots, dims)
    else:
        shapes['pos_embed'] = (1, cls + slots * side**2, dims)
    if cls:
        shapes['cls_token'] = (1, 1, dims)
        if separate:
            shapes['pos_embed_class'] = (1, 1, dims)
    if head:
        shapes |= {
            'head.weight': (NUM_CLASSES, dims),
            'head.bias': (NUM_CLASSES,),
        }
    for i in range(TINY.depth):
        for name, rows, columns in (
            ('attn.q', dims, dims),
            ('attn.k', dims, dims),
            ('attn.v', dims, dims),
            ('attn.proj', dims, dims),
            ('mlp.fc1', 4 * dims, dims),
            ('mlp.fc2', dims, 4 * dims),
        ):
            shapes[f'blocks.{i}.{name}.weight'] = (rows, columns)
            shapes[f'blocks.{i}.{name}.bias'] = (rows,)
        for name in ('norm1', 'norm2'):
            shapes[f'blocks.{i}.{name}.weight'] = (dims,)
            shapes[f'blocks.{i}.{name}.bias'] = (dims,)
    return {n: 0.3 * torch.randn(shape) for n, shape in shapes.items()}


def encode(tensors, clip):
    """The tokens after the last block, one head and one token at a time."""

    def layer(x, name):
        return x @ tensors[f'{name}.weight'].T + tensors[f'{name}.bias']

    def norm(x, name):
        centred = x - x.mean(-1, keepdim=True)
        std = (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return (
            centred / std * tensors[f'{name}.weight'] + tensors[f'{name}.bias']
        )

    kernel = tensors['patch_embed.proj.weight']
    x = F.conv3d(
        clip, kernel, tensors['patch_embed.proj.bias'], kernel.shape[2:]
    )
    slots, area = x.shape[2], x.shape[3] * x.shape[4]
    x = x.flatten(2).transpose(1, 2).clone()
    for token in range(slots * area):
        if 'pos_embed' in tensors:
            x[:, token] += tensors['pos_embed'][0, token]
        else:
            x[:, token] += tensors['pos_embed_temporal'][0, token // area]
            x[:, token] += tensors['pos_embed_spatial'][0, token % area]
    for i in range(TINY.depth):
        block = f'blocks.{i}'
        normed = norm(x, f'{block}.norm1')
        heads = []
        for head in torch.arange(TINY.dims).chunk(TINY.heads):
            q, k, v = (
                layer(normed, f'{block}.attn.{n}')[..., head] for n in 'qkv'
            )
            scores = (q @ k.transpose(1, 2) / len(head) ** 0.5).exp()
            heads.append(scores / scores.sum(-1, keepdim=True) @ v)
        x = x + layer(torch.cat(heads, -1), f'{block}.attn.proj')
        hidden = layer(norm(x, f'{block}.norm2'), f'{block}.mlp.fc1')
        x = x + layer(F.gelu(hidden), f'{block}.mlp.fc2')
    return x, layer, norm


@SEPARATE
@pytest.mark.parametrize('wrap', ['model', 'model_state'])
def test_encoder_and_classifier(separate, wrap, tmp_path):
    tensors = random_tensors(separate)
    path = as_file(tensors, tmp_path / 'tuned.pth', wrap)
    hints = HINTS if separate else HINTS | dict(trained_img_size=TINY.img_size)
    checkpoint = read_checkpoint(path, **hints)
    assert checkpoint.kind == 'classifier'
    spec = checkpoint.encoder
    assert (spec.num_frames, spec.img_size) == (16, TINY.img_size)
    assert spec.learnable_positions and spec.mean_pooling
    _, clip, mask = draw(TINY)
    tokens, layer, norm = encode(tensors, clip)
    ours = build_model(checkpoint)
    with torch.no_grad():
        logits = ours.cls_head(ours.backbone(clip))
    expected = layer(norm(tokens.mean(1), 'norm'), 'head')
    assert relative(logits, expected) < 1e-5

    for name in ('head.weight', 'head.bias'):
        del tensors[name]
    path = as_file(tensors, tmp_path / 'trained.pth', wrap)
    ours = build_model(read_checkpoint(path, **hints))
    with torch.no_grad():
        found = ours(clip)
    assert relative(found, norm(tokens, 'norm')) < 1e-5


def test_settings_of_the_run_tell_frames_and_size(tmp_path):
    tensors = random_tensors(separate=False)
    args = argparse.Namespace(num_frames=16, input_size=TINY.img_size)
    path = as_file(tensors, tmp_path / 'tuned.pth', args=args)
    spec = read_checkpoint(path, **HINTS).encoder
    assert (spec.num_frames, spec.img_size) == (16, TINY.img_size)


def test_pretraining_leaves_its_decoder_behind(tmp_path):
    tensors = random_tensors(head=False)
    dims = TINY.decoder_dims
    extra = {
        'mask_token': (1, 1, dims),
        'decoder_embed.weight': (dims, TINY.dims),
        'decoder_pos_embed_spatial': (1, 16, dims),
        'decoder_blocks.0.attn.q.weight': (dims, dims),
        'decoder_blocks.0.attn.k.weight': (dims, dims),
        'decoder_blocks.0.attn.v.weight': (dims, dims),
        'decoder_norm.bias': (dims,),
        'decoder_pred.weight': (64 * 3, dims),
    }
    both = tensors | {n: torch.randn(shape) for n, shape in extra.items()}
    whole = read_checkpoint(as_file(both, tmp_path / 'a.pth'), **HINTS)
    alone = read_checkpoint(as_file(tensors, tmp_path / 'b.pth'), **HINTS)
    assert whole.kind == alone.kind == 'encoder'
    assert equal(whole.tensors, alone.tensors)
    both['surprise'] = torch.zeros(1)
    path = as_file(both, tmp_path / 'c.pth')
    with pytest.raises(CheckpointError, match=r'1 tensor \(surprise\)'):
        read_checkpoint(path, **HINTS)


@SEPARATE
def test_class_token_is_left_behind_on_request(separate, tmp_path):
    tensors = random_tensors(separate, cls=True)
    hints = HINTS | dict(trained_img_size=TINY.img_size)
    path = as_file(tensors, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='--drop-cls-token'):
        read_checkpoint(path, **hints)
    found = read_checkpoint(path, drop_cls_token=True, **hints)
    if not separate:
        tensors['pos_embed'] = tensors['pos_embed'][:, 1:]
    for name in ('cls_token', 'pos_embed_class'):
        tensors.pop(name, None)
    path = as_file(tensors, tmp_path / 'b.pth')
    assert equal(found.tensors, read_checkpoint(path, **hints).tensors)


@pytest.mark.parametrize('head', [True, False])
def test_there_and_back(head, tmp_path):
    tensors = random_tensors(separate=False, head=head)
    hints = HINTS | dict(trained_img_size=TINY.img_size)
    first = read_checkpoint(as_file(tensors, tmp_path / 'a.pth'), **hints)
    path = write_checkpoint(first, tmp_path / 'b.pth', 'mae_st')
    back = torch.load(path)['model']
    assert equal(back, without_key_bias(tensors))
    # Frames and size are in the file.
    for target in (path, tmp_path / 'b.safetensors'):
        again = read_checkpoint(
            write_checkpoint(first, target, 'mae_st', overwrite=True), **HINTS
        )
        assert equal(again.tensors, first.tensors)
        assert again.encoder == first.encoder


def test_encoder_of_a_classifier(tmp_path):
    path = as_file(random_tensors(), tmp_path / 'a.pth')
    encoder = read_checkpoint(path, encoder_only=True, **HINTS)
    assert encoder.kind == 'encoder' and encoder.encoder.mean_pooling
    assert not any('cls_head' in name for name in encoder.tensors)
    with pytest.raises(CheckpointError, match='write the whole classifier'):
        write_checkpoint(encoder, tmp_path / 'b.pth', 'mae_st')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(mean_pooling=False), 'does not average'),
        (dict(layer_scale=True), 'gamma_1'),
    ],
)
def test_what_cannot_be_written(changes, message, tmp_path):
    path = as_file(random_tensors(), tmp_path / 'a.pth')
    checkpoint = read_checkpoint(path, **HINTS)
    checkpoint = replace(
        checkpoint, encoder=replace(checkpoint.encoder, **changes)
    )
    with pytest.raises(CheckpointError, match=message):
        write_checkpoint(checkpoint, tmp_path / 'b.pth', 'mae_st')


def test_decoders_cannot_be_written(tiny_model, tmp_path):
    torch.save(dict(state_dict=tiny_model().state_dict()), tmp_path / 'a.pth')
    checkpoint = read_checkpoint(
        tmp_path / 'a.pth',
        num_heads=2,
        decoder_num_heads=2,
        trained_img_size=32,
    )
    with pytest.raises(CheckpointError, match='--encoder-only'):
        write_checkpoint(checkpoint, tmp_path / 'b.pth', 'mae_st')


# ---------------------------------------------------- beside official code


@SEPARATE
@pytest.mark.parametrize('size', SIZES)
@torch.no_grad()
def test_official_pretraining(separate, size, tmp_path, record_property):
    theirs = mae_st_network('models_mae', size, sep_pos_embed=separate)
    path = as_file(theirs.state_dict(), tmp_path / 'theirs.pth')
    checkpoint = read_checkpoint(path, **size.hints)
    ours = build_model(checkpoint)
    _, clip, _ = draw(size)
    torch.manual_seed(1)
    tokens, mask, restore = theirs.forward_encoder(clip, 0.75)
    # Theirs are in a random order, ours in that of the clip.
    order = restore.argsort(1)[:, : tokens.shape[1]].argsort(1)
    tokens = tokens.gather(1, order[..., None].expand_as(tokens))
    found = relative(ours(clip, split_mask(mask.bool())), tokens)
    record_property('tokens', found)
    assert found < 1e-5

    back = write_checkpoint(checkpoint, tmp_path / 'back.pth', 'mae_st')
    joined = mae_st_network('models_mae', size, sep_pos_embed=False)
    left = joined.load_state_dict(torch.load(back)['model'], strict=False)
    assert left.unexpected_keys == []
    assert all(
        name.startswith('decoder_') or name == 'mask_token'
        for name in left.missing_keys
    )
    torch.manual_seed(1)
    again, *_ = joined.forward_encoder(clip, 0.75)
    again = again.gather(1, order[..., None].expand_as(again))
    assert relative(again, tokens) < 1e-5


@SEPARATE
@pytest.mark.parametrize('size', SIZES)
@torch.no_grad()
def test_official_classifier(separate, size, tmp_path, record_property):
    """Ours averages one token more than theirs, and nothing else differs."""
    theirs = mae_st_network('models_vit', size, sep_pos_embed=separate)
    path = as_file(theirs.state_dict(), tmp_path / 'theirs.pth')
    checkpoint = read_checkpoint(path, **size.hints)
    ours = build_model(checkpoint)
    seen = {}
    theirs.blocks[-1].register_forward_hook(
        lambda block, inputs, output: seen.update(tokens=output)
    )
    _, clip, _ = draw(size)
    official = theirs(clip)
    logits = ours.cls_head(ours.backbone(clip))
    tokens = seen['tokens']
    assert torch.equal(
        theirs.head(theirs.norm(tokens[:, 1:].mean(1))), official
    )
    found = relative(logits, theirs.head(theirs.norm(tokens.mean(1))))
    record_property('logits', found)
    record_property('all tokens but one', relative(logits, official))
    assert found < 1e-5

    back = write_checkpoint(checkpoint, tmp_path / 'back.pth', 'mae_st')
    joined = mae_st_network('models_vit', size, sep_pos_embed=False)
    joined.load_state_dict(torch.load(back)['model'])
    assert relative(joined(clip), official) < 1e-5
    if not separate:
        expected = without_key_bias(theirs.state_dict())
        assert equal(torch.load(back)['model'], expected)
