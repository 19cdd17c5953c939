"""`python3 -m vgbench.describe`: descriptors of a folder for other programs."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from vgbench import describe, load_network
from vgbench.errors import UserError
from vgbench.models import build_network


@pytest.fixture
def photos(pristine_dataset: Path, tmp_path: Path) -> Path:
    for number, path in enumerate(sorted((pristine_dataset / "images/test/queries").iterdir())[:4]):
        target = tmp_path / "photos" / ("deep" if number % 2 else "") / f"{number}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return tmp_path / "photos"


def test_three_layouts_hold_what_eval_computes(trained: Path, pristine_dataset: Path, photos: Path) -> None:
    common = [str(photos), f"--resume={trained}", "--num_workers=0"]
    matrix, hloc, array = (photos.parent / name for name in ("m.h5", "global-feats.h5", "a.npy"))
    describe.main([*common, f"--output={matrix}"])
    describe.main([*common, f"--output={hloc}", "--layout=hloc", "--dtype=float16"])
    describe.main([*common, f"--output={array}"])
    with h5py.File(matrix) as file:
        names = [name.decode() for name in file["names"]]
        values = np.asarray(file["descriptors"])
    assert names == ["0.jpg", "2.jpg", "deep/1.jpg", "deep/3.jpg"]
    assert array.with_suffix(".txt").read_text().splitlines() == names
    assert np.array_equal(np.load(array), values) and values.dtype == np.float32
    with h5py.File(hloc) as file:
        for name, value in zip(names, values, strict=True):
            found = file[name]["global_descriptor"]
            assert found.dtype == np.float16 and np.abs(np.asarray(found) - value).max() < 1e-3
    [stored] = (trained / "descriptors").glob("*_test_queries-*.h5")
    with h5py.File(stored) as file:
        expected = np.asarray(file["descriptors"])
    for name, value in zip(names, values, strict=True):
        assert np.abs(expected[int(Path(name).stem)] - value).max() < 0.02  # another batch, in bf16


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--output=x.txt"], "ends in .h5"),
        (["--output=x.npy", "--layout=hloc"], "ends in .h5"),
        (["--output=x.h5", "--method=megaloc"], "expected one of --resume"),
        (["--output=x.h5", "--unknown"], "See "),
    ],
)
def test_mistakes_are_one_line(trained: Path, photos: Path, extra: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        describe.main([str(photos), f"--resume={trained}", *extra])
    with pytest.raises(UserError, match="no such folder"):
        describe.main([str(photos / "absent"), f"--resume={trained}", "--output=x.h5"])


def test_another_backend_describes_alike(tmp_path: Path, tiny_dataset: Path) -> None:
    pytest.importorskip("openvino")
    network = load_network(build_network("resnet18conv4", "gem", "none"), size=(32, 32), device="cpu", amp="off")
    folder = tiny_dataset / "images" / "val" / "queries"
    found, expected = network.computed_by("openvino").describe(folder), network.describe(folder)
    np.testing.assert_allclose(found.descriptors, expected.descriptors, atol=1e-5)
    with pytest.raises(UserError, match="openvina"):
        network.computed_by("openvina")
