# Copyright (c) MotionMAE contributors. All rights reserved.
"""Nothing is loaded by half, whatever the way."""

import copy
import math
import re
import uuid

import pytest
import torch
from conftest import TINY_BACKBONE
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.runner import Runner, load_checkpoint
from safetensors.torch import save_file

from mmmotionmae.apis import load_pretrained
from mmmotionmae.checkpoints import (
    load_strictly,
    read_checkpoint,
    write_checkpoint,
)
from mmmotionmae.checkpoints import strict as strict_loading
from mmmotionmae.utils.errors import CheckpointError

NUM_CLASSES = 5


def recognizer(num_classes=NUM_CLASSES, **backbone):
    backbone = TINY_BACKBONE | dict(type='VisionTransformer') | backbone
    return MODELS.build(
        dict(
            type='Recognizer3D',
            data_preprocessor=dict(
                type='ActionDataPreprocessor', format_shape='NCTHW'
            ),
            backbone=backbone,
            cls_head=dict(
                type='TimeSformerHead',
                num_classes=num_classes,
                in_channels=backbone['embed_dims'],
                average_clips='prob',
            ),
        )
    )


def randomize(model):
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def save(state_dict, path):
    torch.save(dict(state_dict=dict(state_dict)), path)
    return str(path)


def equal(state, other):
    return all(torch.equal(state[name], other[name]) for name in state)


@pytest.fixture
def logged(monkeypatch):
    lines = []
    monkeypatch.setattr(
        strict_loading, 'print_log', lambda text, **_: lines.append(text)
    )
    return lines


# ------------------------------------------------------- the ways to load


class OneClip(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        sample = ActionDataSample().set_gt_label(index)
        clip = torch.randint(256, (1, 3, 8, 32, 32), dtype=torch.uint8)
        return dict(inputs=clip, data_samples=sample)


def loader():
    return dict(
        batch_size=2,
        dataset=OneClip(),
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
    )


def make_runner(model, tmp_path, **kwargs):
    return Runner(
        model,
        str(tmp_path / 'run'),
        experiment_name=uuid.uuid4().hex,
        default_hooks=dict(checkpoint=None, logger=None),
        log_level='ERROR',
        default_scope='mmaction',
        **kwargs,
    )


def train_with_load_from(model, path, tmp_path, resume=False):
    make_runner(
        model,
        tmp_path,
        train_dataloader=loader(),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        # No step is taken: what is loaded can be looked at afterwards.
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
        load_from=path,
        resume=resume,
    ).train()


def resume_training(model, path, tmp_path):
    train_with_load_from(model, path, tmp_path, resume=True)


def test_with_load_from(model, path, tmp_path):
    make_runner(
        model,
        tmp_path,
        test_dataloader=loader(),
        test_cfg=dict(),
        test_evaluator=dict(type='AccMetric'),
        load_from=path,
    ).test()


test_with_load_from.__test__ = False


def call_load_checkpoint(model, path, tmp_path):
    load_checkpoint(model, path)


def use_init_cfg(model, path, tmp_path):
    model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint=path, prefix='backbone.'
    )
    model.backbone.init_weights()


FOR_TRAINING = [train_with_load_from, use_init_cfg]
FOR_ALL = [test_with_load_from, call_load_checkpoint, resume_training]


# ---------------------------------------------------------------- refused


def rename(state, pattern, replacement):
    return {re.sub(pattern, replacement, k): v for k, v in state.items()}


def drop(state, *names):
    return {k: v for k, v in state.items() if k not in names}


def poison(state, name, value):
    """The state with one value of a tensor replaced."""
    tensor = state[name].clone()
    tensor.view(-1)[-1] = value
    return state | {name: tensor}


def as_official(state):
    """The names of an official VideoMAE file."""
    state = {k: v for k, v in state.items() if k.startswith('backbone.')}
    for ours, theirs in (
        ('backbone', 'encoder'),
        ('patch_embed.projection', 'patch_embed.proj'),
        ('mlp.layers.0.0', 'mlp.fc1'),
        ('mlp.layers.1', 'mlp.fc2'),
    ):
        state = rename(state, re.escape(ours), theirs)
    return state


