"""Search against a float64 brute force."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from locations import REPOSITORY

from vgbench.errors import UserError
from vgbench.retrieval.extraction.store import Descriptors, write_descriptors
from vgbench.retrieval.searching.exact import search
from vgbench.retrieval.searching.finder_torch import TorchFinder
from vgbench.retrieval.searching.topk import RunningTopK, Tile, _row_sums
from vgbench.runtime import Runtime

BACKENDS = ["torch", "faiss"]


def brute_force(database: torch.Tensor, queries: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Every pair in float64; np.argsort(stable) puts equal distances in the order of their index."""
    base, asked = database.double().numpy(), queries.double().numpy()
    squared = np.stack([((base - query) ** 2).sum(axis=1) for query in asked])
    indices = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return indices, np.sqrt(np.take_along_axis(squared, indices, axis=1))


def stored(folder: Path, name: str, values: torch.Tensor) -> Descriptors:
    return write_descriptors(folder / f"{name}.h5", values, "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("search")


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 300),
    queries=st.integers(1, 9),
    dim=st.integers(1, 20),
    k=st.integers(1, 40),
    block_bytes=st.sampled_from([1, 700, 5_000, 10**6]),
    dtype=st.sampled_from([torch.float16, torch.float32]),
    kind=st.sampled_from(["few integers", "normal", "one cluster", "duplicates", "constant"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_same_indices_as_float64_brute_force(
    folder: Path, backend: str, rows: int, queries: int, dim: int, k: int,
    block_bytes: int, dtype: torch.dtype, kind: str, seed: int,
) -> None:  # fmt: skip
    if backend == "faiss":
        pytest.importorskip("faiss")
    random = torch.Generator().manual_seed(seed)

    def draw(count: int) -> torch.Tensor:
        if kind == "few integers":  # many exact ties between different vectors
            return torch.randint(-1, 2, (count, dim), generator=random).to(dtype)
        if kind == "constant":
            return torch.full((count, dim), 0.3).to(dtype)
        values = torch.randn((count, dim), generator=random)
        if kind == "one cluster":  # float32 scores cannot tell these apart
            values = 1 + values * 1e-4
        if kind == "duplicates":
            values = values[torch.randint(0, max(1, count // 10), (count,), generator=random)]
        return torch.nn.functional.normalize(values, dim=1).to(dtype)

    base, asked = draw(rows), draw(queries)
    with stored(folder, "database", base) as database, stored(folder, "queries", asked) as query_file:
        found = search(database, query_file, k, backend, block_bytes=block_bytes)
    indices, distances = brute_force(base, asked, k)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-6, atol=1e-7)
    assert found.indices.dtype == np.int64
    assert found.distances.dtype == np.float32


@pytest.mark.parametrize("backend", BACKENDS)
def test_large_enough_to_stream(tmp_path: Path, backend: str) -> None:
    if backend == "faiss":
        pytest.importorskip("faiss")
    random = torch.Generator().manual_seed(0)
    base = torch.nn.functional.normalize(torch.randn((20_000, 64), generator=random), dim=1).half()
    # Geographic order: the right rows come late and close together, as in a drive through a city.
    asked = torch.nn.functional.normalize(base[19_000:19_050].float() + 0.05 * torch.randn((50, 64)), dim=1).half()
    with stored(tmp_path, "database", base) as database, stored(tmp_path, "queries", asked) as queries:
        found = search(database, queries, 20, backend, block_bytes=100_000)
    np.testing.assert_array_equal(found.indices, brute_force(base, asked, 20)[0])


def test_memory_does_not_grow_with_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block_bytes = 64 * 1024
    reads: dict[int, list[int]] = {}
    buffers: dict[int, set[int]] = {}
    tiles: dict[int, list[int]] = {}
    count = 0
    original = Descriptors.read_into

    def counting_read(self: Descriptors, start: int, out: torch.Tensor) -> None:
        reads.setdefault(count, []).append(out.numel() * out.element_size())
        buffers.setdefault(count, set()).add(out.data_ptr())
        original(self, start, out)

    def counting_pairs(self: TorchFinder, tile: Tile, kth_squared: torch.Tensor) -> Any:
        tiles.setdefault(count, []).append(4 * (tile.vectors.numel() + self._scores.numel()))
        return pairs(self, tile, kth_squared)

    pairs = TorchFinder.pairs
    monkeypatch.setattr(Descriptors, "read_into", counting_read)
    monkeypatch.setattr(TorchFinder, "pairs", counting_pairs)
    asked = torch.randn(30, 32)
    for count in (2_000, 20_000):
        base = torch.randn(count, 32, generator=torch.Generator().manual_seed(1)).half()
        with stored(tmp_path, f"database{count}", base) as database, stored(tmp_path, f"q{count}", asked) as queries:
            search(database, queries, 5, block_bytes=block_bytes)
        assert max(reads[count]) <= block_bytes
        assert sum(reads[count]) == count * 64 + 30 * 128  # every byte once
        assert max(tiles[count]) <= block_bytes
    # Two reused database buffers and the queries' own, for ten times the database too.
    assert len(buffers[2_000]) == len(buffers[20_000]) == 3
    assert max(tiles[2_000]) == max(tiles[20_000])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("spread", [0.0, 1e-7, 1e-5])
def test_a_collapsed_network_does_not_score_every_pair(
    tmp_path: Path, backend: str, spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend == "faiss":
        pytest.importorskip("faiss")
    offered: list[int] = []
    offer = RunningTopK.offer

    def counting_offer(self: RunningTopK, query_rows: torch.Tensor, *rest: Any) -> None:
        offered.append(len(query_rows))
        offer(self, query_rows, *rest)

    monkeypatch.setattr(RunningTopK, "offer", counting_offer)
    random = torch.Generator().manual_seed(0)
    centre = torch.randn(64, generator=random)
    base, asked = (centre + spread * torch.randn((n, 64), generator=random) for n in (5_000, 20))
    with stored(tmp_path, "database", base) as database, stored(tmp_path, "queries", asked) as queries:
        found = search(database, queries, 5, backend)
    np.testing.assert_array_equal(found.indices, brute_force(base, asked, 5)[0])
    assert sum(offered) < 0.05 * 5_000 * 20


def test_many_queries_are_taken_in_blocks(tmp_path: Path) -> None:
    base, asked = torch.randn(300, 8), torch.randn(500, 8)
    with stored(tmp_path, "database", base) as database, stored(tmp_path, "queries", asked) as queries:
        found = search(database, queries, 3, block_bytes=2_000)
    np.testing.assert_array_equal(found.indices, brute_force(base, asked, 3)[0])


def test_low_matmul_precision_elsewhere_does_not_leak_in(tmp_path: Path) -> None:
    base = torch.nn.functional.normalize(1 + 1e-3 * torch.randn(3_000, 64), dim=1)
    with stored(tmp_path, "database", base) as database, stored(tmp_path, "queries", base[:20].clone()) as queries:
        torch.set_float32_matmul_precision("medium")
        try:
            found = search(database, queries, 5)
            assert torch.get_float32_matmul_precision() == "medium"
        finally:
            torch.set_float32_matmul_precision("highest")
    np.testing.assert_array_equal(found.indices, brute_force(base, base[:20], 5)[0])


def test_row_sums_do_not_depend_on_position() -> None:
    values = torch.rand(37, 513, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    whole = _row_sums(values.clone())
    torch.testing.assert_close(whole, values.sum(1))
    for row in range(37):
        assert _row_sums(values[row : row + 1].clone())[0] == whole[row]


@pytest.mark.parametrize(
    ("base", "asked", "k", "message"),
    [
        (torch.ones(4, 3), torch.ones(2, 5), 1, "queries.h5: descriptors have 5 dimensions"),
        (torch.ones(4, 3), torch.ones(0, 3), 1, "queries.h5: no queries"),
        (torch.ones(0, 3), torch.ones(2, 3), 1, "database.h5: no database images"),
        (torch.ones(4, 3), torch.ones(2, 3), 0, "--recall_values"),
        (torch.tensor([[1.0], [torch.nan], [2.0]]), torch.ones(2, 1), 1, "database.h5: descriptor 1 is not finite"),
        (torch.ones(3, 1), torch.tensor([[1.0], [torch.inf]]), 1, "queries.h5: descriptor 1 is not finite"),
    ],
)
def test_user_errors(tmp_path: Path, base: torch.Tensor, asked: torch.Tensor, k: int, message: str) -> None:
    import h5py

    for name, values in (("database", base), ("queries", asked)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["descriptors"] = values.numpy()
    with (
        Descriptors(tmp_path / "database.h5") as database,
        Descriptors(tmp_path / "queries.h5") as queries,
        pytest.raises(UserError, match=message) as caught,
    ):
        search(database, queries, k)
    assert "\n" not in str(caught.value)


def test_everything_runs_without_faiss(tmp_path: Path) -> None:
    script = f"""
import sys
sys.modules["faiss"] = None  # any import of it now raises ImportError
import torch
from pathlib import Path
from typing import Any
from vgbench.errors import UserError
from vgbench.retrieval import search, write_descriptors
base = torch.eye(5)
database = write_descriptors(Path({str(tmp_path)!r}) / "d.h5", base, "")
queries = write_descriptors(Path({str(tmp_path)!r}) / "q.h5", base[2:4].clone(), "")
assert search(database, queries, 1).indices.tolist() == [[2], [3]]
try:
    search(database, queries, 1, "faiss")
except UserError as error:
    assert "--search_backend torch" in str(error) and "\\n" not in str(error), error
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "refused", done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("spread", [0.0, 1e-6, 1.0])
def test_a_gpu_gives_the_same_indices(tmp_path: Path, dtype: torch.dtype, spread: float) -> None:
    random = torch.Generator().manual_seed(0)
    centre = torch.randn(128, generator=random)
    base, asked = ((centre + spread * torch.randn((n, 128), generator=random)).to(dtype) for n in (30_000, 60))
    with stored(tmp_path, "database", base) as database, stored(tmp_path, "queries", asked) as queries:
        found = search(database, queries, 20, runtime=Runtime(torch.device("cuda")), block_bytes=10**6)
    np.testing.assert_array_equal(found.indices, brute_force(base, asked, 20)[0])
