# Copyright (c) MotionMAE contributors. All rights reserved.
"""Messages about checkpoints that do not fit, with a remedy."""

from collections.abc import Mapping

from torch import Tensor, nn

from .formats import recognise
from .specs import RawCheckpoint

CONVERTER = 'python tools/convert/convert_checkpoint.py'


def suggest_remedy(
    tensors: Mapping[str, Tensor], source: str, prefix: str, missing: list[str]
) -> str:
    """Guess the format of tensors whose names do not fit, and a remedy.

    Args:
        tensors: Of the checkpoint.
        source: File or folder.
        prefix: Of the names of the encoder in the model.
        missing: Names that are needed and not there.

    Returns:
        Sentences, a space before each.
    """
    found = recognise(RawCheckpoint(dict(tensors), {}, source))
    if found is None:
        first = sorted({name.split('.')[0] for name in tensors})
        return f' It holds {", ".join(first[:8]) or "nothing"}.'
    form, kind = found
    if form.name != 'mmaction':
        return (
            f' It looks like {form.title} ({kind}): convert it with '
            f'`{CONVERTER} {source} OUT.pth`.'
        )
    text = f' It looks like MMAction2 ({kind}).'
    given = {name.startswith('backbone.') for name in tensors}
    if True in given and not prefix:
        text += " Its encoder is under prefix='backbone.' (init_cfg)."
    elif given == {False} and prefix:
        text += f' Its names lack {prefix!r}: it is a backbone alone.'
    pooled = f'{prefix}fc_norm.weight'
    if pooled in tensors and f'{prefix}norm.weight' in missing:
        text += (
            ' Its encoder has mean pooling: set model.backbone.type='
            'FusedVisionTransformer, model.backbone.use_mean_pooling=True.'
        )
    elif any(not name.startswith(prefix) for name in missing):
        text += (
            ' A model is tested, or resumed, with all of its weights; '
            'train it first.'
        )
    return text


def explain_shapes(
    model: nn.Module,
    own: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    wrong: list[str],
    source: str,
    prefix: str,
) -> str:
    """Advise on tensors of another shape than those of the model.

    Args:
        model: The model.
        own: Its tensors.
        tensors: Those of the checkpoint.
        wrong: The names of those that differ in shape.
        source: File or folder.
        prefix: Of the names of the encoder.
    """
    name = next((n for n in wrong if n.startswith(prefix)), wrong[0])
    text = (
        f'{name} of {source} has shape {tuple(tensors[name].shape)}, the '
        f'model asks for {tuple(own[name].shape)}'
    )
    if len(wrong) > 1:
        text += f' (and {len(wrong) - 1} more differ)'
    if not name.startswith(prefix):
        text += (
            ': to train another head on the encoder, take the encoder alone '
            "(model.backbone.init_cfg=dict(type='Pretrained', checkpoint="
            "..., prefix='backbone.') instead of load_from)."
        )
    elif _is_of_other_clips(tensors[name], own[name], name):
        text += (
            ': give model.backbone the num_frames, img_size, tubelet_size and '
            'patch_size that it was trained with, or fit it to other clips: '
            f'`{CONVERTER} {source} OUT.pth --num-frames T --img-size S '
            '--tubelet-size P`.'
        )
    else:
        text += (
            ': give model.backbone the arguments (embed_dims, depth, '
            'num_heads, ...) that it was trained with.'
        )
    if hasattr(model, 'encoder_prefix'):
        text += (
            ' The size of the frames to segment is a matter of the pipeline.'
        )
    return text


def _is_of_other_clips(given: Tensor, own: Tensor, name: str) -> bool:
    """Tell whether it is the size of clips or tubelets, not the width."""
    if name.endswith('pos_embed'):
        return given.shape[-1] == own.shape[-1]
    return name.endswith('patch_embed.projection.weight') and (
        given.shape[:2] == own.shape[:2]
    )