BAD = {
    'official': (
        as_official,
        r'looks like official VideoMAE.*convert it.*convert_checkpoint\.py',
    ),
    'renamed': (
        lambda s: rename(s, r'^backbone\.', 'student.backbone.'),
        r'It holds .*student\.',
    ),
    'lacks_a_tensor': (
        lambda s: drop(s, 'backbone.blocks.1.attn.v_bias'),
        r'lacks 1 of \d+ tensors \(backbone\.blocks\.1\.attn\.v_bias\)',
    ),
    'lacks_the_norm': (
        lambda s: {k: v for k, v in s.items() if 'norm.' not in k},
        'lacks.*backbone.fc_norm.weight',
    ),
    'lacks_half_a_head': (
        lambda s: (
            drop(s, 'cls_head.fc_cls.weight')
            | {'cls_head.fc_cls.bias': torch.zeros(NUM_CLASSES)}
        ),
        r'lacks.*cls_head\.fc_cls\.weight',
    ),
    'deeper': (
        lambda s: s | rename(s, r'blocks\.1\.', 'blocks.2.'),
        r'also holds \d+ tensors \(backbone\.blocks\.2\.',
    ),
    'unknown_part': (
        lambda s: s | {'teacher.weight': torch.zeros(3)},
        r'also holds 1 tensor \(teacher\.weight\)',
    ),
    'wider': (
        lambda s: s | {'backbone.blocks.0.norm1.weight': torch.zeros(33)},
        r'shape \(33,\), the model asks for \(32,\)',
    ),
    'nan': (
        lambda s: poison(s, 'backbone.blocks.0.norm1.bias', math.nan),
        r'NaN or .* 1 tensor \(backbone\.blocks\.0\.norm1\.bias\).*earlier',
    ),
    'infinite': (
        lambda s: poison(s, 'backbone.blocks.1.attn.v_bias', -math.inf),
        r'NaN or infinity in 1 tensor \(backbone\.blocks\.1\.attn\.v_bias\)',
    ),
    'nan_in_a_buffer': (
        lambda s: poison(s, 'backbone.pos_embed', math.nan),
        r'NaN or infinity in 1 tensor \(backbone\.pos_embed\)',
    ),
    'other_frames': (
        lambda s: s | {'backbone.pos_embed': torch.zeros(1, 128, 32)},
        r'shape \(1, 128, 32\).*--num-frames',
    ),
}


@pytest.mark.parametrize('name', BAD)
@pytest.mark.parametrize('load', [*FOR_TRAINING, *FOR_ALL])
def test_refused(load, name, tiny_model, tmp_path):
    if load is use_init_cfg and name in (
        'lacks_half_a_head',
        'unknown_part',
    ):
        pytest.skip('prefix takes the encoder alone')
    change, message = BAD[name]
    # Values that no initialisation has.
    source = recognizer() if load in FOR_ALL else tiny_model()
    state = {k: v + 1000 for k, v in source.state_dict().items()}
    path = save(change(state), tmp_path / 'a.pth')
    model = recognizer()
    with pytest.raises(CheckpointError) as error:
        load(model, path, tmp_path)
    text = str(error.value)
    if load is use_init_cfg:  # names without the prefix; or nothing under it
        message = message.replace(r'backbone\.', '').replace('backbone.', '')
        if name in ('official', 'renamed'):
            assert "nothing under prefix='backbone.'" in text
    assert re.search(message, text), text
    assert path in text and '\n' not in text
    assert all(v.abs().max() < 100 for v in model.state_dict().values())


@pytest.mark.parametrize('load', [*FOR_TRAINING, *FOR_ALL])
def test_other_attention_heads(load, tiny_model, tmp_path):
    """No tensor tells, but the config of the run does."""
    source = recognizer() if load in FOR_ALL else tiny_model()
    path = tmp_path / 'a.pth'
    for heads in (4, 2):
        cfg = f'model = dict(backbone=dict(num_heads={heads}))'
        content = dict(state_dict=source.state_dict(), meta=dict(cfg=cfg))
        torch.save(content, path)
        if heads == 4:
            with pytest.raises(CheckpointError, match='num_heads=4') as error:
                load(recognizer(), str(path), tmp_path)
            assert str(path) in str(error.value)
        elif load is not resume_training:
            load(recognizer(), str(path), tmp_path)


