"""`import vgbench`: networks that describe files, an index of descriptors, trainings and tests as functions."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_city import write_image

import vgbench
from vgbench.errors import UserError
from vgbench.models import build_network
from vgbench.models.hashing import attach_hashing
from vgbench.retrieval.extraction.store import Descriptors

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def network(first_run: Path) -> vgbench.LoadedNetwork:
    return vgbench.load_network(first_run, amp="off")


def test_the_import_is_cheap_and_every_name_is_there() -> None:
    code = (
        "import sys, vgbench; heavy = [n for n in ('torch', 'numpy', 'yaml', 'PIL') if n in sys.modules]; "
        "assert not heavy, heavy; [getattr(vgbench, name) for name in vgbench.__all__]; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)
    assert set(vgbench.__all__) <= set(dir(vgbench))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        vgbench.trian  # noqa: B018


def test_descriptors_are_those_of_evaluation(
    network: vgbench.LoadedNetwork, first_run: Path, pristine_dataset: Path
) -> None:
    described = network.describe(pristine_dataset / "images" / "test" / "database", upright=False)
    [path] = (first_run / "descriptors").glob("*_test_database-*.h5")
    with Descriptors(path) as stored:
        values = stored.read().float().numpy()
    assert described.descriptors.shape == values.shape == (24, network.descriptors_dim)
    # Those are bfloat16's where the processor has it.
    np.testing.assert_allclose(described.descriptors, values, atol=0.03)
    assert [path.name.split("@")[1] for path in described.paths] == [
        f"{east:010.2f}" for east in described.positions[:, 0]
    ]


def test_files_in_any_order_and_without_positions(
    network: vgbench.LoadedNetwork, pristine_dataset: Path, tmp_path: Path
) -> None:
    files = sorted((pristine_dataset / "images" / "test" / "queries").iterdir())[:3]
    plain = tmp_path / "holiday photo.jpg"
    plain.write_bytes(files[0].read_bytes())
    described = network.describe([files[2], str(plain), files[1]])
    alone = network.describe(plain)
    assert described.paths == (files[2], plain, files[1]) and alone.paths == (plain,)
    assert np.isnan(described.positions[1]).all() and np.isfinite(described.positions[[0, 2]]).all()
    np.testing.assert_allclose(described.descriptors[1], alone.descriptors[0], atol=1e-5)
    pixels = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    assert network(pixels).shape == (2, network.descriptors_dim)


def test_photographs_are_turned_upright(network: vgbench.LoadedNetwork, tmp_path: Path) -> None:
    from PIL import Image

    write_image(tmp_path, 0, 0, 0.0)
    [straight] = tmp_path.iterdir()
    with Image.open(straight) as image:
        upright = tmp_path / "a.png"
        image.save(upright)
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by a quarter to the right, so it was stored turned to the left
        image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "b.png", exif=exif)
    both = network.describe([upright, tmp_path / "b.png"]).descriptors
    stored = network.describe([tmp_path / "b.png"], upright=False).descriptors
    np.testing.assert_allclose(both[0], both[1], atol=1e-5)
    assert np.abs(both[0] - stored[0]).max() > 1e-3


@given(st.integers(1, 30), st.integers(1, 8), st.integers(1, 5), st.integers(1, 40), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_matches_are_those_of_brute_force(count: int, dim: int, queries: int, k: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    database, asked = random.normal(size=(count, dim)), random.normal(size=(queries, dim))
    positions = random.uniform(-1e6, 1e6, size=(count, 2))
    matches = vgbench.Index(database, positions=positions, paths=[f"{row}.jpg" for row in range(count)]).search(
        asked, k
    )
    single = database.astype(np.float32).astype(np.float64)
    distances = np.linalg.norm(asked.astype(np.float32).astype(np.float64)[:, None] - single[None], axis=2)
    expected = np.argsort(distances, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(matches.rows, expected)
    np.testing.assert_allclose(matches.distances, np.take_along_axis(distances, expected, 1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(matches.positions, positions[expected])
    assert [[str(match.path) for match in one] for one in matches] == [
        [f"{row}.jpg" for row in one] for one in expected
    ]


def test_an_index_of_arrays_alone() -> None:
    [[first, second]] = vgbench.Index([[0.0, 1.0], [1.0, 0.0]]).search([1.0, 0.0], k=9)
    assert (first.row, first.path, first.position, first.distance) == (1, None, None, 0.0)
    assert second.row == 0 and second.distance == pytest.approx(2**0.5)


def hashed(bits: int) -> vgbench.LoadedNetwork:
    torch.manual_seed(0)
    network = build_network("resnet18conv4", "gem", pretrain="none")
    attach_hashing(network, bits)
    network.hashing.mean.normal_(std=0.3)
    return vgbench.load_network(network, amp="off")


@pytest.mark.parametrize(("bits", "k", "candidates"), [(24, 3, 5), (9, 2, 100), (16, 4, 1)])
def test_codes_are_searched_and_descriptors_order_them(bits: int, k: int, candidates: int) -> None:
    network, random = hashed(bits), np.random.default_rng(bits)
    database, queries = (random.normal(size=(count, 256)).astype(np.float32) for count in (30, 6))
    index = vgbench.Index(database, codes=network)
    assert index.bytes_per_image == -(-bits // 8)
    found = index.search(queries, k, candidates=candidates)
    state = network.network.hashing.thresholds()
    ours, theirs = ((one.astype(float) @ state["weight"].T + state["bias"] >= 0) for one in (database, queries))
    apart = np.linalg.norm(queries[:, None].astype(float) - database, axis=2)
    for query, bits_of_it in enumerate(theirs):
        hamming = (ours != bits_of_it).sum(1)
        limit = np.sort(hamming)[min(max(candidates, k), 30) - 1]
        rows = found.rows[query]
        assert (hamming[rows] <= limit).all(), "they are among the nearest codes"
        np.testing.assert_allclose(found.distances[query], np.sort(apart[query, rows]), rtol=1e-5)
        surely = np.flatnonzero(hamming < limit)  # whichever of equal codes were taken
        best = apart[query, surely].min(initial=np.inf)
        assert found.distances[query, 0] <= best * (1 + 1e-5)
    if candidates >= 30:
        np.testing.assert_array_equal(found.rows, vgbench.Index(database).search(queries, k).rows)


def test_an_index_needs_the_codes_of_its_own_network() -> None:
    network = hashed(8)
    with pytest.raises(UserError, match=r"resnet18conv4 \+ gem has learned no codes"):
        vgbench.Index(
            np.ones((2, 256)), codes=vgbench.load_network(build_network("resnet18conv4", "gem", pretrain="none"))
        )
    with pytest.raises(UserError, match="described by another network"):
        vgbench.Index(np.ones((2, 4)), codes=network)
    with pytest.raises(UserError, match="the database has NaN or infinity"):
        vgbench.Index(np.full((2, 256), np.nan), codes=network)
    index = vgbench.Index(np.ones((2, 256)), codes=network)
    for queries, k in ((np.full(256, np.inf), 1), (np.ones(3), 1), (np.ones(256), 0)):
        with pytest.raises(UserError):
            index.search(queries, k)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: vgbench.Index(np.empty((0, 4))), "Expected descriptors"),
        (lambda: vgbench.Index(np.ones((2, 4)), positions=[[0, 0]]), "2 descriptors"),
        (lambda: vgbench.Index(np.ones((2, 4)), paths=["a"]), "1 paths for 2"),
        (lambda: vgbench.Index(np.ones((2, 4))).search(np.ones((1, 3))), "dimensions"),
        (lambda: vgbench.Index(np.full((2, 4), np.nan)).search(np.ones((1, 4))), "not finite"),
        (lambda: vgbench.load_network("nowhere.pth"), "nowhere.pth: no such file"),
        (lambda: vgbench.load_network(build_network("resnet18conv4", "gem", "none")).describe([]), "no images"),
        (lambda: vgbench.train_settings(datset_name="x"), "Did you mean dataset_name?"),
        (lambda: vgbench.train_settings(lr=-1), "--lr"),
        (lambda: vgbench.eval_settings(epochs_num=3), "option epochs_num: not known"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(make: object, said: str) -> None:
    with pytest.raises(vgbench.UserError, match=said.replace("?", r"\?")) as told:
        make()  # type: ignore[operator]
    assert "\n" not in str(told.value)


def test_a_folder_without_checkpoints(tmp_path: Path) -> None:
    for call in (lambda: vgbench.load_network(tmp_path), lambda: vgbench.train_settings(resume=tmp_path)):
        with pytest.raises(vgbench.UserError, match=r"last_model\.pth in this folder"):
            call()


def test_training_and_testing_as_functions(pristine_dataset: Path, tmp_path: Path) -> None:
    handlers, level = list(logging.getLogger("vgbench").handlers), logging.getLogger("vgbench").level
    common = {
        "datasets_folder": pristine_dataset.parent,
        "dataset_name": pristine_dataset.name,
        "resize": (64, 64),
        "num_workers": 0,
    }
    small = {"queries_per_epoch": 4, "cache_refresh_rate": 4, "neg_samples_num": 4, "negs_num_per_query": 2}
    chosen = vgbench.train_settings(
        **common, **small, backbone="efficientnet_lite0", aggregation="gem", epochs_num=1, train_batch_size=2,
        run_dir=tmp_path / "run",
    )  # fmt: skip
    result = vgbench.train(chosen)
    stored = json.loads((tmp_path / "run" / "results.json").read_text())
    assert result.folder == tmp_path / "run" and result.best.is_file() and result.epochs == 1 and result.best_epoch == 0
    assert {str(n): pytest.approx(r, abs=1e-3) for n, r in result.test.recalls[25.0].items()} == stored["recalls"]["25"]
    assert result.test.recall(5) == result.test.recalls[25.0][5]
    again = vgbench.evaluate(vgbench.eval_settings(resume=result.folder, run_dir=tmp_path / "eval", **common))
    assert again.recalls == result.test.recalls
    np.testing.assert_array_equal(again.predictions.indices, result.test.predictions.indices)
    assert len(again.split.queries) == len(again.predictions) and again.facts["queries"] == 16
    # A second run does not write into the first one's logs.
    assert str(tmp_path / "eval") not in (tmp_path / "run" / "info.log").read_text()
    assert logging.getLogger("vgbench").handlers == handlers and logging.getLogger("vgbench").level == level
    debug = (tmp_path / "run" / "debug.log").read_text()
    assert "packages: " in debug and "options: " in debug and "vgbench.training" in debug
    assert "packages: " not in (tmp_path / "run" / "info.log").read_text()
