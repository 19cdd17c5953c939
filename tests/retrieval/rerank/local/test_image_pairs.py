"""Matchers of other packages, by stand-ins of their documented interfaces that match with SIFT."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from textured import HEIGHT, WIDTH, homography, save, texture, view

from vgbench.data import Split
from vgbench.data.table import TableBuilder
from vgbench.errors import UserError
from vgbench.retrieval import Predictions, write_descriptors
from vgbench.retrieval.adaptive.estimators import inliers
from vgbench.retrieval.rerank.base import RerankContext
from vgbench.retrieval.rerank.local import MATCHERS
from vgbench.retrieval.rerank.local.matches import LocalMatches
from vgbench.retrieval.rerank.local.reranker import LocalReranker
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.runtime import Inference, Runtime

PLACES, QUERIES = 4, 2


def sift_matches(query: np.ndarray, candidate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mutual nearest SIFT features of two RGB images uint8 [H,W,3]: points [m,2] each."""
    sift = cv2.SIFT_create(300)  # type: ignore[attr-defined]
    points, descriptors = [], []
    for image in (query, candidate):
        found, numbers = sift.detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None)
        points.append(np.array([one.pt for one in found], np.float32).reshape(-1, 2))
        descriptors.append(numbers)
    pairs = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(*descriptors)
    return points[0][[one.queryIdx for one in pairs]], points[1][[one.trainIdx for one in pairs]]


def as_array(image: torch.Tensor) -> np.ndarray:
    return (image * 255).round().byte().permute(1, 2, 0).numpy()


class Vismatch(types.ModuleType):
    """`get_matcher(name, device)`; a matcher of two images float [3,H,W] returns a dictionary."""

    asked: list[Any]

    def get_matcher(self, name: str, device: str = "cpu", **more: Any) -> Callable[..., Any]:
        self.asked.append((name, device, more))
        if name == "nobody":
            raise ValueError(f"matcher {name} not yet supported")

        def match(img0: torch.Tensor, img1: torch.Tensor) -> dict[str, Any]:
            assert img0.dtype == torch.float32 and img0.shape[0] == 3 and float(img0.max()) <= 1
            left, right = sift_matches(as_array(img0), as_array(img1))
            return {"num_inliers": 0, "H": None, "matched_kpts0": left, "matched_kpts1": right}

        return match


class Inputs(dict[str, Any]):
    def to(self, device: Any) -> Inputs:
        return self


class Transformers(types.ModuleType):
    """An image processor and a model by `from_pretrained`, with the processor's `post_process_keypoint_matching`."""

    class AutoImageProcessor:
        @staticmethod
        def from_pretrained(name: str) -> Any:
            if name == "nobody/nothing":
                raise OSError(f"{name} is not a local folder and is not a valid model identifier")
            return Transformers.AutoImageProcessor()

        def __call__(self, images: Any, return_tensors: str) -> Inputs:
            assert return_tensors == "pt"
            return Inputs(pixel_values=[np.asarray(image) for image in images])

        def post_process_keypoint_matching(self, outputs: Any, sizes: Any, threshold: float) -> list[dict[str, Any]]:
            left, right = (torch.from_numpy(points) for points in outputs)
            assert sizes == [[(HEIGHT, WIDTH), (HEIGHT, WIDTH)]]
            keep = torch.arange(len(left)) >= threshold * len(left)
            return [{"keypoints0": left[keep], "keypoints1": right[keep], "matching_scores": keep}]

    class AutoModel:
        @staticmethod
        def from_pretrained(name: str) -> Any:
            return Transformers.AutoModel()

        def eval(self) -> Any:
            return self

        def to(self, device: Any) -> Any:
            return self

        def __call__(self, pixel_values: Any) -> Any:
            return sift_matches(*pixel_values)


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> Vismatch:
    vismatch = Vismatch("vismatch")
    vismatch.asked = []
    monkeypatch.setitem(sys.modules, "vismatch", vismatch)
    monkeypatch.setitem(sys.modules, "transformers", Transformers("transformers"))
    return vismatch


def drawn(folder: Path, **options: Any) -> tuple[RerankContext, Predictions]:
    """A context and predictions in which query i's place i comes last."""
    tables = {}
    for part, count in (("database", PLACES), ("queries", QUERIES)):
        builder = TableBuilder()
        for place in range(count):
            picture = texture(place) if part == "database" else view(place, homography(place, 0.04))
            save(folder / part / f"{place}.png", picture)
            builder.add(f"{place}.png", 100.0 * place, 0.0)
        tables[part] = builder.build(folder / part)
    context = RerankContext(
        split=Split("test", folder, tables["database"], tables["queries"]),
        database=write_descriptors(folder / "d.h5", torch.eye(PLACES), "d"),
        queries=write_descriptors(folder / "q.h5", torch.eye(PLACES)[:QUERIES].contiguous(), "q"),
        network=None,
        options=RerankOptions(rerank=("local",), **options),
        inference=Inference((HEIGHT, WIDTH)),
        cache=folder / "cache",
    )
    indices = np.array([[*(p for p in range(PLACES) if p != q), q] for q in range(QUERIES)], np.int64)
    return context, Predictions(indices, np.tile(np.linspace(0.5, 0.6, PLACES, dtype=np.float32), (QUERIES, 1)))