def test_head_for_other_classes(tmp_path):
    path = save(recognizer(7).state_dict(), tmp_path / 'a.pth')
    model = recognizer(5)
    with pytest.raises(CheckpointError) as error:
        train_with_load_from(model, path, tmp_path)
    assert '(7, 32), the model asks for (5, 32)' in str(error.value)
    assert 'take the encoder alone' in str(error.value)
    use_init_cfg(model, path, tmp_path)  # as it advises


@pytest.mark.parametrize('load', FOR_ALL)
def test_pretraining_is_no_classifier(load, tiny_model, tmp_path):
    path = save(tiny_model().state_dict(), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError) as error:
        load(recognizer(), path, tmp_path)
    assert 'cls_head.fc_cls.weight' in str(error.value)
    assert 'looks like MMAction2 (pretraining)' in str(error.value)


def test_a_backbone_alone(tiny_model, tmp_path):
    bare = tiny_model().backbone.state_dict()
    path = save(bare, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match="lack 'backbone.'"):
        use_init_cfg(recognizer(), path, tmp_path)
    model = recognizer(use_mean_pooling=False).backbone
    load_checkpoint(model, path)
    assert equal(bare, model.state_dict())
    prefixed = save(tiny_model().state_dict(), tmp_path / 'b.pth')
    with pytest.raises(CheckpointError, match="prefix='backbone.'"):
        load_checkpoint(model, prefixed)


# ----------------------------------------------------------------- loaded


@pytest.mark.parametrize('load', FOR_TRAINING)
def test_pretraining_to_recognizer(load, tiny_model, tmp_path, logged):
    source, model = randomize(tiny_model()), recognizer()
    path = save(source.state_dict(), tmp_path / 'a.pth')
    load(model, path, tmp_path)
    own, given = model.state_dict(), source.state_dict()
    encoder = [n for n in own if n.startswith('backbone.')]
    norm = ['backbone.fc_norm.weight', 'backbone.fc_norm.bias']
    for name in encoder:
        if name not in norm:
            assert torch.equal(own[name], given[name]), name
    text = logged[-1]
    shared = len(encoder) - 2
    if load is use_init_cfg:
        assert f'Loaded {shared}/{len(encoder)} tensors' in text
        assert '2 tensors (fc_norm.weight, fc_norm.bias)' in text
        assert 'Not used: 2 tensors (norm.weight, norm.bias)' in text
    else:
        assert f'Loaded {shared}/{len(own)} tensors of Recognizer3D' in text
        assert '4 tensors (backbone.fc_norm.weight' in text
        assert 'cls_head.fc_cls.bias' in text
    assert path in text


def test_pixels_to_pixels_and_motion(tiny_model, tmp_path, logged):
    """VideoMAE's decoder is the start of MotionMAE's."""
    head = dict(type='MotionMAEHead', motion_weight=0.0)
    source = randomize(tiny_model(head=head))
    path = save(source.state_dict(), tmp_path / 'a.pth')
    model = tiny_model()
    with strict_loading.needed_parts('encoder'):
        load_checkpoint(model, path)
    own, given = model.state_dict(), source.state_dict()
    assert equal(given, {n: own[n] for n in given})
    assert '2 tensors (head.predictors.motion.weight' in logged[-1]


@pytest.mark.parametrize(
    'load', [test_with_load_from, call_load_checkpoint, train_with_load_from]
)
def test_whole_classifier(load, tmp_path, logged):
    source, model = randomize(recognizer()), recognizer()
    path = save(source.state_dict(), tmp_path / 'a.pth')
    load(model, path, tmp_path)
    assert equal(source.state_dict(), model.state_dict())
    count = len(source.state_dict())
    assert logged == [
        f'Loaded {count}/{count} tensors of Recognizer3D from {path}.'
    ]


