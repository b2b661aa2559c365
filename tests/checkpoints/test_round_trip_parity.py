# Copyright (c) MotionMAE contributors. All rights reserved.
"""From format to format and back: every tensor bit for bit."""

from dataclasses import replace

import pytest
import torch
from helpers.foreign_networks import (
    TINY,
    official_classifier,
    official_pretraining,
    transformers_network,
)
from safetensors.torch import load_file

from mmmotionmae.checkpoints import read_checkpoint, write_checkpoint
from mmmotionmae.utils.errors import CheckpointError

NETWORKS = [
    ('VideoMAEForPreTraining', False),
    ('VideoMAEForVideoClassification', True),
    ('VideoMAEForVideoClassification', False),
    ('VideoMAEModel', False),
]
NAMES = dict(
    mmaction='ours.pth', videomae='official.safetensors', huggingface='folder'
)


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def pass_on(path, formats, folder):
    """Write and read in turn; every reading must find the same."""
    first = checkpoint = read_checkpoint(path, **TINY.hints)
    for number, form in enumerate(formats):
        path = folder / f'{number}-{NAMES[form]}'
        write_checkpoint(checkpoint, path, form)
        checkpoint = read_checkpoint(path, **TINY.hints)
        assert checkpoint.format == form
        assert checkpoint.kind == first.kind
        assert equal(checkpoint.tensors, first.tensors)
        assert checkpoint.encoder == first.encoder
        assert checkpoint.decoder == first.decoder
    return path


@pytest.mark.parametrize(('name', 'mean_pooling'), NETWORKS)
def test_transformers(name, mean_pooling, tmp_path):
    theirs = transformers_network(name, TINY, use_mean_pooling=mean_pooling)
    theirs.save_pretrained(tmp_path / 'theirs')
    path = pass_on(
        tmp_path / 'theirs',
        ['mmaction', 'videomae', 'huggingface', 'videomae', 'huggingface'],
        tmp_path,
    )
    back = type(theirs).from_pretrained(path)
    assert equal(back.state_dict(), theirs.state_dict())


@pytest.mark.parametrize('version', ['v1', 'v2'])
@pytest.mark.parametrize(
    ('build', 'settings'),
    [
        (official_pretraining, {}),
        (official_classifier, {}),
        (official_classifier, dict(use_mean_pooling=False)),
    ],
)
def test_official(version, build, settings, tmp_path):
    theirs = build(version, TINY, **settings)
    path = tmp_path / 'theirs.pth'
    torch.save(dict(model=theirs.state_dict()), path)
    path = pass_on(
        path, ['huggingface', 'mmaction', 'huggingface', 'videomae'], tmp_path
    )
    assert equal(load_file(path), theirs.state_dict())


def test_values_of_a_token_change_places(tmp_path):
    """The last layer: one row for each (frame, row, column, channel)."""
    theirs = transformers_network('VideoMAEForPreTraining', TINY)
    theirs.save_pretrained(tmp_path / 'theirs')
    ours = read_checkpoint(tmp_path / 'theirs')
    write_checkpoint(ours, tmp_path / 'official.pth', 'videomae')
    official = torch.load(tmp_path / 'official.pth')['model']
    for part in ('weight', 'bias'):
        rows = theirs.state_dict()[f'decoder.head.{part}']
        # `transformers` keeps the official order.
        assert torch.equal(official[f'decoder.head.{part}'], rows)
        found = ours.tensors[f'head.predictors.pixel.{part}']
        positions = TINY.tubelet_size * TINY.patch_size**2
        for position in range(positions):
            for channel in range(3):
                assert torch.equal(
                    found[channel * positions + position],
                    rows[position * 3 + channel],
                )


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('norm', ['tubelet', 'none'])
def test_files_tell_clip_and_norm(suffix, norm, tmp_path):
    theirs = transformers_network(
        'VideoMAEForPreTraining', TINY, norm_pix_loss=norm == 'tubelet'
    )
    theirs.save_pretrained(tmp_path / 'theirs')
    ours = read_checkpoint(tmp_path / 'theirs')
    path = write_checkpoint(ours, tmp_path / f'a{suffix}', 'videomae')
    back = read_checkpoint(
        path, num_heads=TINY.heads, decoder_num_heads=TINY.decoder_heads
    )
    assert back.encoder == ours.encoder
    assert back.decoder == ours.decoder
    assert back.decoder.targets['pixel']['norm'] == norm


@pytest.mark.parametrize('form', ['videomae', 'huggingface'])
@pytest.mark.parametrize(
    ('changes', 'message'),
    [(dict(norm='clip'), "the norm 'clip'"), (dict(pool=2), 'are pooled')],
)
def test_other_pixels_cannot_be_written(form, changes, message, tmp_path):
    theirs = transformers_network('VideoMAEForPreTraining', TINY)
    theirs.save_pretrained(tmp_path / 'theirs')
    ours = read_checkpoint(tmp_path / 'theirs')
    targets = dict(pixel=dict(type='PixelTarget', **changes))
    ours = replace(ours, decoder=replace(ours.decoder, targets=targets))
    path = tmp_path / NAMES[form]
    with pytest.raises(CheckpointError, match=message):
        write_checkpoint(ours, path, form)
    assert not path.exists()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_stays(dtype, tmp_path):
    theirs = transformers_network('VideoMAEModel', TINY).to(dtype)
    theirs.save_pretrained(tmp_path / 'theirs')
    path = pass_on(
        tmp_path / 'theirs', ['mmaction', 'videomae', 'huggingface'], tmp_path
    )
    expected = load_file(tmp_path / 'theirs' / 'model.safetensors')
    found = load_file(path / 'model.safetensors')
    for name, tensor in expected.items():
        if not name.endswith('.key.bias'):
            assert torch.equal(found[name], tensor), name
