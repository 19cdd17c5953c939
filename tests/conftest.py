"""Fixtures that every package's tests share."""

from __future__ import annotations

import contextlib
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from calls import TRAINING, of, run_here
from hypothesis import HealthCheck, settings
from tiny_city import write_dataset

# A machine that many share is slow at times; no test is about that.
settings.register_profile("tests", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

# Under nohup and in the background SIGHUP and SIGINT are ignored, and stay so in every command; tests are of commands
# that a terminal starts.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# To import it closes all log handlers, absl's with the stream that a test had for stderr: so before there are any.
with contextlib.suppress(ImportError):
    import submitit as submitit


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz_seconds", type=float, default=60.0, help="for each reader that is fuzzed with -m slow")
    parser.addoption("--soak_minutes", type=float, default=30.0, help="of tests/soak.py")
    parser.addoption("--soak_seed", type=int, default=0, help="what tests/soak.py draws from")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(scope="session")
def pristine_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("datasets") / "tiny")


@pytest.fixture
def tiny_dataset(pristine_dataset: Path, tmp_path: Path) -> Path:
    """The tiny dataset, a copy that the test may spoil."""
    return Path(shutil.copytree(pristine_dataset, tmp_path / "datasets" / "tiny"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered between runs stays out of the home folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def _torch_threads() -> None:
    """Tiny networks gain nothing from threads, and lose much where the cores are shared."""
    torch.set_num_threads(1)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Run a script in an empty folder: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(script: str, *arguments: str) -> tuple[int, str, str]:
        status = run_here(script, *arguments)
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


@pytest.fixture(scope="session")
def first_run(pristine_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, trained once for all tests: to be read, `trained` is one to write into."""
    folder = tmp_path_factory.mktemp("first") / "run"
    assert run_here("train.py", *of(pristine_dataset), *TRAINING, f"--run_dir={folder}") == 0
    return folder


@pytest.fixture
def trained(first_run: Path, tmp_path: Path) -> Path:
    """A finished run, a copy that the test may go on with."""
    return Path(shutil.copytree(first_run, tmp_path / "run"))
