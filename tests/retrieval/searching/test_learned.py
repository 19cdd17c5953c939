"""Search among learned codes: by brute force of the bits, with the floats in order behind them, and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vgbench.errors import UserError
from vgbench.models import build_network
from vgbench.models.hashing import HashingBranch, attach_hashing
from vgbench.retrieval import EvalOptions
from vgbench.retrieval.beforehand import check_beforehand
from vgbench.retrieval.extraction.crops import views_of
from vgbench.retrieval.extraction.store import Descriptors
from vgbench.retrieval.extraction.writer import write_descriptors
from vgbench.retrieval.searching.exact import make_searcher
from vgbench.runtime import Inference, Runtime

pytest.importorskip("faiss")
RUNTIME = Runtime()


@pytest.fixture
def branch() -> HashingBranch:
    torch.manual_seed(4)
    made = HashingBranch(10, 21).eval()
    made.mean.normal_(std=0.2)
    return made


@pytest.fixture
def both(tmp_path: Path) -> tuple[Descriptors, Descriptors]:
    draw = torch.Generator().manual_seed(0)
    return (
        write_descriptors(tmp_path / "database.h5", torch.randn(300, 10, generator=draw), "base"),
        write_descriptors(tmp_path / "queries.h5", torch.randn(17, 10, generator=draw), "asked"),
    )


def bits_apart(branch: HashingBranch, both: tuple[Descriptors, Descriptors]) -> np.ndarray:
    """Hamming distances [Q,N], bit by bit."""
    codes = [branch(one.read()).detach().numpy() > 0 for one in both]
    return (codes[1][:, None] != codes[0][None]).sum(2)


def test_codes_alone_are_found_as_brute_force_finds_them(branch: HashingBranch, both: tuple) -> None:
    searcher = make_searcher(both[0], EvalOptions(quantise="hash", refine=0), RUNTIME, branch.thresholds())
    found = searcher.search(both[1], 12)
    assert searcher.bytes_per_image == 3  # 21 bits
    apart = bits_apart(branch, both)
    expected = np.sort(apart, axis=1)[:, :12]
    np.testing.assert_array_equal(found.distances, expected)
    np.testing.assert_array_equal(np.take_along_axis(apart, found.indices, 1), expected)


def test_floats_put_the_candidates_of_the_codes_in_order(branch: HashingBranch, both: tuple) -> None:
    found = make_searcher(both[0], EvalOptions(quantise="hash"), RUNTIME, branch.thresholds()).search(both[1], 4)
    apart = bits_apart(branch, both)
    for query, row in enumerate(found.indices):
        furthest = np.sort(apart[query])[19]  # of the 5 times 4 candidates
        assert (apart[query][row] <= furthest).all()
        distances = (both[0].read() - both[1].read()[query]).norm(dim=1).numpy()
        inside = np.flatnonzero(apart[query] < furthest)
        surely = inside[np.argsort(distances[inside])][: (distances[inside] < found.distances[query, -1]).sum()]
        assert set(surely) <= set(row)
        np.testing.assert_allclose(found.distances[query], distances[row], rtol=1e-5)
        assert (np.diff(found.distances[query]) >= 0).all()


def test_other_weights_have_other_codes_and_the_same_are_reused(branch: HashingBranch, both: tuple) -> None:
    options = EvalOptions(quantise="hash", refine=0)
    first = make_searcher(both[0], options, RUNTIME, branch.thresholds())
    assert make_searcher(both[0], options, RUNTIME, branch.thresholds()).path == first.path
    branch.mean.add_(0.1)
    other = make_searcher(both[0], options, RUNTIME, branch.thresholds())
    assert other.path != first.path
    np.testing.assert_array_equal(np.sort(bits_apart(branch, both), 1)[:, :3], other.search(both[1], 3).distances)


def test_what_has_no_codes_is_refused_before_anything_is_described(tiny_dataset: Path, both: tuple) -> None:
    from vgbench.data import read_split

    split = read_split(tiny_dataset, "test")
    network = build_network("resnet18conv4", "gem", "none")
    options = EvalOptions(quantise="hash")
    inference = Inference((32, 32), 4, 0, RUNTIME)

    def check(options: EvalOptions) -> None:
        views = views_of(options, network, inference.fixed_size)
        check_beforehand(network, split, options, inference, views, "")

    with pytest.raises(UserError, match=r"--quantise hash: resnet18conv4 \+ gem has learned no codes"):
        check(options)
    with pytest.raises(UserError, match="has no hashing branch"):
        make_searcher(both[0], options, RUNTIME)
    attach_hashing(network, 16)
    check(options)
    with pytest.raises(UserError, match="Expected no --pca_dim beside it"):
        check(replace(options, pca_dim=8))
    with pytest.raises(UserError, match="Expected no --scale_pooling concat beside it"):
        check(replace(options, scales=(1.0, 0.5), scale_pooling="concat"))
