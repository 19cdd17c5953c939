"""Matchers that take two images, and find their features themselves: those of vismatch, and of transformers.

Both are optional, imported when they are first used, and fetch their weights themselves. What they match is judged as
other matches are: MAGSAC++ with `--local_model`.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vgbench.data.decode import decode_image
from vgbench.data.table import ImageTable
from vgbench.errors import UserError, in_short
from vgbench.retrieval.rerank.base import RerankContext
from vgbench.retrieval.rerank.local.extraction import with_long_side
from vgbench.retrieval.rerank.local.verification import NOTHING, Judge
from vgbench.runtime import Runtime

Points = NDArray[np.float32]
PairMatcher = Callable[[Tensor, Tensor], tuple[Points, Points]]
"""(query, candidate), uint8 [3,H,W] on the CPU -> points that match, [m,2] in pixels of each."""


def vismatch(
    name: str, features: str, ratio: float, runtime: Runtime, *, max_num_keypoints: int | None = None
) -> PairMatcher:
    """Return a matcher of the package vismatch.

    Args:
        name: as the package's `get_matcher` takes it.
        max_num_keypoints: of an image, where the matcher takes that; None for its own number.

    Raises:
        UserError: the package is not installed, or has no such matcher.
    """
    option = f"--local_matcher vismatch:{name}"
    package = _package("vismatch", option)
    more = {} if max_num_keypoints is None else {"max_num_keypoints": max_num_keypoints}
    model = _made(option, lambda: package.get_matcher(name, device=str(runtime.device), **more))

    @torch.inference_mode()
    def match(query: Tensor, candidate: Tensor) -> tuple[Points, Points]:
        left, right = (image.to(runtime.device).float() / 255 for image in (query, candidate))
        found = _called(option, lambda: model(left, right))
        return _points(option, found, ("matched_kpts0", "matched_kpts1"))

    return match


def transformers(name: str, features: str, ratio: float, runtime: Runtime, *, threshold: float = 0.0) -> PairMatcher:
    """Return a keypoint matcher of the package transformers, such as LightGlue.

    Args:
        name: of the model on the Hugging Face hub, or its folder.
        threshold: matches of a smaller score are left out.

    Raises:
        UserError: the package is not installed, or has no such model.
    """
    option = f"--local_matcher transformers:{name}"
    package = _package("transformers", option)
    processor = _made(option, lambda: package.AutoImageProcessor.from_pretrained(name))
    model = _made(option, lambda: package.AutoModel.from_pretrained(name).eval().to(runtime.device))

    @torch.inference_mode()
    def match(query: Tensor, candidate: Tensor) -> tuple[Points, Points]:
        images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in (query, candidate)]
        sizes = [[(image.height, image.width) for image in images]]

        def run() -> Any:
            inputs = processor(images, return_tensors="pt").to(runtime.device)
            return processor.post_process_keypoint_matching(model(**inputs), sizes, threshold=threshold)[0]

        return _points(option, _called(option, run), ("keypoints0", "keypoints1"))

    return match


def _package(name: str, option: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"{option}: needs the package {name} ({in_short(error)}). Expected it; pip install {name}, or use "
            "--local_matcher mutual"
        ) from error


def _made(option: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as error:  # somebody else's code, which may look for weights in the network
        raise UserError(
            f"{option}: cannot be loaded ({in_short(error)}). Expected a name that the package knows, and its weights "
            "at hand or a network to fetch them from"
        ) from error


def _called(option: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        raise UserError(f"{option}: fails on a pair of images ({in_short(error)})") from error


def _points(option: str, found: Any, names: tuple[str, str]) -> tuple[Points, Points]:
    """Return the matched points of both images, of a matcher's result."""
    if not isinstance(found, Mapping) or not all(name in found for name in names):
        raise UserError(f"{option}: returned no {' and '.join(names)}. Expected them; is the package's version known?")
    left, right = (_array(found[name]) for name in names)
    if left.shape != right.shape:
        raise UserError(f"{option}: {len(left)} points of the query match {len(right)} of the candidate")
    return left, right


def _array(points: Any) -> Points:
    values = points.detach().cpu().numpy() if isinstance(points, Tensor) else np.asarray(points)
    return np.asarray(values, np.float32).reshape(-1, 2)


@dataclass(frozen=True, eq=False)
class ImagePlan:
    """How candidates are verified by a matcher of images.

    Attributes:
        matcher: finds points that match.
        size: the images' long side in pixels, their ratio kept; 0 for their own.
        judge: scores the matches.
    """

    matcher: PairMatcher
    size: int
    judge: Judge

    def prepared(self, candidates: NDArray[np.int64], context: RerankContext) -> PreparedImages:
        """Return what verifies; nothing is kept of images."""
        return PreparedImages(self, context.all_queries[0], context.split.database)


@dataclass(frozen=True, eq=False)
class PreparedImages:
    """Scores one query's candidates at a time, image by image."""

    plan: ImagePlan
    queries: ImageTable
    database: ImageTable
    bytes_per_image: float = 0.0

    def verifier(self, pool: Executor) -> PreparedImages:
        """Return what verifies; the matcher has threads of its own."""
        return self

    def __call__(
        self, query: int, rows: list[int], terms: NDArray[np.float64], deadline: float
    ) -> tuple[NDArray[np.float64], list[NDArray[np.float32]]]:
        """Return costs and supporting matches, as `Verifier` does."""
        scores, found = np.zeros(len(rows)), [NOTHING] * len(rows)
        for index, (score, points) in enumerate(self._judged(query, rows)):
            scores[index], found[index] = score, points
            if time.perf_counter() >= deadline:
                break
        return terms - np.log1p(scores), found

    def first(self, query: int, row: int) -> float:
        """Return the score of one candidate."""
        return next(self._judged(query, [row]))[0]

    def close(self) -> None:
        """There is nothing to close."""

    def _judged(self, query: int, rows: Sequence[int]) -> Iterator[tuple[float, Points]]:
        left = self._image(self.queries, query)
        for row in rows:
            right = self._image(self.database, row)
            one, other = self.plan.matcher(left, right)
            score, good = self.plan.judge(one, other)
            shares = [
                points[good] / np.array([image.shape[2], image.shape[1]])
                for points, image in ((one, left), (other, right))
            ]
            yield score, np.concatenate(shares, axis=1).astype(np.float32)

    def _image(self, table: ImageTable, row: int) -> Tensor:
        path: Path = table.path(row)
        return with_long_side(decode_image(path, None, upright=table.upright), self.plan.size)
