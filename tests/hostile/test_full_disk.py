"""A full disk, for everything that writes: one line that names the file, nothing half left, the old file intact.

With a real file system of a few megabytes, where one may mount one, and with the system's own limit on the size of a
file, which C libraries meet as Python does.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calls import SMALL, TRAINING, of
from locations import REPOSITORY
from torch import Tensor

from vgbench.api.network import Described
from vgbench.cli.exits import ended
from vgbench.describe import write_descriptors as described
from vgbench.errors import UserError
from vgbench.files import check_space
from vgbench.report.leaderboard.plots import save_plots
from vgbench.retrieval.extraction.store import Descriptors
from vgbench.retrieval.extraction.writer import DescriptorWriter, write_descriptors
from vgbench.retrieval.options import CompressionOptions
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.local.features import LocalFeatures
from vgbench.retrieval.rerank.local.matches import LocalMatches
from vgbench.retrieval.rerank.local.store import FeatureStore
from vgbench.retrieval.searching.codes import BinaryCodes, _encode
from vgbench.retrieval.searching.index import _write, faiss
from vgbench.retrieval.searching.pca import PCA
from vgbench.runs.folder import open_run_folder, write_config
from vgbench.runs.settings import RunOptions
from vgbench.runs.testing import write_results
from vgbench.training.checkpoint import METRICS, Progress, save_checkpoint
from vgbench.training.metrics_logger import MetricsLogger, rewind

ROWS, DIM = 300, 64
MB = 2**20


def numbers(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def floats(*shape: int) -> np.ndarray:
    return numbers(*shape).numpy()


@contextlib.contextmanager
def limited(folder: Path) -> Iterator[None]:
    """No file may become longer than a few hundred bytes, so that each writer fails after it has begun."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """All but one page of the disk is taken."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    with filler.open("r+b") as file:
        file.truncate(filler.stat().st_size - 4096)
    try:
        yield
    finally:
        filler.unlink()


