# Copyright (c) MotionMAE contributors. All rights reserved.
"""What is read of a file or folder, and what is refused."""

import json
import os
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from conftest import TINY_BACKBONE
from mmaction.registry import MODELS
from safetensors.torch import save_file

from mmmotionmae.apis import load_pretrained
from mmmotionmae.checkpoints import (
    build_model,
    describe_checkpoint,
    read_checkpoint,
    read_raw,
    write_checkpoint,
)
from mmmotionmae.utils.errors import CheckpointError, UsageError

HINTS = dict(num_heads=2, decoder_num_heads=2, trained_img_size=32)


def save_run(source, path, cfg=None, **meta):
    """A checkpoint as a run writes it."""
    if cfg is not None:
        meta['cfg'] = cfg
    torch.save(dict(state_dict=source.state_dict(), meta=meta), path)
    return path


def equal(first, second):
    return list(first) == list(second) and all(
        torch.equal(first[name], second[name]) for name in first
    )


# -------------------------------------------------------------- round trips


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize(
    'parts',
    [
        {},
        dict(neck=dict(sharing='independent')),
        dict(neck=dict(attention='cross')),
        dict(head=dict(type='MotionMAEHead', pixel_weight=0.0)),
        dict(backbone=dict(use_learnable_pos_emb=True, init_values=0.1)),
        dict(backbone=dict(qkv_bias=False, mlp_ratio=2.0)),
    ],
)
def test_round_trip_of_pre_training(parts, suffix, tiny_model, tmp_path):
    source = tiny_model(**parts)
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    first = read_checkpoint(save_run(source, tmp_path / 'a.pth'), **HINTS)
    written = write_checkpoint(first, tmp_path / f'b{suffix}')
    second = read_checkpoint(written)  # it tells everything itself
    assert second.kind == first.kind == 'pretraining'
    assert second.encoder == first.encoder
    assert second.decoder == first.decoder
    model = build_model(second)
    assert equal(model.state_dict(), source.state_dict())
    backbone = parts.get('backbone', {})
    assert second.encoder.layer_scale == ('init_values' in backbone)
    assert second.encoder.qkv_bias == backbone.get('qkv_bias', True)
    assert isinstance(model.backbone.pos_embed, torch.nn.Parameter) == (
        backbone.get('use_learnable_pos_emb', False)
    )


def test_settings_come_from_the_config_of_the_run(tiny_model, tmp_path):
    head = dict(type='MotionMAEHead', pixel_norm='none', motion_norm='clip')
    source = tiny_model(head=head, backbone=dict(num_heads=4))
    cfg = f"""
model = dict(
    type='MotionMAE',
    data_preprocessor=dict(
        type='MotionMAEDataPreprocessor',
        mean=[1.0, 2.0, 3.0],
        std=[4.0, 5.0, 6.0],
        frame_difference=dict(type='FrameDifference', mode='absolute')),
    backbone=dict(num_heads=4, img_size=32, num_frames=8, norm_cfg=dict(
        type='LN', eps=1e-05)),
    neck=dict(num_heads=1),
    head={head!r})
"""
    checkpoint = read_checkpoint(save_run(source, tmp_path / 'a.pth', cfg))
    assert checkpoint.encoder.num_heads == 4
    assert checkpoint.encoder.norm_eps == 1e-5
    assert checkpoint.encoder.grid == (4, 4, 4)
    assert checkpoint.decoder.num_heads == 1
    assert checkpoint.mean == (1.0, 2.0, 3.0)
    assert checkpoint.std == (4.0, 5.0, 6.0)
    model = build_model(
        read_checkpoint(write_checkpoint(checkpoint, tmp_path / 'b.pth'))
    )
    norms = {name: target.norm for name, target in model.targets.items()}
    assert norms == dict(pixel='none', motion='clip')
    preprocessor = model.data_preprocessor
    assert model.targets['motion'].mode == 'absolute'
    assert preprocessor.mean.flatten().tolist() == [1.0, 2.0, 3.0]
    assert model.backbone.blocks[0].attn.num_heads == 4
    assert model.backbone.norm.eps == 1e-5


# Each target with its config, so that one of another kind goes both ways.
OTHER_TARGETS = """
model = dict(
    type='MotionMAE',
    backbone=dict(num_heads=2, img_size=32, num_frames=8),
    neck=dict(num_heads=2),
    targets=dict(
        slow=dict(type='FrameDifferenceTarget', gap=3, norm='clip', weight=.5),
        pixel=dict(type={kind!r})))
"""


