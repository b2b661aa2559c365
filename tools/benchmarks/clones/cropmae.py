# Copyright (c) MotionMAE contributors. All rights reserved.
"""CropMAE's propagation, run from a clone.

https://github.com/alexandre-eymael/CropMAE, which goes by CRW (videowalk).
Its functions run as they are; timm and imageio need not be installed.

Shapes: N frames, L = h*w cells of the patch grid, D width, C labels.
"""

import importlib
import io
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from .dino import Size, read_masks
from .imports import check_clone, importing_from, stand_in


def _write_masks_only(path: str, image: np.ndarray) -> None:
    """Instead of `imageio.imwrite`; pictures to look at are left out."""
    if path.endswith('_mask.png'):
        Image.fromarray(image).save(path)


class CropMAE:
    """CRW's propagation as in CropMAE's `downstreams/propagation`.

    Args:
        clone: The folder.
        patch_size: Height and width of a patch.
        img_size: (H, W) of the frames that the encoder sees.
        device: Where it runs.

    Raises:
        UsageError: If it is not there.
    """

    num_context = 20

    def __init__(
        self, clone: str, patch_size: int, img_size: Size, device: torch.device
    ) -> None:
        check_clone('cropmae', clone)
        folder = str(Path(clone) / 'downstreams' / 'propagation')
        stand_ins = {
            **stand_in('timm.models.vision_transformer', Block=None),
            **stand_in('imageio', imwrite=_write_masks_only),
        }
        with importing_from(folder, ['src'], stand_ins):
            self.main = importlib.import_module('src.test')
            self.data = importlib.import_module('src.data.vos')
            self.convert = importlib.import_module('src.eval.convert_davis')
        self.device = device
        self.settings = SimpleNamespace(
            img_size=list(img_size),
            video_len=self.num_context,
            map_scale=np.array([patch_size, patch_size]),
            device=device,
            batch_size=5,
            model_type='vit',
            no_l2=False,
            norm_mask=False,
            long_mem=[0],
            radius=20,
            temperature=0.7,
            topk=7,
        )
        rows, columns = (side // patch_size for side in img_size)
        near = self.main.utils.MaskedAttention(20, flat=False)
        near = near.mask(rows, columns)[None].flatten(-4, -3).flatten(-2)
        self.penalty = torch.where(near == 1, 0, -1e10)

    @torch.no_grad()
    def propagate(
        self, features: Tensor, context: Tensor, labels: Tensor
    ) -> Tensor:
        """Label frames.

        Args:
            features: (1, D, N, L), of length 1.
            context: (1, D, N, 1 + :attr:`num_context`, L), likewise.
            labels: (C, (1 + :attr:`num_context`) * L), the same for all.

        Returns:
            (N, C, L).
        """
        args, tools = self.settings, self.main.test_utils
        weights, places = tools.mem_efficient_batched_affinity(
            features,
            context,
            self.penalty,
            args.temperature,
            args.topk,
            args.long_mem,
            args.device,
        )
        # It leaves both on the host.
        return torch.stack(
            [
                (labels[:, p.to(self.device)] * w.to(self.device)).sum(1)
                for w, p in zip(weights, places, strict=True)
            ]
        )

    def segment_given(
        self, features: Sequence[Tensor], root: str, sequence: str
    ) -> np.ndarray:
        """Masks (N, H, W), uint8, with features given.

        Args:
            features: (L, D) of each frame.
            root: A DAVIS folder. Their code leaves files in it.
            sequence: Its name.
        """
        folders = [
            f'{root}/{kind}/480p/{sequence}'
            for kind in ('JPEGImages', 'Annotations')
        ]
        served = iter([features[0]] * self.num_context + list(features))

        def encode(images: Tensor) -> Tensor:
            tokens = torch.stack([next(served) for _ in images])
            # The first is the class token.
            return torch.cat([tokens[:, :1], tokens], 1)

        with (
            tempfile.TemporaryDirectory() as folder,
            redirect_stdout(io.StringIO()),
        ):
            listing = Path(folder) / 'davis.txt'
            listing.write_text(' '.join(folders))
            self.settings.filelist = str(listing)
            self.settings.save_path = f'{folder}/'
            loader = DataLoader(self.data.VOSDataset(self.settings))
            with torch.no_grad():
                self.main.test(loader, encode, self.settings)
            out = Path(folder) / 'out'
            out.mkdir()
            self.convert.convert_dir(
                0,
                f'{root}/Annotations/480p/',
                f'{out}/',
                f'{folder}/',
                [sequence],
            )
            return read_masks(
                out / sequence, sorted(Path(folders[0]).iterdir())
            )