Full = Callable[[Path], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of `size` bytes; skips where none may be mounted."""
    folder.mkdir()
    mount = shutil.which("mount")
    words = [mount or "", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if mount is None or subprocess.run(words, capture_output=True, check=False, timeout=60).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=60)


@pytest.fixture(params=["limit", "tmpfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Full]]:
    if request.param == "limit":
        (tmp_path / "disk").mkdir()
        yield tmp_path / "disk", limited
        return
    with small_disk(tmp_path / "disk", 4 * MB) as folder:
        yield folder, filled


def descriptors(folder: Path) -> None:
    write_descriptors(folder / "d.h5", numbers(ROWS, DIM), "f").close()


def row_by_row(folder: Path) -> None:
    with DescriptorWriter(folder / "d.h5", ROWS, DIM, "float32", "f") as writer:
        for row in numbers(ROWS, 1, DIM):
            writer.write(row)


@functools.cache
def built(kind: str) -> Any:
    """An index of faiss, in memory."""
    made = faiss.index_factory(DIM, kind)
    made.train(floats(ROWS, DIM))
    made.add(floats(ROWS, DIM))
    return made


def index(kind: str) -> Callable[[Path], None]:
    return lambda folder: _write(folder / "d.faiss", built(kind))


def codes(folder: Path) -> None:
    other = write_descriptors(folder.parent / "elsewhere.h5", numbers(ROWS, DIM), "f")
    _encode(folder / "codes.h5", other, BinaryCodes.fit(other, CompressionOptions()))


def features(folder: Path) -> None:
    one = LocalFeatures(floats(400, 2), floats(400, DIM), (64, 64))
    FeatureStore(folder, DIM, binary=False).append([0], [one])


def of_folder(folder: Path, name: str, layout: str) -> None:
    paths = tuple(folder / f"{row}.jpg" for row in range(ROWS))
    found = Described(paths, floats(ROWS, DIM), np.zeros((ROWS, 2)))
    described(folder / name, folder, found, layout=layout, dtype="float32")


def npy(folder: Path) -> None:
    of_folder(folder, "d.npy", "matrix")


def hloc(folder: Path) -> None:
    of_folder(folder, "d.h5", "hloc")


LONG = {"options": ["x" * 100] * 100}
WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "descriptors": ("d.h5", descriptors),
    "row by row": ("d.h5", row_by_row),
    "predictions": ("p.h5", lambda to: Predictions(np.zeros((ROWS, 20), np.int64), floats(ROWS, 20)).save(to / "p.h5")),
    "checkpoint": ("c.pth", lambda to: save_checkpoint(to / "c.pth", {"weights": numbers(ROWS, DIM)})),
    "pca": ("pca.h5", lambda to: PCA(floats(DIM), floats(DIM, DIM), floats(DIM), "f").save(to / "pca.h5")),
    "codes": ("codes.h5", codes),
    "hnsw": (".faiss", index("HNSW8,Flat")),
    "ivf": (".faiss", index("IVF2,SQ8")),
    "matches": (
        "m.h5",
        lambda to: LocalMatches(np.zeros((9, 9), np.int64), np.full((9, 9), ROWS), floats(ROWS, 4)).save(to / "m.h5"),
    ),
    "features": (".h5", features),
    "npy": ("d.npy", npy),
    "hloc": ("d.h5", hloc),
    "config": ("config.yaml", lambda to: write_config(to, LONG)),
    "results": ("results.json", lambda to: write_results(to, LONG)),
    "plots": ("plot.svg", lambda to: save_plots({"svg": bytes(9000), "pdf": bytes(9000)}, to / "plot")),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("old", [True, False], ids=["over an old file", "a new file"])
def test_a_full_disk_is_one_line_and_leaves_nothing_behind(
    writer: str, old: bool, disk: tuple[Path, Full], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, full = disk
    name, write = WRITERS[writer]
    monkeypatch.setattr("vgbench.retrieval.extraction.writer.check_space", lambda *_: None, raising=False)
    if writer == "codes":  # what they are made of lies elsewhere
        made = write_descriptors(folder.parent / "elsewhere.h5", numbers(ROWS, DIM), "f")
        monkeypatch.setattr(sys.modules[__name__], "write_descriptors", lambda *_: Descriptors(made.path))
    if old:
        write(folder)
    before = contents(folder)
    with full(folder):
        with pytest.raises(UserError) as caught:
            write(folder)
        left = {path.name for path in folder.iterdir()} - {"filler"}
        assert left == before.keys()
    assert name in str(caught.value) and "cannot be written" in str(caught.value) and "\n" not in str(caught.value)
    assert contents(folder) == before


def test_training_goes_on_without_its_logs(disk: tuple[Path, Full], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, full = disk
    said: list[str] = []
    monkeypatch.setattr("vgbench.training.metrics_logger.LOG.warning", lambda text, *args: said.append(text % args))
    with MetricsLogger(folder) as watch:
        watch.start(Progress())
        watch.round(Progress(), 0, {"loss": 1.0})
        kept = (folder / METRICS).read_bytes()
        with full(folder):
            for step in range(300):
                watch.round(Progress(steps=step), step + 1, {"loss": 1.0})
            watch.pictures(Progress(), {"one": torch.zeros(3, 64, 64, dtype=torch.uint8)})
            watch.epoch(Progress(), 1.0, {1: 0.5, 5: 1.0})
            lines = (folder / METRICS).read_bytes()
            assert lines.startswith(kept) and lines.endswith(b"\n")
            rewind(folder / METRICS, Progress(epoch=0, round=1))
            assert (folder / METRICS).read_bytes() == kept
    assert len(said) == 2 and any(METRICS in line for line in said) and any("tensorboard" in line for line in said)


def test_a_log_file_ends_no_run(disk: tuple[Path, Full], capsys: pytest.CaptureFixture[str]) -> None:
    folder, full = disk
    with open_run_folder(RunOptions(run_dir=folder / "run")), full(folder):
        for count in range(300):
            logging.getLogger("vgbench").debug("line %d of a long log", count)
    err = capsys.readouterr().err
    assert "Traceback" not in err and err.count("debug.log: cannot be written") == 1


def test_what_cannot_fit_is_refused_before_it_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type(shutil.disk_usage(tmp_path))(10**12, 10**12 - 10**9, 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    check_space(tmp_path / "new" / "d.h5", 10**9, "")
    with pytest.raises(UserError, match=r"d\.h5: needs 8\.19 GB, but its disk has 1\.00 GB left.*float16"):
        DescriptorWriter(tmp_path / "new" / "d.h5", 10**6, 2048, "float32", "f")
    assert not (tmp_path / "new").exists()


def test_what_no_writer_expected_is_one_line_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def work() -> None:
        with limited(tmp_path), (tmp_path / "file").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(200))

    assert ended(work) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: disk: it is full") and err.count("\n") == 1


@pytest.mark.parametrize(
    "pages", [60, pytest.param(10, marks=pytest.mark.slow), pytest.param(400, marks=pytest.mark.slow)]
)
def test_a_training_on_a_full_disk(pages: int, pristine_dataset: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", pages * 4096) as folder:
        words = [str(REPOSITORY / "train.py"), *of(pristine_dataset), *TRAINING, f"--run_dir={folder / 'run'}", *SMALL]
        done = subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=600
        )
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        assert [line for line in done.stderr.splitlines() if line.startswith("error: ")], done.stderr
        assert not [path for path in folder.rglob("*") if path.suffix in (".partial", ".lock")]
