# Copyright (c) MotionMAE contributors. All rights reserved.
"""Networks that others have written, with all their parameters random.

Clones of MCG-NJU/VideoMAE, OpenGVLab/VideoMAEv2 and facebookresearch/mae_st
are named by the environment variables ``VIDEOMAE_CHECKOUT``,
``VIDEOMAEV2_CHECKOUT`` and ``MAE_ST_CHECKOUT``.
"""

import importlib
import os
import sys
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest
import torch
from conftest import as_batch
from einops import rearrange
from torch import nn

from mmmotionmae.models.utils.tubelet import split_mask

VARIABLES = dict(
    v1='VIDEOMAE_CHECKOUT', v2='VIDEOMAEV2_CHECKOUT', mae_st='MAE_ST_CHECKOUT'
)
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1, 1)
NUM_CLASSES = 5


@dataclass(frozen=True)
class Size:
    dims: int
    depth: int
    heads: int
    decoder_dims: int
    decoder_depth: int
    decoder_heads: int
    patch_size: int = 16
    img_size: int = 224
    num_frames: int = 16  # the official encoder takes no other number
    tubelet_size: int = 2

    @property
    def num_tokens(self):
        side = self.img_size // self.patch_size
        return self.num_frames // self.tubelet_size * side**2

    @property
    def hints(self):
        """What `read_checkpoint` cannot know of a tiny network."""
        return dict(
            num_heads=self.heads,
            decoder_num_heads=self.decoder_heads,
            trained_img_size=self.img_size,
            trained_num_frames=self.num_frames,
        )


TINY = Size(32, 2, 2, 24, 2, 3, patch_size=8, img_size=32)
LARGE = dict(
    small=Size(384, 12, 6, 192, 4, 3),
    base=Size(768, 12, 12, 384, 4, 6),
    large=Size(1024, 24, 16, 512, 4, 8),
)
SIZES = [
    pytest.param(TINY, id='tiny'),
    *(
        pytest.param(size, id=name, marks=pytest.mark.slow)
        for name, size in LARGE.items()
    ),
]


def checkout(which):
    """A folder with official code; the test is skipped where it is not."""
    folder = os.environ.get(VARIABLES[which])
    if not folder:
        pytest.skip(f'{VARIABLES[which]} is not set')
    return folder


def randomise(model):
    """Draw every parameter, biases and norms too; nothing stays 0 or 1."""
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:  # activations keep their size
            std = max(parameter[0].numel() ** -0.5, 0.02)
            nn.init.normal_(parameter, std=std)
        else:
            is_scale = 'norm' in name and name.endswith('weight')
            nn.init.normal_(parameter, mean=float(is_scale), std=0.3)
    return model.eval()


def draw(size, ratio=0.75):
    """Two clips, as levels and normalised, and a mask."""
    number = 2 if size is TINY else 1
    shape = (number, 3, size.num_frames, size.img_size, size.img_size)
    frames = torch.randint(256, shape, dtype=torch.uint8)
    order = torch.rand(number, size.num_tokens).argsort(1)
    mask = torch.zeros(number, size.num_tokens, dtype=torch.bool)
    mask.scatter_(1, order[:, : int(size.num_tokens * ratio)], True)
    return frames, (frames / 255 - MEAN) / STD, mask


def relative(a, b):
    """The largest difference over the largest value."""
    assert a.shape == b.shape
    return ((a - b).abs().max() / b.abs().max()).item()


def our_loss(model, frames, mask):
    batch = model.data_preprocessor(as_batch(frames, mask), training=True)
    return model(**batch, mode='loss')['loss_pixel'].item()


def our_predictions(model, clip, mask):
    """The values of a token in VideoMAE's order: (P, C), not (C, P)."""
    pred = model.head(model.decode(clip, split_mask(mask)))['pixel']
    return rearrange(pred, 'b m (c p) -> b m (p c)', c=3)


# ---------------------------------------------------------------- official


class _Mlp(nn.Module):
    """What MAE-ST takes from timm."""

    def __init__(self, in_features, hidden_features, act_layer, drop):
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = act_layer()
        self.fc2 = nn.Linear(hidden_features, in_features)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


def _stand_ins():
    """What is imported of packages that need not be there."""
    contents = {
        'timm': {},
        'timm.data': {},
        'timm.data.constants': dict(
            IMAGENET_DEFAULT_MEAN=MEAN.flatten().tolist(),
            IMAGENET_DEFAULT_STD=STD.flatten().tolist(),
        ),
        'timm.models': {},
        'timm.models.layers': dict(
            drop_path=None,
            to_2tuple=lambda x: x if isinstance(x, tuple) else (x, x),
            trunc_normal_=nn.init.trunc_normal_,
        ),
        'timm.models.registry': dict(register_model=lambda function: function),
        'timm.models.vision_transformer': dict(DropPath=None, Mlp=_Mlp),
        'utils': dict(SmoothedValue=lambda **kwargs: None),
        'mae_st': {},
        'mae_st.util.logging': dict(
            get_logger=lambda name: None, master_print=lambda *args: None
        ),
    }
    modules = {}
    for name, attributes in contents.items():
        module = ModuleType(name)
        # Others look for timm with `find_spec`, which wants one.
        module.__spec__ = ModuleSpec(name, None)
        vars(module).update(attributes)
        modules[name] = module
    return modules