@pytest.mark.parametrize("matcher", ["vismatch:sift-nn", "transformers:ETH-CVPR/lightglue_superpoint"])
def test_the_right_place_comes_first_and_its_matches_are_kept(tmp_path: Path, packages: Vismatch, matcher: str) -> None:
    context, before = drawn(tmp_path, local_matcher=(matcher,))
    LocalReranker.check(None, context.options, Runtime())
    done = LocalReranker()(before, context)
    assert done.predictions.indices[:, 0].tolist() == [0, 1]
    assert done.bytes_per_image == 0
    matches = LocalMatches.load(done.files["local_matches"])
    for query in range(QUERIES):
        shares = matches.of(query, 0)
        assert len(shares) > 20 and (shares >= 0).all() and (shares <= 1).all()
        # The candidate's points lie where the view's homography says.
        there = cv2.perspectiveTransform(
            (shares[None, :, 2:] * [WIDTH, HEIGHT]).astype(np.float32), homography(query, 0.04)
        )[0]
        assert np.median(np.abs(there - shares[:, :2] * [WIDTH, HEIGHT])) < 2
    worst = inliers(before, context)
    best = inliers(done.predictions, context)
    assert (best > worst + 20).all()
    # The same of one query alone, as adaptive re-ranking asks.
    alone = LocalReranker()(before.rows(np.array([1])), context.of_queries(np.array([1])))
    assert alone.predictions.indices[0].tolist() == done.predictions.indices[1].tolist()
    kept = LocalMatches.load(alone.files["local_matches"])
    assert len(kept.of(0, 0)) == 0 and len(kept.of(1, 0)) > 20


def test_keywords_reach_the_package(packages: Vismatch) -> None:
    words = ("max_num_keypoints=99",)
    options = RerankOptions(rerank=("local",), local_matcher=("vismatch:roma",), local_matcher_args=words)
    LocalReranker.check(None, options, Runtime())
    assert packages.asked == [("roma", "cpu", {"max_num_keypoints": 99})]


@pytest.mark.parametrize(
    ("matcher", "message"),
    [
        ("vismatch:nobody", "--local_matcher vismatch:nobody: cannot be loaded .*not yet supported"),
        ("transformers:nobody/nothing", "--local_matcher transformers:nobody/nothing: cannot be loaded"),
    ],
)
def test_names_that_are_not_known(packages: Vismatch, matcher: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        LocalReranker.check(None, RerankOptions(rerank=("local",), local_matcher=(matcher,)), Runtime())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("package", ["vismatch", "transformers"])
def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"needs the package {package} .*pip install {package}"):
        LocalReranker.check(None, RerankOptions(rerank=("local",), local_matcher=(f"{package}:x",)), Runtime())


def test_results_of_another_shape_are_one_line(tmp_path: Path, packages: Vismatch) -> None:
    context, before = drawn(tmp_path, local_matcher=("vismatch:sift-nn",))
    for result, message in (({}, "returned no matched_kpts0"), (None, "returned no"), (1 / 3, "returned no")):
        packages.get_matcher = lambda *a, result=result, **k: lambda *images: result  # type: ignore[method-assign]
        with pytest.raises(UserError, match=message):
            LocalReranker()(before, context)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"local_features": ("sift",)}, "--local_features: does nothing with --local_matcher vismatch:roma"),
        ({"local_keypoints": 7}, "--local_keypoints: does nothing"),
        ({"local_refine": 2}, "--local_refine: does nothing"),
        ({"local_features": ("sift", "orb"), "local_matcher": ("mutual", "vismatch:roma")}, "finds its own features"),
    ],
)
def test_options_that_it_does_not_look_at_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        RerankOptions(**{"rerank": ("local",), "local_matcher": ("vismatch:roma",), **options})


def test_the_table_knows_what_is_a_bridge() -> None:
    assert MATCHERS.unknown("vismatch:superpoint-lightglue") == "" and not MATCHERS.is_own("vismatch:roma")
    assert MATCHERS.unknown("vismatch:") and MATCHERS.unknown("other-package:x")
    assert MATCHERS.is_own("my.module:Matcher")
