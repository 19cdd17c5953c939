"""Files that an earlier run left and a disk, a copy or somebody spoilt: made again, and the results stay the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from calls import SMALL, of, run_here

from vgbench.errors import UserError
from vgbench.retrieval.extraction.store import Descriptors, is_reusable
from vgbench.retrieval.extraction.writer import DescriptorWriter, write_descriptors
from vgbench.retrieval.rerank.local.matches import LocalMatches

Spoil = Callable[[Path], None]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(4096))


def one_bit(path: Path) -> None:
    """Change the data, and nothing else, as a bad disk does."""
    if h5py.is_hdf5(path):
        with h5py.File(path, "r+") as file:
            values = file[next(iter(file))]
            whole = values[...]
            whole.reshape(-1).view(np.uint8)[whole.nbytes // 2] ^= 1
            values[...] = whole
        return
    content = bytearray(path.read_bytes())
    content[len(content) - len(content) // 4] ^= 1
    path.write_bytes(bytes(content))


def fewer_rows(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        name = next(iter(file))
        data, attributes = file[name][:-1], dict(file[name].attrs)
        del file[name]
        file[name] = data
        file[name].attrs.update(attributes)


def zeros(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        for name in file:
            file[name][...] = 0


def nan(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        for data in file.values():
            if data.dtype.kind == "f":
                data[...] = np.nan


def another_type(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        for name in list(file):
            data = file[name][:].astype(np.int64)
            del file[name]
            file[name] = data


PLAIN: tuple[Spoil, ...] = (cut, emptied, garbage, one_bit)
HDF5: tuple[Spoil, ...] = (*PLAIN, fewer_rows, zeros, nan, another_type)
EVALUATIONS = {
    "pca": ["--pca_dim=8"],
    "codes": ["--quantise=binary"],
    "index": ["--index=hnsw"],
    "dba": ["--rerank", "dba"],
    "features": ["--rerank", "local", "--local_features", "orb", "--rerank_topk=3"],
}


@pytest.fixture(scope="module")
def evaluated(
    first_run: Path, pristine_dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Return a maker of folders with a checkpoint and all that an evaluation left beside it."""
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            shutil.copy(first_run / "best_model.pth", folder)
            assert evaluate(folder, pristine_dataset, kind) == 0
            made[kind] = folder
        return made[kind]

    return make


def evaluate(folder: Path, dataset: Path, kind: str) -> int:
    resume = folder / "best_model.pth"
    words = ["--report_queries=4", "--heat_maps=2", *EVALUATIONS[kind]]
    return run_here("eval.py", f"--resume={resume}", f"--run_dir={folder / 'eval'}", *of(dataset), *SMALL, *words)


def side_files(folder: Path, kind: str) -> list[Path]:
    names = {"pca": "*pca*", "codes": "*binary*", "index": "*hnsw*.faiss", "dba": "*dba*", "features": "*orb*/*.h5"}
    found = sorted(path for path in (folder / "descriptors").glob(names[kind]) if path.is_file())
    assert found
    return found


