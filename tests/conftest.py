"""Fixtures that every room's tests share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tiny_city import write_dataset


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
