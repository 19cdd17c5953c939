"""Predictions on disk."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from vgbench.errors import UserError
from vgbench.retrieval.predictions import Predictions


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "predictions.h5"
    saved = Predictions(np.array([[4, 2], [0, 1]]), np.array([[0.1, 0.2], [0.3, 0.4]], dtype=np.float32))
    saved.save(path, fingerprint="abc")
    loaded = Predictions.load(path)
    np.testing.assert_array_equal(loaded.indices, saved.indices)
    np.testing.assert_array_equal(loaded.distances, saved.distances)
    assert (loaded.indices.dtype, loaded.distances.dtype, len(loaded)) == (np.int64, np.float32, 2)
    with h5py.File(path) as file:
        assert file.attrs["fingerprint"] == "abc"
    assert [p.name for p in path.parent.iterdir()] == ["predictions.h5"]


def test_errors_are_one_line_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "noise.h5").write_bytes(b"noise")
    h5py.File(tmp_path / "empty.h5", "w").close()
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file["indices"], file["distances"] = np.zeros((2, 3)), np.zeros((2, 4))
    for name in ("absent.h5", "noise.h5", "empty.h5", "odd.h5"):
        with pytest.raises(UserError, match=name) as caught:
            Predictions.load(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        Predictions(np.zeros((1, 1), np.int64), np.zeros((1, 1), np.float32)).save(tmp_path / "file" / "p.h5")