@pytest.mark.parametrize("spoil", HDF5, ids=lambda one: one.__name__)
@pytest.mark.parametrize("kind", EVALUATIONS)
def test_a_damaged_file_is_made_again(
    kind: str, spoil: Spoil, evaluated: Any, pristine_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if (kind == "index" and spoil not in PLAIN) or (kind == "features" and spoil is nan):
        pytest.skip("no such numbers in it")
    folder = Path(shutil.copytree(evaluated(kind), tmp_path / "copy"))
    before = json.loads((folder / "eval" / "results.json").read_text())["recalls"]
    for path in side_files(folder, kind):
        spoil(path)
    if kind in ("pca", "codes"):
        for path in (folder / "descriptors").glob("tiny_test_*.h5"):
            if path not in side_files(folder, kind):
                spoil(path)
    capsys.readouterr()
    assert evaluate(folder, pristine_dataset, kind) == 0, capsys.readouterr().err
    shown = capsys.readouterr()
    assert "made again" in shown.out + shown.err
    assert json.loads((folder / "eval" / "results.json").read_text())["recalls"] == before


@pytest.mark.parametrize("spoil", PLAIN, ids=lambda one: one.__name__)
@pytest.mark.parametrize("name", ["confidence.json", "metrics.jsonl", "heat"])
def test_a_damaged_file_beside_a_run_does_not_end_its_test(
    name: str, spoil: Spoil, trained: Path, pristine_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [path for path in trained.rglob("*") if path.is_file() and (path.name == name or name in path.name)]
    assert found, sorted(path.name for path in trained.rglob("*"))
    for path in found:
        spoil(path)
    words = [*of(pristine_dataset), *SMALL, f"--run_dir={trained}", "--report_queries=4"]
    assert run_here("eval.py", f"--resume={trained / 'best_model.pth'}", *words) == 0, capsys.readouterr().err
    assert (trained / "report.html").is_file()


@pytest.mark.parametrize("spoil", HDF5, ids=lambda one: one.__name__)
def test_damaged_matches_are_refused(spoil: Spoil, tmp_path: Path) -> None:
    points = np.random.default_rng(0).random((6, 4), np.float32)
    matches = LocalMatches(np.arange(4).reshape(2, 2), np.array([[1, 3], [3, 6]]), points)
    path = tmp_path / "matches.h5"
    matches.save(path)
    assert np.array_equal(LocalMatches.load(path).of(1, 1), points[3:6])
    spoil(path)
    with pytest.raises(UserError, match=r"matches\.h5: cannot be read as matches"):
        LocalMatches.load(path)
    path.unlink()
    with pytest.raises(UserError, match=r"matches\.h5: cannot be read as matches"):
        LocalMatches.load(path)


LINES = (
    "[]",
    "{",
    "\ufffd",
    '{"epoch": "x"}',
    '{"epoch": 1e999}',
    '{"epoch": 1, "recalls": [1]}',
    '{"epoch": 1, "recalls": {"x": 1}}',
    '{"epoch": 1, "loss": "low"}',
    "[" * 100_000,
    '{"epoch": 1, "loss": 1' + "0" * 400 + "}",
)


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_history_goes_without_damaged_lines(line: str, tmp_path: Path) -> None:
    from vgbench.report.history import history_of, read_history

    path = tmp_path / "metrics.jsonl"
    good = '{"epoch": 0, "loss": 0.5, "recalls": {"5": 40.0}}\n'
    path.write_bytes(line.encode() + b"\n\xff\xfe\n" + good.encode())
    history = history_of(read_history(path))
    assert history.loss[0] == 0.5 and history.recalls[5] == {0: 40.0}


def test_a_spoilt_half_file_is_begun_anew(tmp_path: Path) -> None:
    import torch

    path, values = tmp_path / "d.h5", torch.arange(40.0).view(10, 4)
    with pytest.raises(KeyboardInterrupt), DescriptorWriter(path, 10, 4, "float32", "f") as writer:
        writer.write(values[:6])
        raise KeyboardInterrupt
    with DescriptorWriter(path, 10, 4, "float32", "f", resume_multiple=4) as writer:
        assert writer.rows_done == 4
        raise_kept = writer.rows_done
        writer.write(values[raise_kept:])
    whole = path.read_bytes()
    assert is_reusable(path, "f", 10, 4, "float32")
    with pytest.raises(KeyboardInterrupt), DescriptorWriter(tmp_path / "e.h5", 10, 4, "float32", "f") as writer:
        writer.write(values[:6])
        raise KeyboardInterrupt
    with h5py.File(tmp_path / "e.h5.partial", "r+") as file:
        file["descriptors"][2] = 7
    with DescriptorWriter(tmp_path / "e.h5", 10, 4, "float32", "f") as writer:
        assert writer.rows_done == 0
        writer.write(values)
    assert (tmp_path / "e.h5").read_bytes() == whole


def test_a_file_of_before_there_were_checksums_is_reused(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "d.h5"
    write_descriptors(path, torch.ones(3, 2), "f").close()
    with h5py.File(path, "r+") as file:
        del file.attrs["checksum"]
    assert is_reusable(path, "f", 3, 2, "float32")
    with h5py.File(path, "r+") as file:
        file["descriptors"][1] = np.inf
    assert not is_reusable(path, "f", 3, 2, "float32")
    with Descriptors(path) as found:
        assert len(found) == 3
