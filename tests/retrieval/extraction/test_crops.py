"""Test methods and scales: the pixels that are described, and how descriptors become one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vgbench.data import ImageTable, decode_image, read_folder
from vgbench.errors import UserError
from vgbench.retrieval import EvalOptions
from vgbench.retrieval.extraction.crops import Views, pool, views_of
from vgbench.retrieval.extraction.extract import Count, StoredForm, extract
from vgbench.retrieval.extraction.extract_crops import describe_views
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.query_methods import QUERY_METHODS
from vgbench.retrieval.query_methods.maj_voting import MajorityVoting
from vgbench.retrieval.query_methods.nearest_crop import NearestCrop
from vgbench.runtime import Inference

Make = Callable[..., Any]
SIZE = (24, 32)


@pytest.fixture
def mixed(tmp_path: Path) -> ImageTable:
    """Nine images of four sizes, noisy, in no order of size."""
    shapes = [(60, 40), (40, 60), (50, 50), (60, 40), (48, 36), (40, 60), (60, 40), (50, 50), (40, 60)]
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number, shape in enumerate(shapes):
        pixels = np.random.default_rng(number).integers(0, 256, (*shape, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"@{500000 + number}@4000000@.png")
    return read_folder(folder)


def run(network: Any, table: ImageTable, views: Views, batch_size: int = 2) -> tuple[list[int], torch.Tensor]:
    rows = np.arange(len(table), dtype=np.int64)
    found = list(describe_views(network, table, rows, views, Inference(None, batch_size)))
    return [int(r) for part, _ in found for r in part], torch.cat([descriptors for _, descriptors in found])


def described(network: Any, image: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = network.eval()(image[None])[0]
    return result


def shorter_to(path: Path, side: int) -> torch.Tensor:
    with Image.open(path) as image:
        width, height = image.size
    size = (side, int(side * width / height)) if height <= width else (int(side * height / width), side)
    return decode_image(path, size)


def five(image: torch.Tensor, side: int) -> list[torch.Tensor]:
    _, height, width = image.shape
    top, left = round((height - side) / 2), round((width - side) / 2)
    places = [(0, 0), (0, width - side), (height - side, 0), (height - side, width - side), (top, left)]
    return [image[:, y : y + side, x : x + side] for y, x in places]


def expected(network: Any, path: Path, method: str) -> torch.Tensor:
    """One image at a time, from its own definition: float32 [described,D]."""
    side = min(SIZE)
    if method == "hard_resize":
        return described(network, decode_image(path, SIZE))[None]
    if method == "flip":
        image = decode_image(path, SIZE)
        both = torch.stack([described(network, image), described(network, image.flip(2))])
        return F.normalize(both.mean(0), dim=0)[None]
    if method == "single_query":
        return described(network, shorter_to(path, side))[None]
    if method == "central_crop":
        image = decode_image(path, None)
        scale = max(SIZE[0] / image.shape[1], SIZE[1] / image.shape[2])
        size = [int(side * scale + 1e-9) for side in image.shape[1:]]
        image = F.interpolate(image[None], size=size)[0]
        top, left = (round((have - want) / 2) for have, want in zip(size, SIZE, strict=True))
        return described(network, image[:, top : top + SIZE[0], left : left + SIZE[1]])[None]
    crops = torch.stack([described(network, crop) for crop in five(shorter_to(path, side), side)])
    return F.normalize(crops.mean(0), dim=0)[None] if method == "five_crops" else crops


@pytest.mark.parametrize("method", list(QUERY_METHODS))
@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_each_method_describes_what_it_says(
    mixed: ImageTable, make_network: Make, method: str, batch_size: int
) -> None:
    network = make_network()
    _, views = views_of(EvalOptions(test_method=method), network, SIZE)
    order, found = run(network, mixed, views, batch_size)
    assert order == list(range(len(mixed)))
    wanted = torch.cat([expected(network, mixed.path(row), method) for row in order])
    assert len(found) == len(mixed) * views.described
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_only_flip_describes_the_database_as_it_does_queries(mixed: ImageTable, make_network: Make) -> None:
    network = make_network()
    for method in QUERY_METHODS:
        database, queries = views_of(EvalOptions(test_method=method), network, SIZE)
        alike = method in ("flip", "hard_resize")
        assert (database.facts() == queries.facts()) is alike
        if not alike:
            assert database.facts() == views_of(EvalOptions(), network, SIZE)[0].facts()


def test_images_of_one_size_share_a_batch(mixed: ImageTable, make_network: Make) -> None:
    network = make_network()
    shapes: list[tuple[int, ...]] = []
    network.backbone.register_forward_pre_hook(lambda module, inputs: shapes.append(tuple(inputs[0].shape)))
    _, views = views_of(EvalOptions(test_method="single_query"), network, SIZE)
    import vgbench.retrieval.extraction.extract_crops as module

    seen: list[int] = []
    real = module.for_inference
    module.for_inference = lambda *args: lambda images: (seen.append(len(images)), real(*args)(images))[1]  # type: ignore
    try:
        run(network, mixed, views, 4)
    finally:
        module.for_inference = real
    assert sorted(seen) == [1, 2, 3, 3]  # one batch for each of the four sizes, not one per image


@pytest.mark.parametrize("pooling", ["mean", "max", "gem", "concat"])
def test_scales_are_pooled(mixed: ImageTable, make_network: Make, pooling: str) -> None:
    network = make_network()
    options = EvalOptions(scales=(0.5, 1.0, 2.0), scale_pooling=pooling)
    database, queries = views_of(options, network, SIZE)
    assert database.sizes == ((12, 16), (24, 32), (48, 64))
    assert database.sizes == queries.sizes
    _, found = run(network, mixed, database)
    for row in range(len(mixed)):
        largest = decode_image(mixed.path(row), (48, 64))
        each = torch.stack(
            [
                described(network, F.interpolate(largest[None], size=size, mode="bilinear", antialias=True)[0])
                for size in database.sizes
            ]
        )
        wanted = {
            "mean": each.mean(0),
            "max": each.max(0).values,
            "gem": (each**3).mean(0).sign() * (each**3).mean(0).abs() ** (1 / 3),
            "concat": each.flatten(),
        }[pooling]
        torch.testing.assert_close(found[row], F.normalize(wanted, dim=0), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("preset", "count"), [("down", 4), ("up", 4), ("random_crop", 5)])
def test_presets(mixed: ImageTable, make_network: Make, preset: str, count: int) -> None:
    network = make_network()
    sizes: list[tuple[int, ...]] = []

    def look(images: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(images.shape[2:]))
        return torch.nn.functional.normalize(images.float().mean((2, 3)), dim=1)

    views, _ = views_of(EvalOptions(multi_scale=preset, scale_pooling="concat"), network, (480, 640))
    images = torch.randint(0, 256, (2, 3, *views.decoded((100, 100))), dtype=torch.uint8)
    assert views.describe(look, images).shape == (2, 3 * count) == (2, views.dim(3))
    named = {
        "down": [(480, 640), (400, 534), (343, 458), (332, 427)],
        "up": [(480, 640), (576, 768), (672, 896), (720, 960)],
        "random_crop": [(320, 430)] * 5,
    }
    assert sizes == named[preset]


def test_random_crops_differ_from_one_another_and_not_from_run_to_run(make_network: Make) -> None:
    views, _ = views_of(EvalOptions(multi_scale="random_crop", scale_pooling="concat"), make_network(), (480, 640))
    images = torch.arange(480 * 640).remainder(251).reshape(1, 1, 480, 640).expand(1, 3, -1, -1).to(torch.uint8)
    corners: list[int] = []
    for _ in range(2):
        views.describe(lambda part: (corners.append(int(part[0, 0].sum())), torch.ones(1, 3))[1], images)
    assert corners[:5] == corners[5:]
    assert len(set(corners)) == 5


def test_sizes_are_rounded_to_what_the_network_takes(mixed: ImageTable, make_network: Make) -> None:
    network = make_network()
    network.backbone.multiple = 7
    seen: list[tuple[int, ...]] = []
    for method in ("single_query", "five_crops", "central_crop", "flip"):
        options = EvalOptions(test_method=method, scales=(1.0, 0.6))
        _, views = views_of(options, network, (28, 42))
        for shape in ((60, 40), (41, 77)):
            images = torch.zeros(1, 3, *views.decoded(shape), dtype=torch.uint8)
            views.describe(lambda part: (seen.append(tuple(part.shape[2:])), torch.ones(len(part), 2))[1], images)
    assert seen
    assert all(height % 7 == 0 and width % 7 == 0 for height, width in seen)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"test_method": "flip"}),
        ({"test_method": "five_crops"}, {"test_method": "nearest_crop"}),
        ({"scales": (1.0, 0.5)}, {"scales": (1.0, 0.7)}),
        ({"scales": (1.0, 0.5)}, {"scales": (1.0, 0.5), "scale_pooling": "max"}),
        ({"scales": (1.0, 0.5), "scale_pooling": "concat"}, {"scales": (0.5, 1.0), "scale_pooling": "concat"}),
    ],
)
def test_other_views_are_never_taken_for_the_same(
    tmp_path: Path, mixed: ImageTable, make_network: Make, first: dict[str, Any], second: dict[str, Any]
) -> None:
    network, prints = make_network(), []
    for number, options in enumerate((first, second, first)):
        _, views = views_of(EvalOptions(**options), network, SIZE)
        with extract(
            network, mixed, tmp_path / f"{number}.h5", Inference(SIZE, 4), form=StoredForm(views=views),
        ) as stored:  # fmt: skip
            prints.append(stored.fingerprint)
            assert stored.shape == (9 * views.described, views.dim(6))
    assert prints[0] == prints[2] != prints[1]


def test_an_interrupted_extraction_of_views_continues_to_the_same(
    tmp_path: Path, mixed: ImageTable, make_network: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vgbench.retrieval.extraction.extract_crops as module

    monkeypatch.setattr(module, "GATHERED", 2)
    monkeypatch.setattr(sys.modules["vgbench.retrieval.extraction.extract"], "GATHERED", 2)
    network = make_network()
    _, views = views_of(EvalOptions(test_method="nearest_crop"), network, SIZE)
    how, form = Inference(SIZE, 2), StoredForm(views=views)
    with extract(network, mixed, tmp_path / "whole.h5", how, form=form) as stored:
        whole = stored.read()
    count = [0]

    def stop(images: int) -> None:
        count[0] += images
        if count[0] > 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(network, mixed, tmp_path / "d.h5", how, form=form, count=Count(described=stop))
    skipped: list[int] = []
    with extract(network, mixed, tmp_path / "d.h5", how, form=form, count=Count(skipped=skipped.append)) as stored:
        assert torch.equal(stored.read(), whole)
    assert skipped in ([4], [8])  # whole windows of four images


def slow_merge(method: Any, indices: np.ndarray, distances: np.ndarray, weight: float | None) -> list[list[int]]:
    """The definition, one query at a time, in plain Python."""
    merged = []
    crops, depth = method.described, indices.shape[1]
    for start in range(0, len(indices), crops):
        scores = {}
        squared = distances[start : start + crops].astype(np.float64) ** 2
        for n in (1, 5, 10) if weight is not None else ():
            shown = indices[start : start + crops, :n].ravel().tolist()
            for crop in range(crops):
                for rank in range(min(n, depth)):
                    votes = shown.count(indices[start + crop, rank])
                    if votes > 1:
                        squared[crop, rank] -= weight * votes / n
        for crop in range(crops):
            for rank in range(depth):
                image = int(indices[start + crop, rank])
                scores[image] = min(scores.get(image, np.inf), squared[crop, rank])
        merged.append([image for image, _ in sorted(scores.items(), key=lambda pair: pair[1])][:depth])
    return merged


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 14), st.sampled_from([0.0, 0.01, 0.5]))
def test_merging_is_as_defined(seed: int, depth: int, weight: float) -> None:
    random = np.random.default_rng(seed)
    indices = np.stack([random.permutation(20)[:depth] for _ in range(15)]).astype(np.int64)
    distances = np.sort(random.random((15, depth)), axis=1).astype(np.float32)
    predictions = Predictions(indices, distances)
    nearest, voting = NearestCrop(), MajorityVoting(majority_weight=weight)
    assert nearest.merge(predictions).indices.tolist() == slow_merge(nearest, indices, distances, None)
    assert voting.merge(predictions).indices.tolist() == slow_merge(voting, indices, distances, weight)


def test_one_scale_is_not_touched() -> None:
    alone = torch.randn(3, 4)
    assert pool([alone], "gem") is alone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": ()}, "--scales"),
        ({"scales": (1.0, 0.0)}, "--scales 1.0 0.0"),
        ({"scales": (0.5, 0.5)}, "--scales 0.5 0.5"),
        ({"scales": (0.5,), "multi_scale": "down"}, "--multi_scale"),
        ({"multi_scale": "sideways"}, "--multi_scale sideways"),
        ({"scale_pooling": "median"}, "--scale_pooling median"),
        ({"majority_weight": -1.0}, "--majority_weight"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        EvalOptions(**options)
    assert "\n" not in str(caught.value)


def test_windows_larger_than_the_images_are_refused(make_network: Make) -> None:
    with pytest.raises(UserError, match="--resize 240 320 has no window of 320x430"):
        views_of(EvalOptions(multi_scale="random_crop"), make_network(), (240, 320))
