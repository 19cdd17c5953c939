"""What each database image costs as the place of a frame, given the frames around it.

A method takes
    distances: float32 [n,N], of n frames that follow each other to the N database images in the order of `walk`;
    at: which of the frames is asked for, 0 to n-1;
    walk: the database's order, whose ends a path does not leave: what would go beyond stays at the end;
    options: of sequences;
and returns float64 [N], a weighted mean of distances along what fits best, so that one frame alone costs its distances.

Sources: M. Milford, G. Wyeth, "SeqSLAM" (ICRA 2012), for lines of constant speed; M. Xu, N. Sünderhauf, M. Milford,
"Probabilistic Visual Place Recognition for Hierarchical Localization" (RA-L 2020), for a likelihood exp(-lambda d)
whose lambda makes the nearest images some times likelier than the farthest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vgbench.data.walk import Walk
from vgbench.retrieval.sequence.options import SequenceOptions

_SPEEDS = 11  # lines that are tried, from the slowest to the fastest
_QUANTILES = (2.5, 97.5)


def window(distances: NDArray[np.float32], at: int, walk: Walk, options: SequenceOptions) -> NDArray[np.float64]:
    """Return the least mean of distances along a line of constant speed through frame `at`."""
    away = np.arange(len(distances)) - at
    slow, fast = options.seq_velocity
    lines = {tuple(np.rint(speed * away).astype(int).tolist()) for speed in np.linspace(slow, fast, _SPEEDS)}
    places = {step: walk.shifted(step) for line in lines for step in line}
    best = np.full(distances.shape[1], np.inf)
    for line in lines:
        total = np.zeros(distances.shape[1])
        for frame, step in zip(distances, line, strict=True):
            total += frame[places[step]]
        np.minimum(best, total, out=best)
    return best / len(distances)


def viterbi(distances: NDArray[np.float32], at: int, walk: Walk, options: SequenceOptions) -> NDArray[np.float64]:
    """Return the cost of the best path through all frames that is at each image in frame `at`.

    From one frame to the next a path goes on by a step of `--seq_band`.
    """
    scale = sharpness(distances, options.seq_contrast)
    costs = scale[:, None] * distances
    before, after = _neighbours(walk, options)
    past = costs[0]
    for frame in costs[1 : at + 1]:
        past = frame + np.min([past[place] for place in before], axis=0)
    future = np.zeros(distances.shape[1])
    for frame in costs[:at:-1]:
        ahead = frame + future
        future = np.min([ahead[place] for place in after], axis=0)
    return np.asarray((past + future) / scale.sum())


def forward_filter(
    distances: NDArray[np.float32], at: int, walk: Walk, options: SequenceOptions
) -> NDArray[np.float64]:
    """Return minus the logarithm of the probability of being at each image, given the frames up to `at`.

    It starts from all images alike at the first frame, and goes on by the steps of `--seq_band`, all alike.
    """
    scale = sharpness(distances, options.seq_contrast)[: at + 1]
    costs = scale[:, None] * distances[: at + 1]
    before, _ = _neighbours(walk, options)
    score = -costs[0]
    for frame in costs[1:]:
        came = np.stack([score[place] for place in before])
        highest = came.max(axis=0)
        score = highest + np.log(np.exp(came - highest).mean(axis=0)) - frame
    return np.asarray(-score / scale.sum())


def sharpness(distances: NDArray[np.float32], contrast: float) -> NDArray[np.float64]:
    """Return lambda of each frame, float64 [n]: exp(-lambda d) is `contrast` times larger for the near than the far."""
    near, far = np.percentile(distances.astype(np.float64), _QUANTILES, axis=1)
    span = far - near
    return np.asarray(np.log(contrast) / np.where(span > 0, span, 1.0), np.float64)


def _neighbours(walk: Walk, options: SequenceOptions) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """Return where a path may have come from, and where it may go: int64 [N] for each step of the band."""
    steps = range(options.seq_band[0], options.seq_band[1] + 1)
    return [walk.shifted(-step) for step in steps], [walk.shifted(step) for step in steps]
