"""Pictures of what training looks at, for TensorBoard: rows of photographs with coloured borders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from vgbench.data.augment import resize_batch
from vgbench.data.decode import decode_image
from vgbench.data.protocol import Split
from vgbench.data.triplets import Triplets

# Rows of a grid, and height and width of its photographs in pixels.
ROWS, SIZE = 4, (120, 160)
# Photographs beside the first two of a row.
HARDEST = 5

BLUE, GREEN, RED = (9, 105, 218), (26, 127, 55), (207, 34, 46)
_BORDER, _GAP = 4, 4


@runtime_checkable
class Shows(Protocol):
    """A way to train that has something to look at; ways that have nothing just leave `pictures` out."""

    def pictures(self) -> Mapping[str, Tensor]:
        """Return pictures of the last round, by title: uint8 [3,H,W]; {} where there is nothing to see."""
        ...


def grid(rows: Sequence[Sequence[tuple[Tensor, tuple[int, int, int]]]]) -> Tensor:
    """Set photographs of one size into rows, each in a border of its colour, the rest white.

    Args:
        rows: photographs uint8 [3,h,w] and the RGB of their borders; rows may differ in length.

    Returns:
        uint8 [3,H,W] on the CPU.

    Raises:
        ValueError: there is no photograph.
    """
    if not any(rows):
        raise ValueError("no photographs")
    height, width = next(photo.shape[1:] for row in rows for photo, _ in row)
    down, right = height + 2 * _BORDER + _GAP, width + 2 * _BORDER + _GAP
    out = torch.full((3, len(rows) * down - _GAP, max(map(len, rows)) * right - _GAP), 255, dtype=torch.uint8)
    for number, row in enumerate(rows):
        for place, (photo, colour) in enumerate(row):
            tile = torch.tensor(colour, dtype=torch.uint8)[:, None, None].repeat(1, down - _GAP, right - _GAP)
            tile[:, _BORDER:-_BORDER, _BORDER:-_BORDER] = photo.cpu()
            top, left = number * down, place * right
            out[:, top : top + down - _GAP, left : left + right - _GAP] = tile
    return out


def triplet_grid(split: Split, triplets: Triplets, rows: int = ROWS) -> Tensor:
    """Show the first triplets: query (blue), positive (green), hardest negatives (red), hardest first.

    Returns:
        uint8 [3,H,W].

    Raises:
        UserError: an image cannot be read.
        ValueError: there is no triplet.
    """
    lines = []
    for query, positive, negatives in zip(
        triplets.query[:rows], triplets.positive[:rows], triplets.negatives[:rows, :HARDEST], strict=True
    ):
        database = [(decode_image(split.database.path(int(row)), SIZE), RED) for row in negatives]
        lines.append(
            [
                (decode_image(split.queries.path(int(query)), SIZE), BLUE),
                (decode_image(split.database.path(int(positive)), SIZE), GREEN),
                *database,
            ]
        )
    return grid(lines)


@torch.no_grad()
def hardest_grid(images: Tensor, labels: Tensor, descriptors: Tensor, rows: int = ROWS) -> Tensor | None:
    """Show where a batch is most confused: images (blue), their farthest own (green), the nearest of others (red).

    The rows are the images whose nearest of another place comes closest, compared with the farthest of their own.

    Args:
        images: uint8 [B,3,H,W].
        labels: int64 [B], the place of each.
        descriptors: float [B,D].

    Returns:
        uint8 [3,H,W] on the CPU; None where no image has both another of its place and one of another place.
    """
    distances = torch.cdist(descriptors.float(), descriptors.float())
    same = labels[:, None] == labels[None]
    own = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    farthest, positive = distances.masked_fill(~own, -torch.inf).max(1)
    others = distances.masked_fill(same, torch.inf)
    count = min(HARDEST, len(labels))
    nearest, negatives = others.topk(count, dim=1, largest=False)
    trouble = (farthest - nearest[:, 0]).masked_fill(~own.any(1) | same.all(1), -torch.inf)
    worst = trouble.argsort(descending=True, stable=True)[:rows]
    worst = worst[trouble[worst] > -torch.inf]
    if not len(worst):
        return None
    lines = []
    for row in worst.tolist():
        real = negatives[row][nearest[row] < torch.inf].tolist()
        photos = resize_batch(images[[row, int(positive[row]), *real]], SIZE)
        lines.append(list(zip(photos, [BLUE, GREEN, *[RED] * len(real)], strict=True)))
    return grid(lines)
