"""Machines as they are: no permission, names that are long or no text, readers that have gone, a pipe as an image."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from calls import SMALL, complaint, of, run_here
from locations import REPOSITORY

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="its ways are Linux's")


@contextlib.contextmanager
def like_anybody() -> Iterator[None]:
    """Root may do without what lets it look everywhere, for a while."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    kept = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, kept) == 0
    less = (ctypes.c_uint32 * 6)(*kept)
    less[0] = less[3] = 0  # effective
    assert libc.capset(header, less) == 0
    try:
        yield
    finally:
        assert libc.capset(header, kept) == 0


def evaluation(trained: Path, dataset: Path, folder: Path) -> list[str]:
    return [f"--resume={trained / 'best_model.pth'}", *of(dataset), *SMALL, f"--run_dir={folder / 'eval'}"]


FORBIDDEN = {
    "the run": "run",
    "the datasets": "datasets",
    "the dataset": "datasets/tiny",
    "the split": "datasets/tiny/images/test",
    "the database": "datasets/tiny/images/test/database",
    "the queries": "datasets/tiny/images/test/queries",
    "the new run's folder": "eval",
    "the options": "config",
    "the descriptors": "run/descriptors",
}


@pytest.mark.parametrize("what", FORBIDDEN)
@pytest.mark.parametrize("mode", [0o000, 0o400], ids=["nothing", "names only"])
def test_no_permission_to_look(
    what: str, mode: int, trained: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "eval").mkdir()
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "options.yaml").write_text("recall_values: [1, 5]\n")
    (trained / "descriptors").mkdir(exist_ok=True)
    folder = tmp_path / FORBIDDEN[what]
    assert folder.is_dir()
    before = folder.stat().st_mode
    folder.chmod(mode)
    words = [*evaluation(trained, tiny_dataset, tmp_path), f"--config={tmp_path / 'config' / 'options.yaml'}"]
    try:
        with like_anybody():
            status = run_here("eval.py", *words)
    finally:
        folder.chmod(before)
    shown = capsys.readouterr()
    if status:
        assert str(folder) in complaint((status, shown.out, shown.err))
    assert "Traceback" not in shown.err and not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(
    "flag", ["--resume", "--run_dir", "--datasets_folder", "--dataset_name", "--config", "--start_from"]
)
@pytest.mark.parametrize("long", ["a" * 256, "a" * 5000, "\u00fc" * 128], ids=["256", "5000", "128 of two bytes"])
def test_a_name_that_is_too_long(
    flag: str, long: str, trained: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = "train.py" if flag == "--start_from" else "eval.py"
    words = evaluation(trained, tiny_dataset, tmp_path) if script == "eval.py" else of(tiny_dataset)
    value = long if flag == "--dataset_name" else str(tmp_path / long)
    status = run_here(script, *words, f"{flag}={value}")
    shown = capsys.readouterr()
    assert long[:100] in complaint((status, shown.out, shown.err))


def renamed(dataset: Path, name: bytes) -> None:
    """Give the images of the test split's queries a further field, as long or as strange as it may be."""
    for path in sorted((dataset / "images" / "test" / "queries").iterdir()):
        room = 255 - len(os.fsencode(path.name))
        path.rename(path.with_name(path.stem + os.fsdecode(name[:room]) + path.suffix))


@pytest.mark.parametrize("name", [b"caf\xe9\xff", b"x" * 255, "\u00fc".encode() * 100, b"'\"<&>;%\\\n\t"], ids=str)
def test_names_of_images_of_any_kind(
    name: bytes, trained: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    renamed(tiny_dataset, name[:200])
    words = [
        *evaluation(trained, tiny_dataset, tmp_path), "--save_preds=3", "--rerank", "local", "--rerank_topk=3",
        "--local_features", "orb", "--report_queries=4",
    ]  # fmt: skip
    if b"\n" not in name:  # which no list of pairs can hold, and which is refused there
        words.append(f"--pairs_out={tmp_path / 'pairs.txt'}")
    status = run_here("eval.py", *words)
    shown = capsys.readouterr()
    assert status == 0 and "Traceback" not in shown.err and "Logging error" not in shown.err, shown.err
    folder = tmp_path / "eval"
    json.loads((folder / "results.json").read_text())
    assert (folder / "report.html").read_bytes().decode("utf-8")
    assert (folder / "predictions.csv").is_file() and (folder / "info.log").read_text(encoding="utf-8")
    json.loads((folder / "predictions.geojson").read_bytes().decode("utf-8", "surrogateescape"))


def command(words: list[str]) -> list[str]:
    return [sys.executable, str(REPOSITORY / "eval.py"), *words]


def test_a_reader_that_has_gone_ends_no_test(trained: Path, pristine_dataset: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(evaluation(trained, pristine_dataset, tmp_path)), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=tmp_path,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=300) in (0, 141)
    assert "Traceback" not in err and "Exception ignored" not in err, err
    assert json.loads((tmp_path / "eval" / "results.json").read_text())["recalls"]
    assert (tmp_path / "eval" / "report.html").is_file()


def test_a_full_device_as_output_ends_no_test(trained: Path, pristine_dataset: Path, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command(evaluation(trained, pristine_dataset, tmp_path)), stdout=full, stderr=subprocess.PIPE, text=True,
            cwd=tmp_path, timeout=300, check=False,
        )  # fmt: skip
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr and "ignored" not in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) <= 1
    assert (tmp_path / "eval" / "results.json").is_file() and (tmp_path / "eval" / "report.html").is_file()


@pytest.mark.parametrize("kind", ["a pipe", "a link to a pipe", "a folder", "a link to nothing"])
def test_what_is_named_like_an_image_and_is_none(
    kind: str, trained: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = sorted((tiny_dataset / "images" / "test" / "queries").glob("*.jpg"))[0]
    content = target.read_bytes()
    target.unlink()
    if kind == "a pipe":
        os.mkfifo(target)
    elif kind == "a link to a pipe":
        os.mkfifo(tmp_path / "pipe")
        target.symlink_to(tmp_path / "pipe")
    elif kind == "a folder":
        target.mkdir()
        (target / "@0@0@.jpg").write_bytes(content)
    else:
        target.symlink_to(tmp_path / "nothing")
    status = run_here("eval.py", *evaluation(trained, tiny_dataset, tmp_path))
    shown = capsys.readouterr()
    if kind == "a folder":
        assert "Traceback" not in shown.err
    else:
        assert target.name in complaint((status, shown.out, shown.err))
    shutil.rmtree(tmp_path / "eval", ignore_errors=True)
