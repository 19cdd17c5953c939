"""Hard batches by cliques: against brute force, apart in space, alike in descriptors, drawn again alike."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes import network_of, recipe_of

from vgbench.data.table import ImageTable, TableBuilder
from vgbench.errors import UserError
from vgbench.training.modes.cliques import CliqueBatch, Clusters, cliques, draw_clique_batches, most_similar
from vgbench.training.modes.places_options import PlacesOptions
from vgbench.training.modes.table import build_mode


def joined(utm: np.ndarray, heading: np.ndarray, i: int, j: int) -> bool:
    turned = abs((heading[i] - heading[j] + 180) % 360 - 180)
    return bool(np.hypot(*(utm[i] - utm[j])) < 25 and not turned >= 60)


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(0, 14), st.integers(2, 4), st.integers(40, 120), st.booleans())
def test_cliques_are_whole_apart_and_none_is_left(seed: int, count: int, size: int, side: int, turned: bool) -> None:
    draw = np.random.default_rng(seed)
    utm = draw.random((count, 2)) * side
    heading = draw.choice([0.0, 50.0, 180.0, np.nan], count) if turned else np.full(count, np.nan)
    found = cliques(utm, heading, 25.0, size, count, np.random.default_rng(seed + 1))
    again = cliques(utm, heading, 25.0, size, count, np.random.default_rng(seed + 1))
    assert [one.tolist() for one in found] == [one.tolist() for one in again]
    for one in found:
        assert len(set(one)) == size
        assert all(joined(utm, heading, i, j) for i, j in itertools.combinations(one, 2))
    for one, other in itertools.combinations(found, 2):
        assert all(np.hypot(*(utm[i] - utm[j])) >= 25 for i in one for j in other)
    taken = [i for one in found for i in one]
    left = [i for i in range(count) if all(np.hypot(*(utm[i] - utm[j])) >= 25 for j in taken)]
    assert not any(
        all(joined(utm, heading, i, j) for i, j in itertools.combinations(some, 2))
        for some in itertools.combinations(left, size)
    )
    assert len(cliques(utm, heading, 25.0, size, 1, np.random.default_rng(seed))) == min(1, len(found))


def street(cells: int, each: int, apart: float) -> tuple[ImageTable, np.ndarray]:
    """Images in cells along a street, `each` of them within 5 m."""
    draw, builder = np.random.default_rng(0), TableBuilder()
    labels = np.repeat(np.arange(cells, dtype=np.int64), each)
    for number, cell in enumerate(labels):
        east, north = draw.random(2) * 5
        builder.add(f"{number}.jpg", float(cell * apart + east), float(north), float("nan"), "")
    return builder.build(Path("street")), labels


def test_a_batch_is_of_the_cells_that_look_alike() -> None:
    images, labels = street(60, 5, 40.0)
    clusters = Clusters.of(images, labels, 1000, np.random.default_rng(1))
    looks = torch.nn.functional.one_hot(torch.from_numpy(clusters.chosen) % 6).float()
    looks = torch.nn.functional.normalize(looks + 0.01 * torch.randn(60, 6, generator=torch.Generator().manual_seed(0)))
    wanted = CliqueBatch(places=10, images=4, similar=9, radius=25.0)
    batches = draw_clique_batches(clusters, looks, wanted, 20, np.random.default_rng(2))
    assert len(batches) == 20
    for rows, found in batches:
        assert len(rows) == 40 and len(set(rows)) == 40
        assert found.tolist() == np.repeat(np.arange(10), 4).tolist()
        places = labels[rows].reshape(10, 4)
        assert (places == places[:, :1]).all()  # 40 m apart, a clique is of one cell
        assert len(np.unique(places[:, 0] % 6)) == 1 and len(np.unique(places[:, 0])) == 10
    alike = most_similar(looks, 7, 9)
    assert alike[0] == 7 and set(clusters.chosen[alike] % 6) == {clusters.chosen[7] % 6}
    order = np.argsort(-(looks @ looks[7]).numpy(), kind="stable")
    assert set(alike) == set(order[:10])


def test_places_of_several_draws_lie_apart_too() -> None:
    images, labels = street(40, 6, 10.0)  # cells that overlap
    clusters = Clusters.of(images, labels, 1000, np.random.default_rng(1))
    looks = torch.nn.functional.normalize(torch.randn(40, 4, generator=torch.Generator().manual_seed(0)))
    for rows, found in draw_clique_batches(clusters, looks, CliqueBatch(9, 4, 2, 25.0), 10, np.random.default_rng(5)):
        between = np.linalg.norm(images.utm[rows][:, None] - images.utm[rows][None], axis=2)
        same = found[:, None] == found[None]
        assert (between[same] < 25).all() and (between[~same] >= 25).all() and found.max() >= 1


def test_cells_and_images_are_limited() -> None:
    images, labels = street(3, 200, 100.0)
    clusters = Clusters.of(images, labels, 2, np.random.default_rng(0))
    assert len(clusters.chosen) == 2 and len(clusters.images_of([0, 1], np.random.default_rng(0))) == 128
    rows = clusters.samples(np.random.default_rng(3))
    assert labels[rows].tolist() == clusters.chosen.tolist()
    empty = draw_clique_batches(clusters, torch.eye(2), CliqueBatch(4, 300, 1, 25.0), 3, np.random.default_rng(0))
    assert empty == []


def hard(root: Path, **places: Any) -> Any:
    options = PlacesOptions(
        place_batches="cliques", img_per_place=3, places_per_batch=3, clique_similar=4, passes_per_epoch=2, **places
    )  # fmt: skip
    return build_mode(recipe_of(root, "places", places=options))


def test_a_pass_depends_on_the_network_and_its_place_in_the_run_alone(tiny_dataset: Path) -> None:
    def drawn(mode: Any, network: Any, epoch: int, index: int) -> list[list[int]]:
        return [rows.tolist() for rows, _ in mode.round(network, epoch, index).dataset.batches]

    mode, network = hard(tiny_dataset, clique_batches=4), network_of()
    first = drawn(mode, network, 0, 0)
    assert len(first) == 4 and "cliques of 3 images within 25 m" in mode.summary()
    assert drawn(mode, network, 0, 1) != first
    assert drawn(hard(tiny_dataset, clique_batches=4), network_of(), 0, 0) == first
    for rows, labels in mode.round(network, 0, 0).dataset.batches:
        utm = mode.images.utm[rows]
        between = np.linalg.norm(utm[:, None] - utm[None], axis=2)
        same = labels[:, None] == labels[None]
        assert (between[same] < 25).all() and (between[~same] >= 25).all()
    assert len(hard(tiny_dataset).round(network, 0, 0)) == -(-len(mode.images) // 9)


def test_what_cannot_be_is_refused(tiny_dataset: Path) -> None:
    with pytest.raises(UserError, match="--min_img_per_place 9: is of passes"):
        hard(tiny_dataset, min_img_per_place=9)
    with pytest.raises(UserError, match=r"--place_spread 50\.0: is of passes"):
        hard(tiny_dataset, place_spread=50.0)
    with pytest.raises(UserError, match="--loss ProxyAnchor: learns something of each place"):
        hard(tiny_dataset, loss="ProxyAnchor", miner="none")
    with pytest.raises(UserError, match=r"--place_batches cliques: no two places of 3 images within 0\.01 m"):
        hard(tiny_dataset, place_gap=0.01).round(network_of(), 0, 0)