def test_targets_of_other_names_go_both_ways(tiny_model, tmp_path):
    targets = dict(
        slow=dict(type='FrameDifferenceTarget', gap=3, norm='clip'),
        pixel=dict(type='PixelTarget'),
    )
    source = tiny_model(targets=targets)
    cfg = OTHER_TARGETS.format(kind='PixelTarget')
    read = read_checkpoint(save_run(source, tmp_path / 'a.pth', cfg))
    model = build_model(
        read_checkpoint(write_checkpoint(read, tmp_path / 'b.pth'))
    )
    assert equal(model.state_dict(), source.state_dict())
    slow = model.targets['slow']
    assert (slow.gap, slow.norm, slow.weight) == (3, 'clip', 0.5)
    assert list(model.targets) == ['slow', 'pixel']


def test_a_target_that_the_config_does_not_tell_is_refused(
    tiny_model, tmp_path
):
    source = tiny_model(
        targets=dict(slow=dict(type='FrameDifferenceTarget', gap=3))
    )
    path = save_run(source, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match="'slow'.*--encoder-only"):
        read_checkpoint(path, **HINTS)


def test_the_type_of_a_target_is_no_path_of_code(tiny_model, tmp_path):
    """Of a file by whomever: nothing but what is registered is built."""
    source = tiny_model(
        targets=dict(
            slow=dict(type='FrameDifferenceTarget'),
            pixel=dict(type='PixelTarget'),
        )
    )
    for kind, error, message in (
        ('os.system', CheckpointError, 'no target of that name and a type'),
        ('PixelTargets', UsageError, "no 'PixelTargets'.*import its module"),
    ):
        cfg = OTHER_TARGETS.format(kind=kind)
        path = save_run(source, tmp_path / 'a.pth', cfg)
        with pytest.raises(error, match=message):
            build_model(read_checkpoint(path))


@pytest.mark.parametrize('pooling', [True, False])
def test_classifier(pooling, tmp_path):
    """MMAction2's recognizer, and the one that is built of it."""
    source = MODELS.build(
        dict(
            type='Recognizer3D',
            backbone=TINY_BACKBONE
            | dict(type='VisionTransformer', use_mean_pooling=pooling),
            cls_head=dict(
                type='TimeSformerHead',
                num_classes=3,
                in_channels=32,
                average_clips='prob',
            ),
        )
    ).eval()
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    meta = dict(dataset_meta=dict(classes=['a', 'b', 'c']))
    first = read_checkpoint(
        save_run(source, tmp_path / 'a.pth', **meta), **HINTS
    )
    # In an order of their own, so that files and hashes are always the same.
    names = ['cls_head.fc_cls.weight', 'cls_head.fc_cls.bias']
    assert list(first.tensors)[-2:] == names
    second = read_checkpoint(write_checkpoint(first, tmp_path / 'b.pth'))
    assert second.kind == 'classifier'
    assert second.classes == ('a', 'b', 'c') and second.num_classes == 3
    assert second.encoder.mean_pooling == pooling
    model = build_model(second)
    clip = torch.randn(2, 1, 3, 8, 32, 32)
    with torch.no_grad():
        expected = source.cls_head(source.extract_feat(clip)[0])
        scores = model.cls_head(model.extract_feat(clip)[0])
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)
    text = describe_checkpoint(second)
    assert 'MMAction2, classifier' in text
    assert 'classes: 3, with their names' in text
    assert '8 frames of 32 x 32, in tubelets of 2 x 8 x 8: 64 tokens' in text


def test_names_of_another_number_of_classes_are_not_taken(tmp_path):
    source = MODELS.build(
        dict(
            type='Recognizer3D',
            backbone=TINY_BACKBONE | dict(type='VisionTransformer'),
            cls_head=dict(
                type='TimeSformerHead', num_classes=3, in_channels=32
            ),
        )
    )
    path = tmp_path / 'a.pth'
    save_run(source, path, dataset_meta=dict(classes=['a', 'b']))
    assert read_checkpoint(path, **HINTS).classes is None


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_encoder_alone(prefix, tiny_model, tmp_path):
    source = tiny_model().backbone
    state = {f'{prefix}{k}': v for k, v in source.state_dict().items()}
    torch.save(state, tmp_path / 'a.pth')
    checkpoint = read_checkpoint(
        tmp_path / 'a.pth', num_heads=2, trained_img_size=32
    )
    assert checkpoint.kind == 'encoder'
    model = build_model(checkpoint)
    assert equal(model.state_dict(), source.state_dict())


