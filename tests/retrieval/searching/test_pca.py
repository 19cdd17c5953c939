"""PCA from files of descriptors: against float64 SVD, whatever the size of the blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import vgbench.retrieval.searching.pca as module
from vgbench.errors import UserError
from vgbench.retrieval.extraction.store import Descriptors
from vgbench.retrieval.extraction.writer import write_descriptors
from vgbench.retrieval.searching.pca import PCA, fit_pca, project
from vgbench.runtime import Runtime

RUNTIME = Runtime()


def stored(folder: Path, rows: int = 300, dim: int = 24, seed: int = 0, offset: float = 50.0) -> Descriptors:
    random = torch.Generator().manual_seed(seed)
    values = torch.randn((rows, dim), generator=random) * torch.linspace(3, 0.3, dim) + offset
    return write_descriptors(
        folder / f"d{seed}.h5", values @ torch.linalg.qr(torch.randn(dim, dim, generator=random))[0], f"f{seed}"
    )


def reference(values: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Components up to sign, and variances, by singular values in float64."""
    centred = values - values.mean(0)
    _, singular, right = np.linalg.svd(centred, full_matrices=False)
    return right[:dim], singular[:dim] ** 2 / (len(values) - 1)


@pytest.mark.parametrize("block_bytes", [1000, 10**7])
def test_covariance_is_exact(tmp_path: Path, block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", block_bytes)
    with stored(tmp_path) as descriptors:
        pca = fit_pca(descriptors, 7, RUNTIME)
        components, variances = reference(descriptors.read().double().numpy(), 7)
    np.testing.assert_allclose(np.abs((pca.components * components).sum(1)), 1, atol=1e-5)
    np.testing.assert_allclose(pca.variances, variances, rtol=1e-4)


def test_incremental_is_close_where_the_covariance_would_be_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COVARIANCE_DIM", 10)
    monkeypatch.setattr(module, "BLOCK_BYTES", 4000)
    with stored(tmp_path) as descriptors:
        pca = fit_pca(descriptors, 10, RUNTIME)
        components, variances = reference(descriptors.read().double().numpy(), 10)
    np.testing.assert_allclose(pca.variances, variances, rtol=0.1)
    captured = np.linalg.svd(pca.components @ components.T, compute_uv=False)
    assert captured.min() > 0.8
    assert captured[:5].min() > 0.99


@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_projection(tmp_path: Path, whiten: bool, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 3000)
    with stored(tmp_path) as descriptors:
        pca = fit_pca(descriptors, 5, RUNTIME)
        with project(descriptors, pca, whiten, dtype, tmp_path, "small", RUNTIME) as small:
            found = small.read().double().numpy()
            path, first = small.path, small.path.stat().st_mtime_ns
        values = descriptors.read().double().numpy()
        wanted = (values - values.mean(0)) @ pca.components.T.astype(np.float64)
        if whiten:
            wanted /= wanted.std(0, ddof=1)
        wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
        np.testing.assert_allclose(found, wanted, atol=2e-3 if dtype == "float16" else 1e-4)
        with project(descriptors, pca, whiten, dtype, tmp_path, "small", RUNTIME) as again:
            assert (again.path, again.path.stat().st_mtime_ns) == (path, first)
        with project(descriptors, pca, not whiten, dtype, tmp_path, "small", RUNTIME) as other:
            assert other.path != path


def test_kept_and_read_back(tmp_path: Path) -> None:
    with stored(tmp_path) as descriptors:
        pca = fit_pca(descriptors, 6, RUNTIME)
        fewer = fit_pca(descriptors, 3, RUNTIME)
    pca.save(tmp_path / "pca.h5")
    again = PCA.load(tmp_path / "pca.h5")
    assert again.fingerprint == pca.fingerprint != fewer.fingerprint
    for name in ("mean", "components", "variances"):
        np.testing.assert_array_equal(getattr(again, name), getattr(pca, name))
    np.testing.assert_allclose(again.first(3).components, fewer.components, atol=1e-6)
    assert again.first(3).fingerprint != again.fingerprint
    (tmp_path / "pca.h5").write_bytes(b"noise")
    with pytest.raises(UserError, match=r"pca\.h5: cannot be read as a PCA"):
        PCA.load(tmp_path / "pca.h5")


def test_directions_without_variance_are_not_blown_up(tmp_path: Path) -> None:
    flat = torch.randn(50, 3, generator=torch.Generator().manual_seed(1)) @ torch.randn(3, 12)
    with write_descriptors(tmp_path / "d.h5", flat, "f") as descriptors:
        pca = fit_pca(descriptors, 8, RUNTIME)
        with project(descriptors, pca, True, "float32", tmp_path, "x", RUNTIME) as small:
            assert torch.isfinite(small.read()).all()


def test_too_many_components_and_other_dimensions(tmp_path: Path) -> None:
    with stored(tmp_path, rows=10) as few, stored(tmp_path, dim=12, seed=1) as other:
        with pytest.raises(UserError, match="--pca_dim 10: 10 descriptors of 24 dimensions"):
            fit_pca(few, 10, RUNTIME)
        pca = fit_pca(other, 4, RUNTIME)
        with pytest.raises(UserError, match="--pca_file: made for descriptors of 12 dimensions"):
            project(few, pca, True, "float32", tmp_path, "x", RUNTIME)
