# Copyright (c) MotionMAE contributors. All rights reserved.
"""`transformers` beside what is read of its folders, and written for it."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from einops import rearrange
from helpers.foreign_networks import (
    NUM_CLASSES,
    SIZES,
    TINY,
    draw,
    our_loss,
    our_predictions,
    randomise,
    relative,
    transformers_network,
)
from safetensors.torch import load_file, save_file

from mmmotionmae.checkpoints import (
    build_model,
    read_checkpoint,
    resize_checkpoint,
    write_checkpoint,
)
from mmmotionmae.models.utils.tubelet import split_mask
from mmmotionmae.utils.errors import CheckpointError

transformers = pytest.importorskip('transformers')

PRETRAINING = 'VideoMAEForPreTraining'
CLASSIFIER = 'VideoMAEForVideoClassification'
ENCODER = 'VideoMAEModel'
NETWORKS = [
    (PRETRAINING, False),
    (CLASSIFIER, True),
    (CLASSIFIER, False),
    (ENCODER, False),
]
# What a config says about a network.
SHARED = {
    *('image_size', 'patch_size', 'num_channels', 'num_frames'),
    *('tubelet_size', 'hidden_size', 'num_hidden_layers', 'hidden_act'),
    *('num_attention_heads', 'intermediate_size', 'layer_norm_eps'),
    'use_mean_pooling',
}
DECODER = {
    *('decoder_hidden_size', 'decoder_num_hidden_layers', 'norm_pix_loss'),
    *('decoder_num_attention_heads', 'decoder_intermediate_size'),
}
OLD, NEW = ('q_bias', 'v_bias'), ('query.bias', 'value.bias')


def save(model, folder):
    model.save_pretrained(folder)
    return folder


def build(name, size=TINY, **kwargs):
    """With the epsilon that the official code has in all norms."""
    model = transformers_network(name, size, **kwargs)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6
    return model


def missing(info):
    """Without what only 5.6 to 5.17 have, 0 where it is missing."""
    return [n for n in info['missing_keys'] if not n.endswith('.key.bias')]


def rename_biases(folder, names):
    """Give the biases the names of older or newer versions, or both."""
    file = folder / 'model.safetensors'
    tensors = {}
    for name, tensor in load_file(file).items():
        for pair in zip(OLD, NEW, strict=True):
            if name.endswith(pair):
                stem = name.removesuffix(pair[0]).removesuffix(pair[1])
                for new in set(pair) & {*names}:
                    tensors[stem + new] = tensor.clone()
                break
        else:
            tensors[name] = tensor
    # Into another file: what was read may be a view of this one.
    new = file.with_suffix('.new')
    save_file(tensors, new, {'format': 'pt'})
    new.replace(file)


@pytest.fixture(autouse=True)
def _leave_nothing(tmp_path):
    """Checkpoints of ViT-L are large."""
    yield
    shutil.rmtree(tmp_path)


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


# ------------------------------------------------------------------ parity


@pytest.mark.parametrize('size', SIZES)
@torch.no_grad()
def test_pretraining(size, tmp_path, record_property):
    theirs = build(PRETRAINING, size)
    checkpoint = read_checkpoint(save(theirs, tmp_path / 'theirs'))
    ours = build_model(checkpoint)
    frames, clip, mask = draw(size)
    values = rearrange(clip, 'b c t h w -> b t c h w')
    output = theirs(values, bool_masked_pos=mask)
    tokens = theirs.videomae(values, bool_masked_pos=mask).last_hidden_state
    predictions = our_predictions(ours, clip, mask)
    found = dict(
        tokens=relative(ours.backbone(clip, split_mask(mask)), tokens),
        predictions=relative(predictions, output.logits),
        loss=abs(our_loss(ours, frames, mask) / output.loss.item() - 1),
    )
    assert max(found.values()) < 1e-5, found

    theirs.decoder.norm.eps = 1e-5  # as they have it
    found['left as is'] = relative(
        predictions, theirs(values, bool_masked_pos=mask).logits
    )
    for name, value in found.items():
        record_property(name, value)
    assert found['left as is'] < 1e-4


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('mean_pooling', [True, False])
@torch.no_grad()
def test_classifier(size, mean_pooling, tmp_path, record_property):
    theirs = build(CLASSIFIER, size, use_mean_pooling=mean_pooling)
    ours = build_model(read_checkpoint(save(theirs, tmp_path / 'theirs')))
    _, clip, _ = draw(size)
    values = rearrange(clip, 'b c t h w -> b t c h w')
    logits = ours.cls_head(ours.backbone(clip))
    found = dict(logits=relative(logits, theirs(values).logits))
    assert found['logits'] < 1e-5, found
    if mean_pooling:
        theirs.fc_norm.eps = 1e-5  # as they have it
        found['left as is'] = relative(logits, theirs(values).logits)
        assert found['left as is'] < 1e-3
    for name, value in found.items():
        record_property(name, value)


@pytest.mark.parametrize('size', SIZES)
@torch.no_grad()
def test_encoder(size, tmp_path, record_property):
    theirs = build(ENCODER, size)
    ours = build_model(read_checkpoint(save(theirs, tmp_path / 'theirs')))
    _, clip, mask = draw(size)
    values = rearrange(clip, 'b c t h w -> b t c h w')
    for hidden in (mask, None):
        split = None if hidden is None else split_mask(hidden)
        tokens = theirs(values, bool_masked_pos=hidden).last_hidden_state
        found = relative(ours(clip, split), tokens)
        record_property('tokens', found)
        assert found < 1e-5


@torch.no_grad()
def test_loss_of_plain_pixels(tmp_path):
    theirs = build(PRETRAINING, norm_pix_loss=False)
    checkpoint = read_checkpoint(save(theirs, tmp_path / 'theirs'))
    assert checkpoint.decoder.targets['pixel']['norm'] == 'none'
    frames, clip, mask = draw(TINY)
    values = rearrange(clip, 'b c t h w -> b t c h w')
    loss = theirs(values, bool_masked_pos=mask).loss.item()
    found = our_loss(build_model(checkpoint), frames, mask)
    assert found == pytest.approx(loss, rel=1e-5)
    write_checkpoint(checkpoint, tmp_path / 'back', 'huggingface')
    back = transformers.VideoMAEForPreTraining.from_pretrained(
        tmp_path / 'back'
    )
    assert not back.config.norm_pix_loss


# ----------------------------------------------------------- there and back


@pytest.mark.parametrize(('name', 'mean_pooling'), NETWORKS)
def test_written_folder_is_loaded_whole(name, mean_pooling, tmp_path):
    theirs = transformers_network(name, TINY, use_mean_pooling=mean_pooling)
    checkpoint = read_checkpoint(save(theirs, tmp_path / 'theirs'))
    folder = write_checkpoint(checkpoint, tmp_path / 'ours', 'huggingface')
    again = read_checkpoint(folder)
    assert equal(again.tensors, checkpoint.tensors)
    assert again.encoder == checkpoint.encoder
    assert again.decoder == checkpoint.decoder

    kind = getattr(transformers, name)
    back, info = kind.from_pretrained(folder, output_loading_info=True)
    assert missing(info) == [] and not info['mismatched_keys']
    # Biases under the names of other versions.
    assert all('attention.attention' in n for n in info['unexpected_keys'])
    assert equal(back.state_dict(), theirs.state_dict())
    assert back.config.architectures == [name]
    keys = SHARED | (DECODER if name == PRETRAINING else set())
    keys |= {'num_labels'} if name == CLASSIFIER else set()
    for key in keys:
        assert getattr(back.config, key) == getattr(theirs.config, key), key

    encoder, info = transformers.VideoMAEModel.from_pretrained(
        folder, output_loading_info=True
    )
    assert missing(info) == []
    expected = getattr(theirs, 'videomae', theirs).state_dict()
    assert equal(encoder.state_dict(), expected)


def test_biases_are_written_under_both_names(tmp_path):
    """Versions that know only one of them load the folder, too."""
    theirs = transformers_network(PRETRAINING, TINY)
    checkpoint = read_checkpoint(save(theirs, tmp_path / 'theirs'))
    folder = write_checkpoint(checkpoint, tmp_path / 'ours', 'huggingface')
    tensors = load_file(folder / 'model.safetensors')
    for old, new in zip(OLD, NEW, strict=True):
        stems = [n.removesuffix(old) for n in tensors if n.endswith(old)]
        assert len(stems) == TINY.depth + TINY.decoder_depth
        for stem in stems:
            assert torch.equal(tensors[stem + old], tensors[stem + new])


def test_motionmae_encoder_goes_to_transformers(tiny_model, tmp_path):
    """What this package trains: its decoder stays here, its encoder goes."""
    model = randomise(tiny_model())
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'ours.pth')
    hints = dict(num_heads=2, decoder_num_heads=2, trained_img_size=32)
    whole = read_checkpoint(tmp_path / 'ours.pth', **hints)
    with pytest.raises(
        CheckpointError,
        match=r'predicts pixel and motion.*\(--encoder-only\)\.',
    ):
        write_checkpoint(whole, tmp_path / 'whole', 'huggingface')
    encoder = read_checkpoint(
        tmp_path / 'ours.pth', encoder_only=True, **hints
    )
    write_checkpoint(encoder, tmp_path / 'encoder', 'huggingface')
    theirs = transformers.VideoMAEModel.from_pretrained(tmp_path / 'encoder')
    clip = torch.rand(2, 3, 8, 32, 32)
    with torch.no_grad():
        tokens = theirs(clip.transpose(1, 2)).last_hidden_state
        assert relative(model.backbone(clip), tokens) < 1e-5


def test_processor_and_classes(tmp_path):
    theirs = transformers_network(CLASSIFIER, TINY)
    checkpoint = read_checkpoint(save(theirs, tmp_path / 'theirs'))
    assert checkpoint.classes is None  # LABEL_0, ...
    classes = ('run', 'jump', 'sit', 'lie', 'fall')
    named = replace(checkpoint, classes=classes)
    folder = write_checkpoint(named, tmp_path / 'named', 'huggingface')
    back = getattr(transformers, CLASSIFIER).from_pretrained(folder)
    assert back.config.id2label == dict(enumerate(classes))
    assert back.config.num_labels == NUM_CLASSES
    again = read_checkpoint(folder)
    assert again.classes == classes
    assert (again.mean, again.std) == (checkpoint.mean, checkpoint.std)

    processor = transformers.VideoMAEImageProcessor.from_pretrained(folder)
    frames, clip, _ = draw(TINY)
    video = [frame.numpy() for frame in frames[0].permute(1, 2, 3, 0)]
    values = processor(video, return_tensors='pt').pixel_values
    assert relative(values[0].transpose(0, 1), clip[0]) < 1e-5


def test_other_normalisation_is_kept(tmp_path):
    theirs = transformers_network(ENCODER, TINY)
    checkpoint = read_checkpoint(save(theirs, tmp_path / 'theirs'))
    halves = replace(checkpoint, mean=(127.5,) * 3, std=(51.0,) * 3)
    folder = write_checkpoint(halves, tmp_path / 'ours', 'huggingface')
    written = json.loads((folder / 'preprocessor_config.json').read_text())
    assert written['image_mean'] == [0.5] * 3
    assert written['image_std'] == [0.2] * 3
    again = read_checkpoint(folder)
    assert (again.mean, again.std) == (halves.mean, halves.std)


# ------------------------------------------------------------------ biases


@pytest.mark.parametrize(('name', 'mean_pooling'), NETWORKS)
def test_biases_are_read_under_all_their_names(name, mean_pooling, tmp_path):
    theirs = transformers_network(name, TINY, use_mean_pooling=mean_pooling)
    folder = save(theirs, tmp_path / 'theirs')
    read = []
    for names in (OLD, NEW, OLD + NEW):
        rename_biases(folder, names)
        read.append(read_checkpoint(folder).tensors)
    assert equal(read[0], read[1]) and equal(read[0], read[2])
    old = {n.replace('query.bias', 'q_bias'): t for n, t in their(theirs)}
    for i in range(TINY.depth):
        bias = read[0][f'backbone.blocks.{i}.attn.q_bias']
        assert bias.abs().min() > 0
        (same,) = (
            tensor
            for name, tensor in old.items()
            if name.endswith(f'encoder.layer.{i}.attention.attention.q_bias')
        )
        assert torch.equal(bias, same)


def their(model):
    return model.state_dict().items()


@torch.no_grad()
def test_lost_biases_would_change_the_features(tmp_path):
    theirs = build(ENCODER)
    folder = save(theirs, tmp_path / 'theirs')
    model = build_model(read_checkpoint(folder))
    _, clip, mask = draw(TINY)
    tokens = model(clip, split_mask(mask))
    for bias in ('q_bias', 'v_bias'):
        getattr(model.blocks[0].attn, bias).zero_()
        assert relative(model(clip, split_mask(mask)), tokens) > 1e-3
        tokens = model(clip, split_mask(mask))


def test_biases_that_disagree_are_refused(tmp_path):
    folder = save(transformers_network(ENCODER, TINY), tmp_path / 'theirs')
    rename_biases(folder, OLD + NEW)
    tensors = load_file(folder / 'model.safetensors')
    tensors['encoder.layer.1.attention.attention.query.bias'] += 1
    save_file(tensors, folder / 'model.safetensors')
    with pytest.raises(CheckpointError, match=r'layer\.1\..*two names of one'):
        read_checkpoint(folder)


def test_biases_that_are_missing_are_missed(tmp_path):
    folder = save(transformers_network(ENCODER, TINY), tmp_path / 'theirs')
    rename_biases(folder, ())
    with pytest.raises(CheckpointError, match=r'lacks 4 tensors.*q_bias'):
        read_checkpoint(folder)


def test_no_biases(tmp_path):
    theirs = transformers_network(ENCODER, TINY, qkv_bias=False)
    checkpoint = read_checkpoint(save(theirs, tmp_path / 'theirs'))
    assert not checkpoint.encoder.qkv_bias
    folder = write_checkpoint(checkpoint, tmp_path / 'ours', 'huggingface')
    back, info = transformers.VideoMAEModel.from_pretrained(
        folder, output_loading_info=True
    )
    assert not info['missing_keys'] and not info['unexpected_keys']
    assert equal(back.state_dict(), theirs.state_dict())
    theirs = transformers_network(PRETRAINING, TINY, qkv_bias=False)
    save(theirs, tmp_path / 'whole')
    with pytest.raises(CheckpointError, match='decoder.*--encoder-only'):
        read_checkpoint(tmp_path / 'whole')
    encoder = read_checkpoint(tmp_path / 'whole', encoder_only=True)
    assert encoder.kind == 'encoder' and not encoder.encoder.qkv_bias


def test_bias_of_the_keys_changes_nothing(tmp_path):
    """Some versions have one; it is left out."""
    theirs = build(ENCODER)
    folder = save(theirs, tmp_path / 'theirs')
    tensors = load_file(folder / 'model.safetensors')
    _, clip, mask = draw(TINY)
    values = rearrange(clip, 'b c t h w -> b t c h w')
    for i, layer in enumerate(theirs.encoder.layer):
        key = layer.attention.attention.key
        key.bias = torch.nn.Parameter(torch.randn(TINY.dims))
        name = f'encoder.layer.{i}.attention.attention.key.bias'
        tensors[name] = key.bias.data
    save_file(tensors, folder / 'model.safetensors')
    with torch.no_grad():
        tokens = theirs(values, bool_masked_pos=mask).last_hidden_state
        found = build_model(read_checkpoint(folder))(clip, split_mask(mask))
    assert relative(found, tokens) < 1e-5


# ------------------------------------------------------- parts and settings


def test_weights_alone(tmp_path):
    """Without config.json, the user says what the tensors do not tell."""
    theirs = transformers_network(PRETRAINING, TINY)
    folder = save(theirs, tmp_path / 'theirs')
    whole = read_checkpoint(folder)
    alone = (folder / 'model.safetensors').rename(tmp_path / 'a.safetensors')
    read = read_checkpoint(alone, **TINY.hints)
    assert equal(read.tensors, whole.tensors)
    assert read.decoder == whole.decoder
    with pytest.raises(CheckpointError, match='--num-heads'):
        read_checkpoint(alone)


def test_config_with_defaults_left_out(tmp_path):
    size = replace(TINY, dims=48, heads=12)  # as many heads as ViT-B
    folder = save(transformers_network(ENCODER, size), tmp_path / 'theirs')
    config = json.loads((folder / 'config.json').read_text())
    for name in ('num_attention_heads', 'num_frames', 'layer_norm_eps'):
        del config[name]
    (folder / 'config.json').write_text(json.dumps(config))
    spec = read_checkpoint(folder).encoder
    defaults = transformers.VideoMAEConfig()
    assert spec.num_heads == defaults.num_attention_heads
    assert spec.num_frames == defaults.num_frames
    assert spec.norm_eps == defaults.layer_norm_eps
    assert spec.img_size == TINY.img_size


@pytest.mark.parametrize('name', [PRETRAINING, CLASSIFIER])
def test_encoder_only(name, tmp_path):
    folder = save(transformers_network(name, TINY), tmp_path / 'theirs')
    whole = read_checkpoint(folder)
    part = read_checkpoint(folder, encoder_only=True)
    assert part.kind == 'encoder' and part.decoder is None
    assert equal(
        part.tensors,
        {n: t for n, t in whole.tensors.items() if n.startswith('backbone.')},
    )


def test_epsilon_is_that_of_the_config(tmp_path):
    theirs = transformers_network(ENCODER, TINY, layer_norm_eps=0.1)
    ours = build_model(read_checkpoint(save(theirs, tmp_path / 'theirs')))
    _, clip, _ = draw(TINY)
    with torch.no_grad():
        tokens = theirs(clip.transpose(1, 2)).last_hidden_state
        assert relative(ours(clip), tokens) < 1e-5


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(use_mean_pooling=True), 'no norm after its last block'),
        (dict(hidden_act='relu'), "hidden_act 'relu'"),
        (dict(image_size=[32, 16]), '32 x 16'),
    ],
)
def test_what_cannot_be_read(settings, message, tmp_path):
    theirs = transformers_network(PRETRAINING, TINY, **settings)
    save(theirs, tmp_path / 'theirs')
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / 'theirs')


def test_tensors_left_over_and_missing_are_named(tmp_path):
    folder = save(transformers_network(ENCODER, TINY), tmp_path / 'theirs')
    tensors = load_file(folder / 'model.safetensors')
    tensors['adapter.weight'] = tensors.pop('layernorm.bias')
    save_file(tensors, folder / 'model.safetensors')
    with pytest.raises(
        CheckpointError, match=r'lacks.*layernorm\.bias.*adapter\.weight'
    ):
        read_checkpoint(folder)


def other_videos(tmp_path):
    theirs = transformers_network(PRETRAINING, TINY)
    checkpoint = read_checkpoint(save(theirs, tmp_path / 'theirs'))
    return checkpoint, tmp_path / 'ours'


def test_other_positions_cannot_be_written(tmp_path):
    checkpoint, folder = other_videos(tmp_path)
    longer = resize_checkpoint(checkpoint, num_frames=32)
    with pytest.raises(CheckpointError, match='learned or interpolated'):
        write_checkpoint(longer, folder, 'huggingface')
    assert not folder.exists()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(sharing='independent'), "sharing='independent'"),
        (dict(attention='cross'), "attention='cross'"),
        (
            dict(targets=dict(pixel=dict(type='PixelTarget', norm='clip'))),
            "norm 'clip'",
        ),
        (
            dict(targets=dict(motion=dict(type='FrameDifferenceTarget'))),
            'predicts motion',
        ),
    ],
)
def test_other_decoders_cannot_be_written(changes, message, tmp_path):
    checkpoint, folder = other_videos(tmp_path)
    other = replace(checkpoint, decoder=replace(checkpoint.decoder, **changes))
    with pytest.raises(CheckpointError, match=f'{message}.*--encoder-only'):
        write_checkpoint(other, folder, 'huggingface')


@pytest.mark.parametrize(
    ('kind', 'changes', 'message'),
    [
        ('encoder', dict(layer_scale=True), 'gamma_1'),
        ('encoder', dict(mean_pooling=True), 'write the whole classifier'),
        ('pretraining', dict(qkv_bias=False), 'only its decoder has biases'),
    ],
)
def test_other_encoders_cannot_be_written(kind, changes, message, tmp_path):
    checkpoint, folder = other_videos(tmp_path)
    if kind == 'encoder':
        checkpoint = replace(checkpoint, kind=kind, decoder=None)
    other = replace(checkpoint, encoder=replace(checkpoint.encoder, **changes))
    with pytest.raises(CheckpointError, match=message):
        write_checkpoint(other, folder, 'huggingface')
