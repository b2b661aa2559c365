# Copyright (c) MotionMAE contributors. All rights reserved.
from pathlib import Path

from torch import nn

from ..checkpoints import build_model, read_checkpoint, resize_checkpoint


def load_pretrained(
    path: str | Path,
    part: str | None = None,
    num_frames: int | None = None,
    img_size: int | None = None,
    tubelet_size: int | None = None,
    num_heads: int | None = None,
    decoder_num_heads: int | None = None,
    drop_cls_token: bool = False,
    trained_num_frames: int | None = None,
    trained_img_size: int | None = None,
    device: str = 'cpu',
) -> nn.Module:
    """Load a model from a checkpoint of any known format.

    No config is needed, and nothing in the file is run: the network is built
    from the shapes of the tensors. Formats: MMAction2 and this package,
    official VideoMAE and VideoMAE V2, MAE-ST, Hugging Face.

    Args:
        path: A file (.pth, .safetensors, ...), or a folder: of Hugging Face,
            or the work dir of a training, whose last checkpoint is taken.
        part: ``'encoder'``: the encoder alone. Defaults to all that there is.
        num_frames: Frames of a clip. If the file holds another number, its
            positions are interpolated in time.
        img_size: Height and width of a frame, in pixels; likewise in space.
        tubelet_size: Frames of a tubelet; see :func:`resize_checkpoint`.
        num_heads: Attention heads, where the file does not tell and the width
            is not that of a model in use.
        decoder_num_heads: Those of the decoder, likewise.
        drop_cls_token: Leave the class token of a MAE-ST file behind, which
            changes its features.
        trained_num_frames: Frames of the clips that it was trained with,
            where the file does not tell. Defaults to 16.
        trained_img_size: Their height and width, likewise. Defaults to 224.
        device: Where to put the model.

    Returns:
        In evaluation mode. For a pre-trained model a :class:`MotionMAE`
        (VideoMAE is one that predicts pixels alone), for a classifier
        MMAction2's ``Recognizer3D``. For an encoder, or with
        ``part='encoder'``, :class:`MotionMAEViT`, which gives tokens
        (B, L, D); or, where it averages them for a classifier,
        :class:`FusedVisionTransformer`, which gives (B, D).

    Raises:
        CheckpointError: If the file is damaged, could run code, is of no
            known format, or a tensor is missing or left over.
        FileNotFoundError: If it is not there.

    Examples:
        >>> import os, tempfile, torch
        >>> from mmaction.registry import MODELS
        >>> from mmmotionmae.apis import load_pretrained
        >>> encoder = dict(
        ...     type='MotionMAEViT', num_frames=2, embed_dims=192, depth=1,
        ...     num_heads=3)
        >>> model = MODELS.build(dict(type='MotionMAE', backbone=encoder))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = os.path.join(folder, 'epoch_1.pth')
        ...     torch.save(dict(state_dict=model.state_dict()), file)
        ...     vit = load_pretrained(file, part='encoder', img_size=32)
        >>> vit(torch.rand(1, 3, 2, 32, 32)).shape
        torch.Size([1, 4, 192])
    """
    checkpoint = read_checkpoint(
        path,
        num_heads=num_heads,
        decoder_num_heads=decoder_num_heads,
        trained_num_frames=trained_num_frames,
        trained_img_size=trained_img_size,
        encoder_only=part == 'encoder',
        drop_cls_token=drop_cls_token,
    )
    checkpoint = resize_checkpoint(
        checkpoint,
        num_frames=num_frames,
        img_size=img_size,
        tubelet_size=tubelet_size,
    )
    return build_model(checkpoint, part).to(device)
