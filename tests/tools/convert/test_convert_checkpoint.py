# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/convert/convert_checkpoint.py`."""

import argparse
import sys

import convert_checkpoint as tool  # noqa: E402
import pytest
import torch

from mmmotionmae.checkpoints import read_checkpoint


@pytest.fixture
def run(monkeypatch, official, capsys):
    """Call the tool in the folder of the file: its code, lines, errors."""
    monkeypatch.chdir(official)

    def call(*args):
        monkeypatch.setattr(sys, 'argv', ['tool', *map(str, args)])
        code = tool.main()
        output = capsys.readouterr()
        return code, output.out.splitlines(), output.err.splitlines()

    return call


@pytest.fixture
def official(tmp_path):
    """A pre-training file with VideoMAE's names, its shapes in small."""
    width, decoder_width, hidden = 384, 192, 64
    tensors = {
        'encoder.patch_embed.proj.weight': (width, 3, 2, 16, 16),
        'encoder.patch_embed.proj.bias': (width,),
        'encoder.norm.weight': (width,),
        'encoder.norm.bias': (width,),
        'decoder.norm.weight': (decoder_width,),
        'decoder.norm.bias': (decoder_width,),
        'decoder.head.weight': (1536, decoder_width),
        'decoder.head.bias': (1536,),
        'encoder_to_decoder.weight': (decoder_width, width),
        'mask_token': (1, 1, decoder_width),
    }
    for part, dims in (('encoder', width), ('decoder', decoder_width)):
        tensors |= {
            f'{part}.blocks.0.{name}': shape
            for name, shape in {
                'norm1.weight': (dims,),
                'norm1.bias': (dims,),
                'attn.q_bias': (dims,),
                'attn.v_bias': (dims,),
                'attn.qkv.weight': (3 * dims, dims),
                'attn.proj.weight': (dims, dims),
                'attn.proj.bias': (dims,),
                'norm2.weight': (dims,),
                'norm2.bias': (dims,),
                'mlp.fc1.weight': (hidden, dims),
                'mlp.fc1.bias': (hidden,),
                'mlp.fc2.weight': (dims, hidden),
                'mlp.fc2.bias': (dims,),
            }.items()
        }
    content = dict(
        model={name: torch.randn(shape) for name, shape in tensors.items()},
        optimizer=dict(state={}),
        epoch=799,
        args=argparse.Namespace(num_frames=4, input_size=32, lr=1.5e-4),
    )
    torch.save(content, tmp_path / 'official.pth')
    return tmp_path


def test_there_and_back(run, official):
    code, lines, _ = run('official.pth', 'ours.pth')
    assert code == 0
    for line in (
        'official.pth: official VideoMAE or VideoMAE V2, pretraining',
        'clips: 4 frames of 32 x 32, in tubelets of 2 x 16 x 16: 8 tokens',
        'decoder: 1 blocks, width 192, 3 heads, shared, self-attention; '
        'predicts pixel',
        'Written as MMAction2: ours.pth',
    ):
        assert line in lines
    assert run('ours.pth', 'back.pth', '--to', 'videomae')[0] == 0
    first = torch.load(official / 'official.pth', weights_only=False)['model']
    second = torch.load(official / 'back.pth', weights_only=True)['model']
    assert {*first} == {*second}
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_other_clips(run, official):
    code, lines, _ = run(
        *('official.pth', 'ours.safetensors', '--encoder-only'),
        *('--num-frames', 8, '--img-size', 48, '--tubelet-size', 4),
    )
    assert code == 0
    assert 'fitted:' in lines
    spec = read_checkpoint(official / 'ours.safetensors').encoder
    assert (spec.grid, spec.tubelet_size) == ((2, 3, 3), 4)


def test_without_target_nothing_is_written(run, official):
    code, lines, _ = run('official.pth')
    assert code == 0
    assert any('width 384, 6 heads' in line for line in lines)
    assert [path.name for path in official.iterdir()] == ['official.pth']


@pytest.mark.parametrize(
    'args, message',
    [
        (['missing.pth'], "There is no checkpoint 'missing.pth'"),
        (['official.pth', 'official.pth'], '--overwrite'),
        (['official.pth', 'a.txt'], 'must be a .pth or .safetensors file'),
        (['official.pth', 'a', '--num-frames', '3'], 'do not divide evenly'),
        (['official.pth', 'a.pth', '--num-heads', '7'], '7 attention heads'),
    ],
)
def test_mistakes(args, message, run, official):
    before = (official / 'official.pth').read_bytes()
    code, _, errors = run(*args)
    assert code == 2
    assert errors[-1].startswith('error: ') and message in errors[-1]
    assert (official / 'official.pth').read_bytes() == before
    assert [path.name for path in official.iterdir()] == ['official.pth']