@contextmanager
def official_code(which):
    """Import from official code inside; nothing of it stays behind."""
    folder = checkout(which)
    before, path = dict(sys.modules), [*sys.path]
    for name in [n for n in sys.modules if n.split('.')[0] == 'models']:
        del sys.modules[name]
    stand_ins = _stand_ins()
    stand_ins['mae_st'].__path__ = [folder]
    sys.modules.update(stand_ins)
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module
    finally:
        sys.path[:] = path
        for name in {*sys.modules} - {*before}:
            file = getattr(sys.modules[name], '__file__', None) or ''
            if name in stand_ins or file.startswith(folder):
                del sys.modules[name]
        sys.modules.update(before)


def _sizes(size):
    return dict(
        img_size=size.img_size,
        patch_size=size.patch_size,
        tubelet_size=size.tubelet_size,
        mlp_ratio=4,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )


def official_pretraining(which, size, **kwargs):
    name = 'modeling_pretrain'
    with official_code(which) as load:
        module = load(name if which == 'v1' else f'models.{name}')
    model = module.PretrainVisionTransformer(
        encoder_embed_dim=size.dims,
        encoder_depth=size.depth,
        encoder_num_heads=size.heads,
        encoder_num_classes=0,
        decoder_embed_dim=size.decoder_dims,
        decoder_depth=size.decoder_depth,
        decoder_num_heads=size.decoder_heads,
        decoder_num_classes=3 * size.tubelet_size * size.patch_size**2,
        **_sizes(size) | kwargs,
    )
    return randomise(model)


def official_classifier(which, size, **kwargs):
    name = 'modeling_finetune'
    with official_code(which) as load:
        module = load(name if which == 'v1' else f'models.{name}')
    model = module.VisionTransformer(
        num_classes=NUM_CLASSES,
        embed_dim=size.dims,
        depth=size.depth,
        num_heads=size.heads,
        all_frames=size.num_frames,
        **_sizes(size) | kwargs,
    )
    return randomise(model)


def official_loss(which, model, clip, mask, size, normalise, monkeypatch):
    """The loss that the official training loop computes in one step."""
    seen = {}

    class Logger:
        def __init__(self, delimiter):
            self.meters = {}

        def add_meter(self, *args):
            pass

        def log_every(self, loader, *args):
            return loader

        def update(self, **values):
            seen.update(values)

        def synchronize_between_processes(self):
            pass

    class Scaler:
        def __call__(self, *args, **kwargs):
            return 0.0

        def state_dict(self):
            return dict(scale=1.0)

    monkeypatch.setattr(torch.cuda, 'synchronize', lambda: None)
    monkeypatch.setattr(torch.cuda.amp, 'autocast', nullcontext)
    with official_code(which) as load:
        sys.modules['utils'].MetricLogger = Logger
        engine = load('engine_for_pretraining')
    batch = (clip, mask) if which == 'v1' else (clip, mask, ~mask)
    groups = [dict(lr=0.0, weight_decay=0.0)]
    engine.train_one_epoch(
        model,
        [batch],
        SimpleNamespace(param_groups=groups, zero_grad=lambda: None),
        torch.device('cpu'),
        epoch=0,
        loss_scaler=Scaler(),
        patch_size=size.patch_size,
        normlize_target=normalise,
        start_steps=0,
    )
    model.eval()
    return seen['loss']


def mae_st_network(name, size, **kwargs):
    """``'models_mae'`` (pre-training) or ``'models_vit'`` (fine-tuning)."""
    with official_code('mae_st') as load:
        module = load(f'mae_st.{name}')
    sizes = dict(
        img_size=size.img_size,
        patch_size=size.patch_size,
        num_frames=size.num_frames,
        t_patch_size=size.tubelet_size,
        embed_dim=size.dims,
        depth=size.depth,
        num_heads=size.heads,
        mlp_ratio=4,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )
    if name == 'models_mae':
        sizes |= dict(
            decoder_embed_dim=size.decoder_dims,
            decoder_depth=size.decoder_depth,
            decoder_num_heads=size.decoder_heads,
            pred_t_dim=size.num_frames // 2,
        )
        return randomise(module.MaskedAutoencoderViT(**sizes | kwargs))
    sizes |= dict(num_classes=NUM_CLASSES, dropout=0.0)
    return randomise(module.VisionTransformer(**sizes | kwargs))


# ------------------------------------------------------------ transformers


def transformers_network(name, size, **kwargs):
    """One of the three classes of `transformers`."""
    transformers = pytest.importorskip('transformers')
    config = transformers.VideoMAEConfig(
        **dict(
            image_size=size.img_size,
            patch_size=size.patch_size,
            num_frames=size.num_frames,
            tubelet_size=size.tubelet_size,
            hidden_size=size.dims,
            num_hidden_layers=size.depth,
            num_attention_heads=size.heads,
            intermediate_size=4 * size.dims,
            decoder_hidden_size=size.decoder_dims,
            decoder_num_hidden_layers=size.decoder_depth,
            decoder_num_attention_heads=size.decoder_heads,
            decoder_intermediate_size=4 * size.decoder_dims,
            layer_norm_eps=1e-6,
            use_mean_pooling=False,  # the norm after the last block
            num_labels=NUM_CLASSES,
        )
        | kwargs
    )
    model = randomise(getattr(transformers, name)(config))
    for key, parameter in model.named_parameters():
        # Only 5.6 to 5.17 have them; they change nothing, see separate_qkv.
        if key.endswith('.key.bias'):
            nn.init.zeros_(parameter)
    return model
