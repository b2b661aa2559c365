# Copyright (c) MotionMAE contributors. All rights reserved.
"""Checkpoints of the encoder for label propagation."""

import pytest
import torch
from conftest import TINY_BACKBONE
from helpers.small_sequences import ORIGINAL, draw_sequence, pack
from mmaction.registry import MODELS
from mmengine.runner import load_checkpoint

from mmmotionmae.models import LabelPropagation
from mmmotionmae.utils.errors import CheckpointError


def save(model, path, **changes):
    state_dict = {**model.state_dict(), **changes}
    torch.save(
        dict(
            state_dict={k: v for k, v in state_dict.items() if v is not None}
        ),
        path,
    )
    return str(path)


def randomize(model):
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def build_recognizer(**backbone):
    return MODELS.build(
        dict(
            type='Recognizer3D',
            backbone=TINY_BACKBONE
            | dict(type='FusedVisionTransformer')
            | backbone,
            cls_head=dict(
                type='TimeSformerHead', num_classes=5, in_channels=32
            ),
        )
    )


def assert_loaded(model, source):
    own, given = model.backbone.state_dict(), source.backbone.state_dict()
    assert list(own) == list(given)
    for name, tensor in own.items():
        assert torch.equal(tensor, given[name])


def test_checkpoint_of_pre_training(tiny_model, tmp_path):
    source = randomize(tiny_model())
    model = LabelPropagation(backbone=TINY_BACKBONE)
    load_checkpoint(model, save(source, tmp_path / 'epoch_1.pth'))
    assert_loaded(model, source)
    # Another number of frames at a time, and other sizes, are not its matter.
    video = torch.randint(256, (2, 3, 48, 80), dtype=torch.uint8)
    frames, masks = draw_sequence(2)
    _, sample = pack(frames, masks[:1])
    model.eval().predict([video], [sample])
    assert sample.pred_masks.shape == (2, *ORIGINAL)


@pytest.mark.parametrize('pooling', [True, False])
def test_checkpoint_of_fine_tuning(pooling, tmp_path):
    source = randomize(build_recognizer(use_mean_pooling=pooling))
    model = LabelPropagation(
        backbone=TINY_BACKBONE
        | dict(type='VisionTransformer', use_mean_pooling=pooling)
    )
    load_checkpoint(model, save(source, tmp_path / 'epoch_1.pth'))
    assert_loaded(model, source)


def test_own_checkpoint(tmp_path):
    source = randomize(LabelPropagation(backbone=TINY_BACKBONE))
    model = LabelPropagation(backbone=TINY_BACKBONE)
    load_checkpoint(model, save(source, tmp_path / 'own.pth'), strict=True)
    assert_loaded(model, source)


def test_checkpoint_of_an_image_backbone(tmp_path):
    source = randomize(
        LabelPropagation(backbone=dict(type='ResNet', depth=18))
    )
    model = LabelPropagation(backbone=dict(type='ResNet', depth=18))
    load_checkpoint(model, save(source, tmp_path / 'resnet.pth'))
    assert_loaded(model, source)


def test_raw_pixels_need_nothing_of_a_checkpoint(tiny_model, tmp_path):
    model = LabelPropagation(backbone=dict(type='RawPixels'))
    load_checkpoint(model, save(tiny_model(), tmp_path / 'epoch_1.pth'))


def test_checkpoint_that_lacks_a_tensor(tiny_model, tmp_path):
    name = 'backbone.blocks.1.norm2.bias'
    path = save(tiny_model(), tmp_path / 'epoch_1.pth', **{name: None})
    model = LabelPropagation(backbone=TINY_BACKBONE)
    count = len(model.backbone.state_dict())
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(model, path)
    message = str(error.value)
    assert f'lacks 1 of {count} tensors ({name})' in message
    assert name in message
    assert 'It looks like MMAction2 (pretraining).' in message


def test_checkpoint_with_other_names(tmp_path):
    source = LabelPropagation(backbone=TINY_BACKBONE)
    state_dict = {
        f'encoder.{name}': tensor
        for name, tensor in source.backbone.state_dict().items()
    }
    torch.save(dict(state_dict=state_dict), tmp_path / 'other.pth')
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(source, str(tmp_path / 'other.pth'))
    count = len(state_dict)
    # The positions are a table, and need not be there.
    assert f'lacks {count - 1} of {count} tensors' in str(error.value)
    assert 'backbone.' in str(error.value)
    assert 'It holds encoder.' in str(error.value)


@pytest.mark.parametrize(
    'change, name, advice',
    [
        (dict(embed_dims=48), 'backbone.pos_embed', 'embed_dims, depth'),
        (dict(num_frames=4), 'backbone.pos_embed', '--num-frames'),
        (dict(img_size=48), 'backbone.pos_embed', '--img-size'),
        (
            dict(tubelet_size=4, num_frames=16),
            'patch_embed.projection.weight',
            '--tubelet-size',
        ),
    ],
)
def test_checkpoint_of_another_shape(
    change, name, advice, tiny_model, tmp_path
):
    path = save(tiny_model(), tmp_path / 'epoch_1.pth')
    model = LabelPropagation(backbone=TINY_BACKBONE | change)
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(model, path)
    message = str(error.value)
    assert name in message
    assert 'give model.backbone the' in message
    assert advice in message
    assert 'matter of the pipeline' in message
    # Nothing is loaded by half.
    for key, tensor in model.backbone.state_dict().items():
        assert torch.equal(tensor, before[key])


def test_checkpoint_with_mean_pooling_for_a_model_without(tmp_path):
    path = save(build_recognizer(), tmp_path / 'epoch_1.pth')
    model = LabelPropagation(backbone=TINY_BACKBONE)
    with pytest.raises(
        CheckpointError, match='model.backbone.use_mean_pooling=True'
    ):
        load_checkpoint(model, path)
