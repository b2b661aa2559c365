# Copyright (c) MotionMAE contributors. All rights reserved.
"""Files and folders of checkpoints, read; safetensors files, also written."""

import json
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import CheckpointLoader
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..utils.errors import CheckpointError
from ..utils.files import complete_file
from ..utils.run_folder import LAST, last_checkpoint
from ..utils.sharded_folders import is_sharded
from .formats import FORMATS, recognise
from .shipped import locate_checkpoint
from .specs import Checkpoint, Hints, RawCheckpoint

# Where the tensors lie in the files of MMEngine, MAE and VideoMAE, DeepSpeed
# and PySlowFast.
WRAPPERS = ('state_dict', 'model', 'module', 'model_state')


def unwrap_tensors(
    content: Any, source: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Find the tensors in what a file held.

    Returns:
        The tensors, without the ``module.`` of data-parallel training, and
        what lay beside them.

    Raises:
        CheckpointError: If there are none.
    """
    settings: dict[str, Any] = {}
    if isinstance(content, Mapping):
        for name in WRAPPERS:
            inner = content.get(name)
            if isinstance(inner, Mapping) and _tensors_of(inner):
                settings = _arguments(content.get('args'))
                if isinstance(content.get('meta'), Mapping):
                    settings['meta'] = dict(content['meta'])
                content = inner
                break
    tensors = _tensors_of(content) if isinstance(content, Mapping) else {}
    if not tensors:
        raise CheckpointError(f'{source} holds no weights.')
    if all(name.startswith('module.') for name in tensors):
        tensors = {n.removeprefix('module.'): t for n, t in tensors.items()}
    return tensors, settings


def _tensors_of(mapping: Mapping) -> dict[str, Tensor]:
    return {
        name: value
        for name, value in mapping.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }


def _arguments(args: Any) -> dict[str, Any]:
    """Those of the run: official files hold an ``argparse.Namespace``."""
    if isinstance(args, Namespace):
        args = vars(args)
    return dict(args) if isinstance(args, Mapping) else {}


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """Read all tensors of a file.

    Returns:
        The tensors, and the metadata; JSON in it is decoded.

    Raises:
        CheckpointError: If it is damaged, or a file of another kind.
    """
    try:
        with safe_open(str(path), framework='pt', device='cpu') as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OverflowError, MemoryError) as error:
        raise CheckpointError(
            f'{path} is not a readable safetensors file: it is truncated, or '
            f'a file of another kind ({error}).'
        ) from error
    return tensors, {name: _decode(text) for name, text in metadata.items()}


def write_safetensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, Any]
) -> None:
    """Write a file; it appears under its name once it is complete.

    Args:
        tensors: Any.
        path: Replaced if it exists.
        metadata: Text as it is, anything else as JSON.
    """
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in metadata.items()
    }
    # The format takes no views, nor tensors that share memory.
    plain = {
        name: tensor.detach()
        .cpu()
        .clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    with complete_file(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file(plain, str(temporary), {'format': 'pt'} | texts)
        temporary.chmod(mode)  # the library lets the owner alone read it


def _decode(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def read_raw(path: str | Path) -> RawCheckpoint:
    """Read the tensors of a file or folder under their own names.

    Nothing in it is run, see :func:`trust_checkpoints`.

    Args:
        path: A file (.pth, .pt, .bin, .safetensors, ...), its URL, or a
            folder: in parts, as :class:`FSDP2Strategy` writes it; of Hugging
            Face (``config.json`` and weights, safetensors
            first, also in shards), or a work dir (its last checkpoint); or
            ``mmmotionmae://NAME``, which the package ships.

    Raises:
        CheckpointError: If it cannot, or must not, be read.
        FileNotFoundError: If it is not there.
    """
    text = locate_checkpoint(str(path))
    if '://' in text:
        return _from_content(
            CheckpointLoader.load_checkpoint(text, 'cpu'), text
        )
    path = Path(text).expanduser()
    if is_sharded(path):
        return _read_file(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise FileNotFoundError(f'There is no checkpoint {text!r}.')
    raw = _read_file(path)
    config = path.with_name('config.json')
    if 'meta' not in raw.settings and config.is_file():
        raw = RawCheckpoint(
            raw.tensors, raw.settings | _read_settings(path.parent), text
        )
    return raw


def read_checkpoint(
    path: str | Path,
    num_heads: int | None = None,
    decoder_num_heads: int | None = None,
    trained_num_frames: int | None = None,
    trained_img_size: int | None = None,
    encoder_only: bool = False,
    drop_cls_token: bool = False,
) -> Checkpoint:
    """Read a checkpoint of any known format.

    The format is recognised from the names of the tensors: MMAction2 (and
    this package), official VideoMAE and VideoMAE V2, MAE-ST, Hugging Face.

    Args:
        path: See :func:`read_raw`.
        num_heads: Attention heads, where the file does not tell and the
            width is not that of a model in use.
        decoder_num_heads: Those of the decoder, likewise.
        trained_num_frames: Frames of a clip, where the file does not tell.
            Defaults to 16.
        trained_img_size: Height and width of a frame, in pixels, likewise.
            Defaults to 224.
        encoder_only: Leave decoder and heads behind.
        drop_cls_token: Leave the class token of MAE-ST behind. Features then
            differ from those of the original.

    Raises:
        CheckpointError: If it is of no known format, or a tensor is missing,
            left over, or cannot be held.
        FileNotFoundError: If it is not there.
    """
    raw = read_raw(path)
    found = recognise(raw)
    if found is None:
        some = ', '.join(sorted(raw.tensors)[:5])
        titles = ', '.join(form.title for form in FORMATS.values())
        raise CheckpointError(
            f'{raw.source} is of no known format ({titles}): its tensors are '
            f'called {some}, ...'
        )
    hints = Hints(
        num_heads=num_heads,
        decoder_num_heads=decoder_num_heads,
        trained_num_frames=trained_num_frames,
        trained_img_size=trained_img_size,
        encoder_only=encoder_only,
        drop_cls_token=drop_cls_token,
    )
    return found[0].read(raw, hints)


def _from_content(content: Any, source: str) -> RawCheckpoint:
    tensors, settings = unwrap_tensors(content, source)
    return RawCheckpoint(tensors, settings, source)


def _read_file(path: Path) -> RawCheckpoint:
    if path.suffix == '.safetensors':
        tensors, metadata = read_safetensors(path)
        settings = _arguments(metadata.get('args')) | metadata
        return RawCheckpoint(tensors, settings, str(path))
    content = CheckpointLoader.load_checkpoint(str(path), 'cpu')
    return _from_content(content, str(path))


def _read_folder(folder: Path) -> RawCheckpoint:
    last = folder / LAST
    if last.is_file() and not (folder / 'config.json').is_file():
        path = last_checkpoint(folder)
        if path is None:
            name = last.read_text().strip()
            raise CheckpointError(f'{last} names {name!r}, which is missing.')
        return read_raw(path)
    for name in ('model.safetensors', 'pytorch_model.bin'):
        index = folder / f'{name}.index.json'
        if (folder / name).is_file():
            files = [folder / name]
        elif index.is_file():
            shards = _read_json(index).get('weight_map', {})
            files = [folder / shard for shard in sorted({*shards.values()})]
        else:
            continue
        tensors: dict[str, Tensor] = {}
        for file in files:
            if file.parent != folder or not file.is_file():
                raise CheckpointError(
                    f'{index} names {file}, which is missing.'
                )
            tensors |= _read_file(file).tensors
        return RawCheckpoint(tensors, _read_settings(folder), str(folder))
    raise CheckpointError(
        f'{folder} holds neither model.safetensors nor pytorch_model.bin, nor '
        'is it the work dir of a training: name a checkpoint file.'
    )


def _read_settings(folder: Path) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if (folder / 'config.json').is_file():
        settings = _read_json(folder / 'config.json')
    preprocessor = folder / 'preprocessor_config.json'
    if preprocessor.is_file():
        settings['preprocessor'] = _read_json(preprocessor)
    return settings


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise CheckpointError(f'{path} is not valid JSON: {error}') from error
    if not isinstance(content, dict):
        raise CheckpointError(f'{path} holds no JSON object.')
    return content