def test_positions_that_are_not_learned_may_be_missing(tiny_model, tmp_path):
    source = tiny_model()
    state = {n: t for n, t in source.state_dict().items() if 'pos_e' not in n}
    torch.save(dict(state_dict=state), tmp_path / 'a.pth')
    checkpoint = read_checkpoint(
        tmp_path / 'a.pth', trained_num_frames=8, **HINTS
    )
    assert equal(
        dict(sorted(build_model(checkpoint).state_dict().items())),
        dict(sorted(source.state_dict().items())),
    )


def test_parts(tiny_model, tmp_path):
    source = tiny_model()
    path = save_run(source, tmp_path / 'a.pth')
    checkpoint = read_checkpoint(path, **HINTS)
    encoder = build_model(checkpoint, 'encoder')
    assert equal(encoder.state_dict(), source.backbone.state_dict())
    assert not encoder.training
    alone = read_checkpoint(path, encoder_only=True, **HINTS)
    assert alone.kind == 'encoder' and alone.decoder is None
    with pytest.raises(ValueError, match='part must be'):
        build_model(checkpoint, 'decoder')


def test_work_dir_is_its_last_checkpoint(tiny_model, tmp_path):
    path = save_run(tiny_model(), tmp_path / 'epoch_3.pth')
    (tmp_path / 'last_checkpoint').write_text(f'{path}\n')
    assert read_raw(tmp_path).source == str(path)
    for text in ('epoch_4.pth', ''):
        (tmp_path / 'last_checkpoint').write_text(text)
        with pytest.raises(CheckpointError, match='which is missing'):
            read_raw(tmp_path)
    # A work dir that was moved, or is looked at from another folder.
    (tmp_path / 'last_checkpoint').write_text('work_dirs/x/epoch_3.pth')
    assert read_raw(tmp_path).source == str(path)


def test_folder_in_shards(tiny_model, tmp_path):
    """As Hugging Face stores large models."""
    state = tiny_model().state_dict()
    names = sorted(state)
    half = len(names) // 2
    shards = {'s1.safetensors': names[:half], 's2.safetensors': names[half:]}
    for shard, its in shards.items():
        save_file({n: state[n].clone() for n in its}, tmp_path / shard)
    index = {n: shard for shard, its in shards.items() for n in its}
    file = tmp_path / 'model.safetensors.index.json'
    file.write_text(json.dumps(dict(weight_map=index)))
    (tmp_path / 'config.json').write_text(json.dumps(dict(hidden_size=32)))
    raw = read_raw(tmp_path)
    assert equal({n: raw.tensors[n] for n in state}, state)
    assert raw.settings == dict(hidden_size=32)
    (tmp_path / 's2.safetensors').unlink()
    with pytest.raises(CheckpointError, match='s2.safetensors.*missing'):
        read_raw(tmp_path)
    file.write_text(json.dumps(dict(weight_map={'a': '../x.safetensors'})))
    save_file({'a': torch.ones(1)}, tmp_path.parent / 'x.safetensors')
    with pytest.raises(CheckpointError, match='x.safetensors'):
        read_raw(tmp_path)


def test_safetensors_come_first(tiny_model, tmp_path):
    save_file({'new': torch.ones(1)}, tmp_path / 'model.safetensors')
    torch.save({'old': torch.ones(1)}, tmp_path / 'pytorch_model.bin')
    assert [*read_raw(tmp_path).tensors] == ['new']
    (tmp_path / 'model.safetensors').unlink()
    assert [*read_raw(tmp_path).tensors] == ['old']


@pytest.mark.parametrize(
    'wrap', ['state_dict', 'model', 'module', 'model_state', None]
)
def test_wrappers(wrap, tmp_path):
    tensors = {'module.a.weight': torch.ones(2), 'module.b': torch.zeros(1)}
    args = Namespace(num_frames=16, lr=1e-3, out=Path('runs/a'), names=['x'])
    content = {wrap: tensors, 'args': args, 'epoch': 3} if wrap else tensors
    torch.save(content, tmp_path / 'a.pth')
    raw = read_raw(tmp_path / 'a.pth')
    assert equal(raw.tensors, {'a.weight': torch.ones(2), 'b': torch.zeros(1)})
    if wrap:
        assert raw.settings['num_frames'] == 16
        assert raw.settings['out'] == Path('runs/a')


