# Copyright (c) MotionMAE contributors. All rights reserved.
"""Labels of the first frame, propagated through a video by frozen features.

Shapes: T frames, H W size of the encoder's frames, h w the patch grid, D
width, C labels.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from mmaction.registry import MODELS, TASK_UTILS
from mmaction.structures import ActionDataSample
from torch import Tensor

from ...utils.transfer import copy_without_waiting
from ..backbones import locate_encoder, video_vit_of
from .affinity import Frame, Propagation
from .base import SequenceModel
from .features import FrameFeatures, MapFeatures, ViTFeatures


@MODELS.register_module()
class LabelPropagation(SequenceModel):
    """Propagate masks or joints of the first frame, without training.

    The two forms in use are those of DINO's ``eval_video_segmentation.py``
    (the defaults) and of CRW (``videowalk``), which SiamMAE and CropMAE use,
    too. What they differ in are arguments; ``configs/vos`` has both.

    Args:
        backbone (dict): The encoder: MMAction2's ``VisionTransformer`` or one
            derived from it; or an image backbone that gives a feature map,
            such as ``ResNet`` or :class:`RawPixels`.
        features (dict): Arguments of :class:`ViTFeatures`: which features of
            which block, and how a frame becomes a tubelet. None for others.
            Defaults to None.
        frames_per_batch (int): Frames encoded at a time. Defaults to 1.
        topk (int): Neighbours that a label is averaged from. Defaults to 5.
        temperature (float): Of their weights. Defaults to 0.1.
        radius (float, optional): How far neighbours may be, in patches; None
            for anywhere. Defaults to 12.
        window (str): ``'square'`` or ``'circle'``, see :class:`Propagation`.
            Defaults to ``'square'``.
        first_local (bool): Whether ``radius`` holds in the first frame, too.
            Defaults to True.
        num_context (int): Frames before, beside the first, to take labels
            from. Defaults to 7.
        pad_context (bool): Whether the first frame stands in for those before
            it, each time as neighbours of its own (CRW). Defaults to False.
        keep_ties (bool): See :class:`Propagation`. Defaults to True.
        codec (dict): Between labels and maps over the grid:
            :class:`SegmentationCodec` or :class:`KeypointCodec`. Defaults to
            the former.
        max_affinities (int): See :class:`Propagation`. Defaults to
            4,000,000.
        data_preprocessor (dict): Defaults to
            :class:`SequenceDataPreprocessor`.
        init_cfg (dict, optional): Initialisation. Defaults to None.

    Raises:
        ValueError: If ``num_context`` is below 0, there are ``features`` for
            an image backbone, or the backbone is an encoder of videos other
            than a ``VisionTransformer``.

    Examples:
        >>> import numpy as np, torch
        >>> from mmaction.structures import ActionDataSample
        >>> model = LabelPropagation(
        ...     backbone=dict(type='RawPixels', patch_size=4))
        >>> mask = np.zeros((16, 16), np.uint8)
        >>> mask[:, 8:] = 1
        >>> sample = ActionDataSample(metainfo=dict(
        ...     original_shape=(16, 16), img_shape=(16, 16)))
        >>> sample.gt_masks = {0: mask}
        >>> video = torch.full((2, 3, 16, 16), 50, dtype=torch.uint8)
        >>> video[:, 0, :, 8:] = 200
        >>> masks = model.predict([video], [sample])[0].pred_masks
        >>> bool((masks == mask).all())
        True
    """

    # Nothing of the encoder may stay random, image backbones included.
    encoder_prefix = 'backbone.'

    def __init__(
        self,
        backbone: dict,
        features: dict | None = None,
        frames_per_batch: int = 1,
        topk: int = 5,
        temperature: float = 0.1,
        radius: float | None = 12,
        window: str = 'square',
        first_local: bool = True,
        num_context: int = 7,
        pad_context: bool = False,
        keep_ties: bool = True,
        codec: dict = dict(type='SegmentationCodec'),
        max_affinities: int = 4_000_000,
        data_preprocessor: dict = dict(type='SequenceDataPreprocessor'),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(MODELS.build(data_preprocessor), init_cfg)
        if num_context < 0:
            raise ValueError(f'num_context must not be below 0: {num_context}')
        self.backbone = MODELS.build(backbone)
        self.features: FrameFeatures
        vit = video_vit_of(self.backbone)
        if vit is not None:
            self.features = ViTFeatures(
                vit, frames_per_batch, **(features or {})
            )
        elif locate_encoder(self.backbone):
            raise ValueError(
                f'{type(self.backbone).__name__} is an encoder of videos, but '
                'none whose blocks can be read: no VisionTransformer.'
            )
        elif features:
            raise ValueError(
                f'{type(self.backbone).__name__} has no choice of features: '
                'leave `features` out.'
            )
        else:
            self.features = MapFeatures(self.backbone, frames_per_batch)
        self.propagation = Propagation(
            topk, temperature, radius, window, keep_ties, max_affinities
        )
        self.first_local = first_local
        self.num_context = num_context
        self.pad_context = pad_context
        self.codec = TASK_UTILS.build(codec)
        self.field = self.codec.field

    @property
    def protocol(self) -> dict[str, Any]:
        """dict: All that decides the result, but the weights."""
        return dict(
            features=self.features.describe(),
            propagation=dict(
                self.propagation.describe(),
                first_local=self.first_local,
                num_context=self.num_context,
                pad_context=self.pad_context,
            ),
            labels=dict(
                type=type(self.codec).__name__, **self.codec.describe()
            ),
            normalisation=self.data_preprocessor.describe(),
        )

    def label_frames(
        self, video: Tensor, sample: ActionDataSample
    ) -> Iterator[np.ndarray]:
        """Propagate the labels of the first frame.

        Args:
            video: (T, 3, H, W), uint8, RGB.
            sample: With what the codec needs of the first frame.

        Yields:
            For each frame what the codec decodes: a mask (H, W), uint8, at
            the original size, or joints (K, 2), float32.

        Raises:
            ValueError: If the encoder's output is not finite.
        """
        codec = self.codec
        late = sample.get('late_masks', {})
        given: list[Frame] = []  # frames whose labels are known
        recent: deque[Frame] = deque(maxlen=self.num_context)
        for number, maps in enumerate(
            self.features(lambda n: self._frames(video, n), len(video))
        ):
            grid = (maps.shape[1], maps.shape[2])
            features = F.normalize(rearrange(maps, 'd h w -> (h w) d'), dim=1)
            broken = ~torch.isfinite(features.sum())
            if number == 0:
                labels, state = codec.encode(sample, grid)
                labels = copy_without_waiting(
                    labels.to(features.dtype), features.device
                )
                doubt = torch.zeros_like(broken)
            else:
                context = [*given, *recent]
                labels, doubt = self.propagation.attempt(
                    features, context, grid
                )
                labels = _as_maps(labels, grid)
            flags = torch.stack((broken, doubt)).to('cpu', non_blocking=True)
            output = codec.decode(labels, state)
            # The labels are here, so the flags are, which came before them.
            broken, doubt = flags
            if broken:
                raise ValueError(
                    f'The features of frame {number} are not finite: are the '
                    'weights of the encoder?'
                )
            if doubt:
                labels = self.propagation(features, context, grid)
                labels = _as_maps(labels, grid)
                output = codec.decode(labels, state)
            if number in late:
                labels, output = codec.insert(
                    labels, output, sample, number, state
                )
            elif number == 0 and codec.first_frame == 'given':
                output = sample.gt_masks[0]
            yield output
            flat = rearrange(labels, 'c h w -> (h w) c')
            if number == 0 or number in late:
                given.append(Frame(features, flat, self.first_local))
            else:
                recent.append(Frame(features, flat, True))
            if number == 0 and self.pad_context:
                recent.extend([Frame(features, flat, True)] * self.num_context)

    def _frames(self, video: Tensor, numbers: Sequence[int]) -> Tensor:
        # An index of numbers would have to be copied to the device.
        frames = torch.stack([video[number] for number in numbers])
        return self.data_preprocessor.normalize(frames)


def _as_maps(labels: Tensor, grid: tuple[int, int]) -> Tensor:
    return rearrange(labels, '(h w) c -> c h w', h=grid[0])
