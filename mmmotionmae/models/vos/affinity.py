# Copyright (c) MotionMAE contributors. All rights reserved.
"""Labels from the frames before, by the affinity of features.

Shapes: Q queries, N context frames, K cells of each that are compared, L = h*w
cells of the grid, D channels of the features, C of the labels, k neighbours.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..utils.linear import linear


class Frame(NamedTuple):
    """A frame of the context.

    Attributes:
        features: (L, D), of length 1.
        labels: (L, C), soft.
        local: Whether only cells near the query are compared.
    """

    features: Tensor
    labels: Tensor
    local: bool


@dataclass(frozen=True)
class Propagation:
    """Each cell's label is that of its nearest neighbours in the context.

    With a the cosine of two features: of all cells of all context frames the
    k with the largest a are taken, and their labels averaged with weights
    softmax(a / temperature).

    Attributes:
        topk: k.
        temperature: Of the softmax.
        radius: How far, in cells, a local frame's cells may be from the
            query. None: any distance.
        window: ``'square'``: rows and columns each differ by at most
            ``radius`` (DINO). ``'circle'``: the distance is less than
            ``radius`` (CRW).
        keep_ties: Whether all cells as near as the k-th are taken (DINO), or
            k, whichever (CRW).
        max_affinities: How many affinities are held in memory at a time;
            as many queries are done at once.

    Raises:
        ValueError: If an argument is out of range.
    """

    topk: int
    temperature: float
    radius: float | None
    window: str
    keep_ties: bool
    max_affinities: int = 4_000_000

    def __post_init__(self) -> None:
        if self.window not in ('square', 'circle'):
            raise ValueError(
                f"window must be 'square' or 'circle'; got {self.window!r}."
            )
        for name in ('topk', 'temperature', 'radius', 'max_affinities'):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f'{name} must be above 0; got {value}.')

    def describe(self) -> dict:
        """Description of what decides the result, for the results."""
        description = asdict(self)
        del description['max_affinities']
        return description

    def __call__(
        self, features: Tensor, context: Sequence[Frame], grid: tuple[int, int]
    ) -> Tensor:
        """Label a frame.

        Args:
            features: (L, D), of length 1.
            context: The frames to take labels from.
            grid: (h, w).

        Returns:
            (L, C).
        """
        return self._label(features, context, grid)

    def attempt(
        self, features: Tensor, context: Sequence[Frame], grid: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Label a frame without a wait for the device.

        How many cells are as near as the k-th, the host would have to wait
        to learn. So room is left for one more than k; where that is not
        enough, which is rare but in flat colours, a call has to do it again.
        On a CPU nobody waits, and the labels are always right.

        Args:
            features: As in a call.
            context: Likewise.
            grid: Likewise.

        Returns:
            (L, C), and a bool scalar on the device: whether they are *not*
            those of a call.
        """
        doubts: list[Tensor] | None = None
        if features.device.type != 'cpu':
            doubts = []
        labels = self._label(features, context, grid, doubts)
        if doubts:
            return labels, torch.stack(doubts).any()
        return labels, features.new_zeros((), dtype=torch.bool)

    def _label(
        self,
        features: Tensor,
        context: Sequence[Frame],
        grid: tuple[int, int],
        doubts: list[Tensor] | None = None,
    ) -> Tensor:
        """Label a frame; what would need a wait is added to ``doubts``."""
        h, w = grid
        groups = [
            [frame for frame in context if frame.local is local]
            for local in (True, False)
        ]
        labels = torch.stack(
            [frame.labels for group in groups for frame in group]
        ).flatten(0, 1)
        rows = max(1, self.max_affinities // (len(context) * h * w * w))
        return torch.cat(
            [
                self._label_rows(
                    features, groups, labels, grid, top, rows, doubts
                )
                for top in range(0, h, rows)
            ]
        )

    def _label_rows(
        self,
        features: Tensor,
        groups: Sequence[Sequence[Frame]],
        labels: Tensor,
        grid: tuple[int, int],
        top: int,
        rows: int,
        doubts: list[Tensor] | None,
    ) -> Tensor:
        """Label some rows of the grid; ``labels`` (N * L, C): all frames'."""
        h, w = grid
        bottom = min(top + rows, h)
        query = features[top * w : bottom * w]
        found = []
        offset = 0
        for group in groups:
            if not group:
                continue
            first, last = 0, h  # rows of the keys
            near = None
            if group[0].local and self.radius is not None:
                reach = int(self.radius)
                first, last = max(0, top - reach), min(h, bottom + reach)
                near = self._near(
                    (top, bottom), (first, last), w, query.device
                )
            affinities = [
                linear(query, frame.features[first * w : last * w])
                for frame in group
            ]
            values, number, cell = self._nearest(affinities, near, doubts)
            place = offset + number * (h * w) + first * w + cell
            found.append((values, place))
            offset += len(group) * h * w
        values = torch.cat([values for values, _ in found], 1)
        places = torch.cat([places for _, places in found], 1)
        if not self.keep_ties:
            values, order = values.topk(min(self.topk, values.shape[1]))
            places = places.gather(1, order)
        else:
            values = values.masked_fill(
                values < _kth(values, self.topk), -torch.inf
            )
        weights = (values / self.temperature).softmax(1)
        return torch.einsum('qk,qkc->qc', weights, labels[places])

    def _near(
        self,
        query_rows: tuple[int, int],
        key_rows: tuple[int, int],
        w: int,
        device: torch.device,
    ) -> Tensor:
        """Mask of the cells that are near: (Q, K), bool."""
        dy = torch.arange(*query_rows, device=device)[:, None] - torch.arange(
            *key_rows, device=device
        )
        column = torch.arange(w, device=device)
        dx = column[:, None] - column
        dy, dx = dy[:, None, :, None], dx[None, :, None, :]
        assert self.radius is not None
        if self.window == 'square':
            near = (dy.abs() <= self.radius) & (dx.abs() <= self.radius)
        else:
            near = dy**2 + dx**2 < self.radius**2
        return near.flatten(2).flatten(0, 1)

    def _nearest(
        self,
        affinities: Sequence[Tensor],
        near: Tensor | None,
        doubts: list[Tensor] | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Find the largest affinities of each query.

        The k largest lie in those k places of the grid whose maximum over
        the frames is largest, so that few are to be sorted.

        Args:
            affinities: (Q, K) for each of the N frames.
            near: (Q, K), bool, or None: all are.
            doubts: Where to note, on the device, whether there are more ties
                than are returned. None: all are.

        Returns:
            Affinities, -inf where there are too few, numbers of the frames
            and cells among the K, each (Q, M), M >= k or all there are.
        """
        # 1. For each query and cell the largest over the frames. In place: a
        # stack of all N would be N times the memory.
        maxima = affinities[0].clone()
        for affinity in affinities[1:]:
            torch.maximum(maxima, affinity, out=maxima)
        if near is not None:
            maxima.masked_fill_(~near, -torch.inf)
        # 2. The k best cells by that. Whatever is among the k largest of all
        # N * K is in one of them: a cell outside has k cells before it, each
        # with a value at least as large. One cell more than k shows whether
        # others equal the k-th.
        number = min(self.topk + self.keep_ties, maxima.shape[1])
        largest, cells = maxima.topk(number)
        # 3. All N values of these cells, few enough to be sorted.
        values = _gather(affinities, largest, cells)
        if self.keep_ties:
            # Cells beyond k may hold ties of the k-th value, never of -inf.
            kth = _kth(values.flatten(1), self.topk)
            kth = kth.clamp_min(torch.finfo(kth.dtype).min)
            more = (largest[:, self.topk :] >= kth).any()
            if doubts is not None:
                doubts.append(more)
            elif bool(more):
                most = int((maxima >= kth).sum(1).max())
                largest, cells = maxima.topk(most)
                values = _gather(affinities, largest, cells)
        frames = torch.arange(len(affinities), device=cells.device)
        return (
            values.flatten(1),
            frames.expand_as(values).flatten(1),
            cells[..., None].expand_as(values).flatten(1),
        )


def _gather(
    affinities: Sequence[Tensor], largest: Tensor, cells: Tensor
) -> Tensor:
    """The affinities in some cells, -inf where the largest is: (Q, k, N).

    Args:
        affinities: N times (Q, K).
        largest: (Q, k), the maximum over the frames.
        cells: (Q, k), numbers of cells.
    """
    values = torch.stack([a.gather(1, cells) for a in affinities], 2)
    return values.masked_fill_((largest == -torch.inf)[..., None], -torch.inf)


def _kth(values: Tensor, k: int) -> Tensor:
    """The k-th largest of each row, or the least: (Q, M) to (Q, 1)."""
    return values.topk(min(k, values.shape[1])).values[:, -1:]