# ------------------------------------------------------------------ refused


class Intruder:
    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def as_file(content, folder):
    torch.save(content, folder / 'a.pth')
    return folder / 'a.pth'


def as_hugging_face(content, folder):
    torch.save(content, folder / 'pytorch_model.bin')
    (folder / 'config.json').write_text('{"model_type": "videomae"}')
    return folder


@pytest.mark.parametrize('read', [read_raw, read_checkpoint, load_pretrained])
@pytest.mark.parametrize('place', [as_file, as_hugging_face])
@pytest.mark.parametrize('inside', ['meta', 'args', 'state_dict'])
def test_nothing_is_run(read, place, inside, tiny_model, tmp_path):
    folder = tmp_path / 'made_by_intruder'
    content = dict(state_dict=dict(tiny_model().state_dict()), meta={})
    if inside == 'args':
        content['args'] = Namespace(model=Intruder(folder))
    else:
        content[inside]['intruder'] = Intruder(folder)
    path = place(content, tmp_path)
    with pytest.raises(CheckpointError) as error:
        read(path)
    assert not folder.exists()
    assert 'could run code' in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('text', ['import os; os.mkdir({!r})', '{!r}.x()'])
def test_config_text_is_not_run(text, tiny_model, tmp_path):
    folder = tmp_path / 'made_by_config'
    path = save_run(tiny_model(), tmp_path / 'a.pth', text.format(str(folder)))
    assert read_checkpoint(path, **HINTS).kind == 'pretraining'
    assert not folder.exists()


def test_type_of_the_config_is_not_built(tiny_model, tmp_path):
    """MMEngine's registry imports whatever `type` names."""
    folder = tmp_path / 'made_by_type'
    cfg = f"""
model = dict(
    backbone=dict(type='os.mkdir', path={str(folder)!r}, num_heads=2,
        img_size=32),
    neck=dict(type='os.mkdir', path={str(folder)!r}, num_heads=2))
"""
    model = load_pretrained(save_run(tiny_model(), tmp_path / 'a.pth', cfg))
    assert type(model).__name__ == 'MotionMAE'
    assert not folder.exists()


@pytest.mark.parametrize(
    'meta',
    [
        dict(model=3),
        dict(model=dict(backbone='x', neck=None, head=[1])),
        dict(cfg='model = 5'),
        dict(cfg='model = dict(backbone=1, data_preprocessor=2)'),
        dict(dataset_meta=['a']),
    ],
)
def test_settings_of_another_shape_are_passed_over(meta, tiny_model, tmp_path):
    source = tiny_model()
    path = save_run(source, tmp_path / 'a.pth', **meta)
    checkpoint = read_checkpoint(path, **HINTS)
    assert checkpoint.encoder.num_heads == 2


BAD_FILES = {
    'no_weights': (dict(meta={}, epoch=3), 'holds no weights'),
    'a_list': ([torch.ones(2)], 'holds no weights'),
    'a_tensor': (torch.ones(2), 'holds no weights'),
    'unknown': (
        {'conv1.weight': torch.ones(2)},
        'of no known format .*conv1.weight',
    ),
}


@pytest.mark.parametrize('name', BAD_FILES)
def test_bad_files(name, tmp_path):
    content, message = BAD_FILES[name]
    torch.save(content, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=message) as error:
        read_checkpoint(tmp_path / 'a.pth')
    assert str(error.value).startswith(str(tmp_path / 'a.pth'))


def test_truncated_files(tiny_model, tmp_path):
    checkpoint = read_checkpoint(
        save_run(tiny_model(), tmp_path / 'a.pth'), **HINTS
    )
    for suffix, kind in (('pth', 'PyTorch'), ('safetensors', 'safetensors')):
        path = write_checkpoint(checkpoint, tmp_path / f'b.{suffix}')
        whole = path.read_bytes()
        for size in (0, 7, 100, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:size])
            with pytest.raises(CheckpointError, match=f'readable {kind}'):
                read_checkpoint(path)
        # Of the other kind, under a wrong name.
        other = dict(pth='safetensors', safetensors='pth')[suffix]
        write_checkpoint(
            checkpoint, tmp_path / f'c.{other}', overwrite=True
        ).replace(path)
        with pytest.raises(CheckpointError, match=f'readable {kind}'):
            read_checkpoint(path)
        path.write_bytes(b'Hello world\n' * 9)
        with pytest.raises(CheckpointError, match=f'readable {kind}'):
            read_checkpoint(path)


