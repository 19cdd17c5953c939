"""Heat maps of pairs of images, kept beside the descriptors so that a second report finds them."""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from vgbench.data import Split
from vgbench.data.loader import decode_batch
from vgbench.errors import UserError, in_short
from vgbench.files import written_whole
from vgbench.models import Network
from vgbench.models.contribution import mapper_of, pair_contributions
from vgbench.runtime import Runtime

LOG = logging.getLogger(__name__)

SIDE = 24  # cells of a kept map, whatever its own are
_PAIRS_AT_ONCE = 4
_KEPT = 5000


def heat_maps(
    network: Network,
    split: Split,
    pairs: NDArray[np.int64],
    size: tuple[int, int],
    runtime: Runtime,
    cache: Path | None = None,
    seconds: float = float("inf"),
) -> dict[int, NDArray[np.uint8]]:
    """Return where the network sees that a query and its match look alike.

    Args:
        pairs: int64 [M,2], a query's row and a database row.
        size: height and width in pixels that the images are described at.
        cache: a file that keeps the maps; it must be named by what determines them. None to keep nothing.
        seconds: no further map is begun after this time, but for the first few; what was made is kept, so that the
            next call goes on. None is begun where it is not positive.

    Returns:
        query row -> uint8 [2,SIDE,SIDE], the query's map and its match's, 255 where it counts most.
    """
    known = _read(cache)
    missing = [pair for pair in map(tuple, pairs.tolist()) if pair not in known]
    missing = list(dict.fromkeys(missing))
    until = time.perf_counter() + seconds
    if seconds <= 0:
        missing = []
    mapper = mapper_of(network, runtime) if missing else None
    for start in range(0, len(missing), _PAIRS_AT_ONCE):
        if start and time.perf_counter() > until:
            break
        some = missing[start : start + _PAIRS_AT_ONCE]
        rows = np.array(some, np.int64)
        ours = runtime.to_device(decode_batch(split.queries, rows[:, 0], size))
        theirs = runtime.to_device(decode_batch(split.database, rows[:, 1], size))
        maps = torch.stack(pair_contributions(network, ours, theirs, runtime, mapper), dim=1)
        known |= dict(zip(some, _levels(maps), strict=True))
    if known and missing and cache is not None:
        _write(cache, known)
    return {query: known[query, match] for query, match in pairs.tolist() if (query, match) in known}


def _levels(maps: torch.Tensor) -> NDArray[np.uint8]:
    """Bring maps float [B,2,h,w] to one size and to 0..255 each."""
    even = F.interpolate(maps.float(), size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    # From what every position contributes to a little below the top, which one position might hold alone.
    marks = torch.tensor([0.1, 0.99], device=even.device)
    low, high = torch.quantile(even.flatten(2), marks, dim=2)[..., None, None]
    levels = (255 * ((even - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)).round()
    return np.asarray(levels.cpu().numpy(), np.uint8)


def _read(cache: Path | None) -> dict[tuple[int, int], NDArray[np.uint8]]:
    if cache is None or not cache.is_file():
        return {}
    try:
        with np.load(cache) as kept:
            pairs, maps = kept["pairs"], kept["maps"]  # a zip archive has checksums of its own
        whole = pairs.dtype.kind == "i" and pairs.ndim == 2 and pairs.shape[1] == 2
        whole = whole and maps.dtype == np.uint8 and maps.shape == (len(pairs), 2, SIDE, SIDE)
    except Exception as error:  # what a damaged archive makes of its reader
        LOG.warning("%s: damaged (%s); made again", cache, in_short(error))
        return {}
    if not whole:
        LOG.warning("%s: damaged; made again", cache)
        return {}
    return {(int(query), int(match)): one for (query, match), one in zip(pairs, maps, strict=True)}


def _write(cache: Path, known: dict[tuple[int, int], NDArray[np.uint8]]) -> None:
    kept = list(known.items())[-_KEPT:]
    # A cache that cannot be written costs time, not the run.
    with contextlib.suppress(UserError), written_whole(cache) as partial, partial.open("wb") as file:
        np.savez(file, pairs=np.array([pair for pair, _ in kept]), maps=np.stack([one for _, one in kept]))