@pytest.mark.parametrize('load', [train_with_load_from, *FOR_ALL[:2]])
def test_positions_that_are_not_learned(load, tmp_path, logged):
    """Files that were converted from official ones may lack the table."""
    source, model = randomize(recognizer()), recognizer()
    state = drop(source.state_dict(), 'backbone.pos_embed')
    load(model, save(state, tmp_path / 'a.pth'), tmp_path)
    assert equal(source.state_dict(), model.state_dict())
    assert 'left as they were: 1 tensor (backbone.pos_embed)' in logged[-1]
    with pytest.raises(CheckpointError, match='backbone.pos_embed'):
        learned = recognizer(use_learnable_pos_emb=True)
        load(learned, str(tmp_path / 'a.pth'), tmp_path)


def test_data_parallel_names(tmp_path):
    source, model = randomize(recognizer()), recognizer()
    state = {f'module.{k}': v for k, v in source.state_dict().items()}
    load_checkpoint(model, save(state, tmp_path / 'a.pth'))
    assert equal(source.state_dict(), model.state_dict())


def test_other_models_are_loaded_as_ever(tmp_path):
    """MMAction2's own habit stays for what is not a video ViT."""
    model = MODELS.build(dict(type='ResNet', depth=18))
    state = drop(copy.deepcopy(model.state_dict()), 'conv1.conv.weight')
    state = {k: v + 1 for k, v in state.items()} | dict(fc=torch.zeros(1))
    before = model.state_dict()['conv1.conv.weight'].clone()
    load_checkpoint(model, save(state, tmp_path / 'a.pth'))
    after = model.state_dict()
    assert torch.equal(after['conv1.conv.weight'], before)
    assert torch.equal(
        after['layer4.1.conv2.conv.weight'],
        state['layer4.1.conv2.conv.weight'],
    )


def test_needs_are_given_back_after_an_error():
    with (
        pytest.raises(CheckpointError),
        strict_loading.needed_parts('encoder'),
    ):
        load_strictly(recognizer(), {}, 'nothing')
    with pytest.raises(CheckpointError, match='cls_head'):
        load_strictly(
            recognizer(use_mean_pooling=False),
            {
                f'backbone.{k}': v
                for k, v in recognizer(use_mean_pooling=False)
                .backbone.state_dict()
                .items()
            },
            'an encoder',
        )


@pytest.mark.parametrize(
    'load', [call_load_checkpoint, test_with_load_from, use_init_cfg]
)
def test_safetensors(load, tmp_path):
    source, model = randomize(recognizer()), recognizer()
    path = tmp_path / 'a.safetensors'
    save_file(source.state_dict(), path)
    load(model, str(path), tmp_path)
    assert equal(source.backbone.state_dict(), model.backbone.state_dict())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match='readable safetensors'):
        load(recognizer(), str(path), tmp_path)


def test_other_models_are_not_loaded_with_nan_either(tmp_path):
    """In a buffer, infinity is what it is for, such as a mask."""
    model = torch.nn.BatchNorm1d(3)
    for name, value, is_refused in (
        ('weight', math.nan, True),
        ('weight', math.inf, True),
        ('running_var', math.nan, True),
        ('running_var', math.inf, False),
    ):
        state = poison(model.state_dict(), name, value)
        path = save(state, tmp_path / 'a.pth')
        if is_refused:
            with pytest.raises(CheckpointError, match=rf'a\.pth.*{name}'):
                load_checkpoint(torch.nn.BatchNorm1d(3), path)
        else:
            load_checkpoint(torch.nn.BatchNorm1d(3), path)


def test_weights_with_nan_have_no_features_and_are_not_converted(
    tiny_model, tmp_path
):
    state = tiny_model().state_dict()
    name = 'blocks.1.norm2.weight'
    state = poison(state, f'backbone.{name}', math.nan)
    path = save(state, tmp_path / 'a.pth')
    options = dict(num_heads=2, trained_num_frames=8, trained_img_size=32)
    message = rf'a\.pth holds NaN or infinity in 1 tensor \(.*{name}\)'
    with pytest.raises(CheckpointError, match=message):
        load_pretrained(path, part='encoder', **options)
    checkpoint = read_checkpoint(path, decoder_num_heads=2, **options)
    with pytest.raises(CheckpointError, match=message):
        write_checkpoint(checkpoint, tmp_path / 'b.pth')
    assert not (tmp_path / 'b.pth').exists()
