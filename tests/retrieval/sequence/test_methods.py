"""Sequence methods against every path written out, on small random distances."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vgbench.data.walk import Walk
from vgbench.retrieval.sequence.methods import forward_filter, sharpness, viterbi, window
from vgbench.retrieval.sequence.options import SequenceOptions

METHODS = {"window": window, "viterbi": viterbi, "filter": forward_filter}


def walk_of_lengths(*lengths: int) -> Walk:
    ends = np.repeat(np.cumsum(lengths), lengths)
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return Walk("list", np.arange(sum(lengths)), starts, ends)


def drawn(seed: int, frames: int, images: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.2, 1.4, (frames, images)).astype(np.float32)


def moved(place: int, step: int, walk: Walk) -> int:
    return min(max(place + step, int(walk.starts[place])), int(walk.ends[place]) - 1)


CASES = given(seed=st.integers(0, 9999), frames=st.integers(1, 4), data=st.data())


@settings(max_examples=25, deadline=None)
@CASES
def test_window_is_the_best_line(seed: int, frames: int, data: st.DataObject) -> None:
    walk, at = walk_of_lengths(5, 3), data.draw(st.integers(0, frames - 1))
    distances = drawn(seed, frames, 8)
    found = window(distances, at, walk, SequenceOptions(sequence="window", seq_velocity=(0.5, 2.0)))
    for place in range(8):
        lines = []
        for speed in np.linspace(0.5, 2.0, 11):
            steps = [int(np.rint(speed * (frame - at))) for frame in range(frames)]
            cells = [distances[frame, moved(place, step, walk)] for frame, step in enumerate(steps)]
            lines.append(math.fsum(map(float, cells)) / frames)
        assert found[place] == pytest.approx(min(lines), rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999), frames=st.integers(1, 4), data=st.data())
def test_viterbi_is_the_best_of_all_paths(seed: int, frames: int, data: st.DataObject) -> None:
    walk, at = walk_of_lengths(5, 3), data.draw(st.integers(0, frames - 1))
    distances = drawn(seed, frames, 8)
    options = SequenceOptions(sequence="viterbi", seq_band=(-1, 2))
    found = viterbi(distances, at, walk, options)
    scale = sharpness(distances, options.seq_contrast)
    for place in range(8):
        totals = []
        for steps in itertools.product(range(-1, 3), repeat=frames - 1):
            total, here = float(scale[at] * distances[at, place]), place
            for frame in range(at - 1, -1, -1):
                here = moved(here, -steps[frame], walk)
                total += float(scale[frame] * distances[frame, here])
            here = place
            for frame in range(at + 1, frames):
                here = moved(here, steps[frame - 1], walk)
                total += float(scale[frame] * distances[frame, here])
            totals.append(total)
        assert found[place] == pytest.approx(min(totals) / scale.sum(), rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999), frames=st.integers(1, 4), ahead=st.integers(0, 2))
def test_filter_sums_the_probabilities_of_all_paths(seed: int, frames: int, ahead: int) -> None:
    walk, at = walk_of_lengths(5, 3), frames - 1
    distances = drawn(seed, frames + ahead, 8)
    options = SequenceOptions(sequence="filter", seq_band=(0, 2), seq_contrast=9.0)
    found = forward_filter(distances, at, walk, options)
    scale = sharpness(distances, options.seq_contrast)[:frames]
    for place in range(8):
        chance = 0.0
        for steps in itertools.product(range(3), repeat=frames - 1):
            here, one = place, math.exp(-scale[at] * distances[at, place])
            for frame in range(at - 1, -1, -1):
                here = moved(here, -steps[frame], walk)
                one *= math.exp(-scale[frame] * distances[frame, here]) / 3
            chance += one
        assert found[place] == pytest.approx(-math.log(chance) / scale.sum(), rel=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 9999), name=st.sampled_from(sorted(METHODS)), images=st.integers(1, 9))
def test_one_frame_costs_its_distances(seed: int, name: str, images: int) -> None:
    distances = drawn(seed, 1, images)
    found = METHODS[name](distances, 0, walk_of_lengths(images), SequenceOptions(sequence=name))
    np.testing.assert_allclose(found, distances[0], rtol=1e-6)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_frame_that_shows_nothing_is_placed_by_those_around_it(name: str) -> None:
    distances = np.full((5, 20), 1.0, np.float32)
    for frame in range(5):
        distances[frame, 8 + frame] = 0.3
    at = 4 if name == "filter" else 2
    distances[at, 8 + at] = 1.0
    distances[at, 1] = 0.9  # alone, it would be placed here
    found = METHODS[name](distances, at, walk_of_lengths(20), SequenceOptions(sequence=name))
    # All steps of the band are alike: the images beside it are as good for viterbi.
    assert abs(int(found.argmin()) - (8 + at)) <= (name == "viterbi")


def test_sharpness_is_what_contrast_says() -> None:
    distances = drawn(0, 3, 400)
    scale = sharpness(distances, 7.0)
    for frame, one in zip(distances.astype(np.float64), scale, strict=True):
        near, far = np.quantile(frame, [0.025, 0.975])
        assert math.exp(-one * near) / math.exp(-one * far) == pytest.approx(7.0)
    assert sharpness(np.full((1, 4), 0.5, np.float32), 7.0)[0] == pytest.approx(math.log(7.0))
