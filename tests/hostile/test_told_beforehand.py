"""What can be known before anything is described is said before it: sizes that do not fit, other networks, the cost."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from recipes import network_of
from tiny_training import run_tiny

import vgbench
from vgbench.api.network import Described
from vgbench.data.protocol import Split, read_split
from vgbench.errors import UserError
from vgbench.models import Network, build_network
from vgbench.quantities import bytes_text, duration_text
from vgbench.retrieval import beforehand
from vgbench.retrieval.beforehand import Forecast
from vgbench.retrieval.evaluation import Evaluation, evaluate
from vgbench.retrieval.options import EvalOptions
from vgbench.runtime import Inference, Runtime
from vgbench.training import loop


@pytest.fixture(scope="module")
def split(pristine_dataset: Path) -> Split:
    whole = read_split(pristine_dataset, "test")
    few = np.arange(6)
    return dataclasses.replace(whole, database=whole.database.select(few), queries=whole.queries.select(few[:3]))


def outcome_of(split: Split, network: Network, folder: Path, **options: Any) -> Evaluation:
    return evaluate(network, split, EvalOptions(**options), Inference((64, 64), 2, 0, Runtime()), folder)


def refused(split: Split, network: Network, folder: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        outcome_of(split, network, folder, **options)
    assert not list(folder.glob("*.h5*")), "described before it was refused"
    return str(caught.value)


def test_a_pca_of_another_network_is_refused_by_its_weights(split: Split, tmp_path: Path) -> None:
    outcome_of(split, network_of(0), tmp_path / "one", pca_dim=4)
    (file,) = (path for path in (tmp_path / "one").glob("pca4-*.h5"))
    said = refused(split, network_of(1), tmp_path / "other", pca_file=file)
    assert "another network" in said and "--pca_dim" in said
    assert outcome_of(split, network_of(0), tmp_path / "same", pca_file=file).descriptors_dim == 4
    with h5py.File(file, "r+") as content:
        del content.attrs["network"]  # as files of before were written
    assert outcome_of(split, network_of(1), tmp_path / "older", pca_file=file).descriptors_dim == 4
    wide = build_network("resnet18conv4", "netvlad", pretrain="none", netvlad_clusters=2)
    assert "256 dimensions" in refused(split, wide, tmp_path / "wide", pca_file=file)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pca_dim": 500}, "--pca_dim 500"),
        ({"quantise": "pq", "pq_subvectors": 7}, "--pq_subvectors 7"),
        ({"quantise": "pq"}, "--pq_bits 8"),
        ({"index": "ivfpq"}, "--pq_bits 8"),
        ({"index": "ivf", "nlist": 7}, "--nlist 7"),
        ({"index": "ivfpq", "pq_bits": 4, "nlist": 99}, "--nlist 99"),
        ({"pca_dim": 3, "quantise": "pq", "pq_subvectors": 2}, "--pq_subvectors 2"),
    ],
)
def test_too_few_images_for_a_search_are_refused_before_they_are_described(
    split: Split, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    assert words in refused(split, network_of(), tmp_path, **options)


@pytest.mark.parametrize("options", [{"scales": (0.5, 1.0)}, {"test_method": "five_crops", "scales": (2.0,)}])
def test_a_head_of_one_size_is_refused_before_images_are_described(
    split: Split, tmp_path: Path, options: dict[str, Any]
) -> None:
    head = {"in_h": 4, "in_w": 4, "out_channels": 6, "out_rows": 3}
    network = build_network("resnet18conv4", "mixvpr", pretrain="none", **head)
    assert outcome_of(split, network, tmp_path / "plain").descriptors_dim == 18
    assert "Expected" in refused(split, network, tmp_path / "views", **options)


def test_queries_of_another_network_are_refused_by_an_index() -> None:
    values = np.eye(3, dtype=np.float32)
    paths = tuple(Path(f"{row}.jpg") for row in range(3))
    one, other, unknown = (Described(paths, values, np.zeros((3, 2)), network) for network in ("a" * 64, "b" * 64, ""))
    index = vgbench.Index(one)
    with pytest.raises(UserError, match="another network"):
        index.search(other)
    for same in (one, unknown, values):
        assert index.search(same, 1).rows.ravel().tolist() == [0, 1, 2]


def test_networks_say_which_they_are(pristine_dataset: Path) -> None:
    files = sorted((pristine_dataset / "images/test/queries").glob("*.jpg"))[:2]
    said = [vgbench.load_network(network_of(seed), size=(64, 64)).describe(files).network for seed in (0, 0, 1)]
    assert said[0] == said[1] != said[2] and len(said[0]) == 64


def test_the_forecast_is_one_line_from_the_first_seconds() -> None:
    now = [0.0]
    forecast = Forecast(10_200, 640_000_000, clock=lambda: now[0])
    forecast.skipped(100)
    said = []
    for _ in range(100):
        said.append(forecast.described(100))
        now[0] += 7.2
    lines = [line for line in said if line]
    assert lines == ["describing 10,000 images: about 12 min, 640 MB of descriptors"]


def test_what_is_soon_done_has_no_forecast() -> None:
    now = [0.0]
    forecast = Forecast(400, 1000, clock=lambda: now[0])
    for _ in range(4):
        assert forecast.described(100) is None
        now[0] += 4.0


def test_an_evaluation_says_what_it_will_take(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(beforehand, "_PACE_SECONDS", 0.0)
    monkeypatch.setattr(beforehand, "_SHORT_SECONDS", 0.0)
    with caplog.at_level(logging.INFO):
        outcome_of(split, network_of(), tmp_path)
    (line,) = (record.getMessage() for record in caplog.records if "describing" in record.getMessage())
    assert line.startswith("describing 7 images: about ") and line.endswith(", 9.22 kB of descriptors")


def test_a_training_says_what_it_will_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loop, "_STEPS_BETWEEN_CHECKS", 2)
    with caplog.at_level(logging.INFO):
        run_tiny(tmp_path / "run")
    lines = [record.getMessage() for record in caplog.records if "first 2 steps" in record.getMessage()]
    assert len(lines) == 1 and "for 3 epochs" in lines[0] and lines[0].endswith("of 3.74 kB")


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (89, "89 s"), (720, "12 min"), (12600, "3.5 h")])
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (6.4e8, "640 MB"), (1.234e12, "1.23 TB")]
)
def test_sizes(count: float, text: str) -> None:
    assert bytes_text(count) == text
