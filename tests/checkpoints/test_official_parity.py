# Copyright (c) MotionMAE contributors. All rights reserved.
"""Official VideoMAE and VideoMAE V2 beside what is read of their files."""

import shutil
from dataclasses import replace

import pytest
import torch
from helpers.foreign_networks import (
    SIZES,
    TINY,
    draw,
    official_classifier,
    official_loss,
    official_pretraining,
    our_loss,
    our_predictions,
    relative,
)

from mmmotionmae.checkpoints import (
    build_model,
    read_checkpoint,
    write_checkpoint,
)
from mmmotionmae.models.utils.tubelet import split_mask
from mmmotionmae.utils.errors import CheckpointError

VERSIONS = pytest.mark.parametrize('version', ['v1', 'v2'])


@pytest.fixture(autouse=True)
def _leave_nothing(tmp_path):
    """Checkpoints of ViT-L are large."""
    yield
    shutil.rmtree(tmp_path)


def as_file(model, path, **beside):
    """What the official scripts write."""
    torch.save(dict(model=model.state_dict(), **beside), path)
    return path


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


@VERSIONS
@pytest.mark.parametrize('size', SIZES)
@torch.no_grad()
def test_pretraining(version, size, tmp_path, monkeypatch, record_property):
    theirs = official_pretraining(version, size)
    path = as_file(theirs, tmp_path / 'checkpoint.pth', epoch=799)
    checkpoint = read_checkpoint(path, **size.hints)
    ours = build_model(checkpoint)
    frames, clip, mask = draw(size)

    found = dict(
        tokens=relative(
            ours.backbone(clip, split_mask(mask)), theirs.encoder(clip, mask)
        ),
        predictions=relative(
            our_predictions(ours, clip, mask), theirs(clip, mask)
        ),
    )
    loss = official_loss(version, theirs, clip, mask, size, True, monkeypatch)
    found['loss'] = abs(our_loss(ours, frames, mask) / loss - 1)
    for name, value in found.items():
        record_property(name, value)
    assert max(found.values()) < 1e-5, found

    back = write_checkpoint(checkpoint, tmp_path / 'back.pth', 'videomae')
    assert equal(torch.load(back)['model'], theirs.state_dict())


@VERSIONS
@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize(
    ('mean_pooling', 'learnable'),
    [(True, False), (True, True), (False, False)],
)
@torch.no_grad()
def test_fine_tuning(
    version, size, mean_pooling, learnable, tmp_path, record_property
):
    theirs = official_classifier(
        version,
        size,
        use_mean_pooling=mean_pooling,
        use_learnable_pos_emb=learnable,
    )
    path = as_file(theirs, tmp_path / 'checkpoint.pth')
    checkpoint = read_checkpoint(path, **size.hints)
    assert checkpoint.encoder.learnable_positions == learnable
    ours = build_model(checkpoint)
    _, clip, _ = draw(size)
    logits = ours.cls_head(ours.backbone(clip))
    found = relative(logits, theirs(clip))
    record_property('logits', found)
    assert found < 1e-5

    back = write_checkpoint(checkpoint, tmp_path / 'back.pth', 'videomae')
    assert equal(torch.load(back)['model'], theirs.state_dict())


@VERSIONS
@torch.no_grad()
def test_scaled_residual_branches(version, tmp_path):
    theirs = official_classifier(version, TINY, init_values=0.1)
    path = as_file(theirs, tmp_path / 'checkpoint.pth')
    checkpoint = read_checkpoint(path, **TINY.hints)
    ours = build_model(checkpoint)
    _, clip, _ = draw(TINY)
    assert relative(ours.cls_head(ours.backbone(clip)), theirs(clip)) < 1e-5
    back = write_checkpoint(checkpoint, tmp_path / 'back.pth', 'videomae')
    assert equal(torch.load(back)['model'], theirs.state_dict())


@torch.no_grad()
def test_loss_of_plain_pixels_is_theirs_too(tmp_path, monkeypatch):
    theirs = official_pretraining('v1', TINY)
    path = as_file(theirs, tmp_path / 'checkpoint.pth')
    checkpoint = read_checkpoint(path, **TINY.hints)
    targets = dict(pixel=dict(type='PixelTarget', norm='none'))
    checkpoint = replace(
        checkpoint, decoder=replace(checkpoint.decoder, targets=targets)
    )
    frames, clip, mask = draw(TINY)
    loss = official_loss('v1', theirs, clip, mask, TINY, False, monkeypatch)
    ours = build_model(checkpoint)
    assert our_loss(ours, frames, mask) == pytest.approx(loss, rel=1e-5)


@VERSIONS
def test_learned_positions_of_pretraining_are_refused(version, tmp_path):
    """They are one more than tokens: it cannot run there either."""
    theirs = official_pretraining(version, TINY, use_learnable_pos_emb=True)
    path = as_file(theirs, tmp_path / 'checkpoint.pth')
    _, clip, mask = draw(TINY)
    with pytest.raises(RuntimeError, match='must match the size'):
        theirs(clip, mask)
    with pytest.raises(CheckpointError, match='one more than') as error:
        read_checkpoint(path, **TINY.hints)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('build', [official_pretraining, official_classifier])
def test_cosine_attention_is_refused_by_name(build, tmp_path):
    path = as_file(build('v2', TINY, cos_attn=True), tmp_path / 'v2.pth')
    with pytest.raises(CheckpointError, match=r'cosine attention .*attn\.sca'):
        read_checkpoint(path, **TINY.hints)


@torch.no_grad()
def test_patches_and_mlp_of_vit_g(tmp_path):
    """14 pixels wide, and 48/11 as wide as the tokens."""
    size = replace(TINY, dims=44, patch_size=14, img_size=56)
    theirs = official_pretraining('v2', size, mlp_ratio=48 / 11)
    path = as_file(theirs, tmp_path / 'g.pth')
    checkpoint = read_checkpoint(path, **size.hints)
    assert checkpoint.encoder.mlp_ratio == 192 / 44
    ours = build_model(checkpoint)
    _, clip, mask = draw(size)
    pred = our_predictions(ours, clip, mask)
    assert relative(pred, theirs(clip, mask)) < 1e-5
    back = write_checkpoint(checkpoint, tmp_path / 'back.pth', 'videomae')
    assert equal(torch.load(back)['model'], theirs.state_dict())