def test_other_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match='missing.pth'):
        read_checkpoint(tmp_path / 'missing.pth')
    with pytest.raises(CheckpointError, match='neither model.safetensors'):
        read_checkpoint(tmp_path)
    (tmp_path / 'pytorch_model.bin').write_bytes(b'')
    (tmp_path / 'config.json').write_text('{')
    with pytest.raises(CheckpointError, match='readable PyTorch'):
        read_checkpoint(tmp_path)
    torch.save({'a': torch.ones(1)}, tmp_path / 'pytorch_model.bin')
    with pytest.raises(CheckpointError, match='config.json is not valid'):
        read_checkpoint(tmp_path)


def change(state, **tensors):
    return {
        name: tensor
        for name, tensor in (dict(state) | tensors).items()
        if tensor is not None
    }


@pytest.mark.parametrize(
    'tensors, message',
    [
        (
            {'backbone.blocks.1.norm2.bias': None},
            r'lacks 1 tensor \(backbone.blocks.1.norm2.bias\)',
        ),
        (
            {'neck.decoders.shared.blocks.0.attn.q_bias': None},
            r'lacks 1 tensor \(neck.decoders.shared.blocks.0.attn.q_bias',
        ),
        ({'neck.decoders.shared.mask_token': None}, 'mask_token'),
        ({'surprise': torch.ones(1)}, r'also holds 1 tensor \(surprise\)'),
    ],
)
def test_every_tensor_is_accounted_for(tensors, message, tiny_model, tmp_path):
    state = change(tiny_model().state_dict(), **tensors)
    torch.save(dict(state_dict=state), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=message) as error:
        read_checkpoint(tmp_path / 'a.pth', **HINTS)
    assert 'looks like an MMAction2 checkpoint' in str(error.value)


def test_what_no_tensor_tells(tiny_model, tmp_path):
    path = save_run(tiny_model(), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='--trained-num-frames'):
        read_checkpoint(path)
    with pytest.raises(CheckpointError, match='--num-heads'):
        read_checkpoint(path, trained_img_size=32)
    with pytest.raises(CheckpointError, match='--decoder-num-heads'):
        read_checkpoint(path, trained_img_size=32, num_heads=2)
    with pytest.raises(CheckpointError, match='3 attention heads do not'):
        read_checkpoint(path, trained_img_size=32, num_heads=3)
    # Frames tell the size, and the size the frames.
    hints = dict(num_heads=2, decoder_num_heads=2)
    assert (
        read_checkpoint(path, trained_num_frames=8, **hints).encoder.img_size
        == 32
    )
    with pytest.raises(CheckpointError, match='64 tokens'):
        read_checkpoint(path, trained_num_frames=6, **hints)
    with pytest.raises(CheckpointError, match='64 tokens'):
        read_checkpoint(
            path, trained_num_frames=4, trained_img_size=32, **hints
        )


# ------------------------------------------------------------------ written


def test_nothing_is_written_over(tiny_model, tmp_path):
    checkpoint = read_checkpoint(
        save_run(tiny_model(), tmp_path / 'a.pth'), **HINTS
    )
    for path, form in (
        (tmp_path / 'b.pth', 'mmaction'),
        (tmp_path / 'c.safetensors', 'mmaction'),
    ):
        write_checkpoint(checkpoint, path, form)
        before = path.read_bytes()
        with pytest.raises(CheckpointError, match='--overwrite'):
            write_checkpoint(checkpoint, path, form)
        assert path.read_bytes() == before
        write_checkpoint(checkpoint, path, form, overwrite=True)
    for path, form in (('d.txt', 'mmaction'), ('e.pth', 'huggingface')):
        with pytest.raises(CheckpointError, match=path):
            write_checkpoint(checkpoint, tmp_path / path, form)
    with pytest.raises(ValueError, match="not 'caffe'"):
        write_checkpoint(checkpoint, tmp_path / 'f.pth', 'caffe')
    assert sorted(os.listdir(tmp_path)) == ['a.pth', 'b.pth', 'c.safetensors']
