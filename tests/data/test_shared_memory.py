"""Decoding processes where the shared memory is small, as in a container."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from vgbench.data.loader import within_shared_memory


@pytest.mark.parametrize(("megabytes", "expected"), [(0, 0), (64, 0), (300, 2), (64_000, 8)])
def test_no_more_processes_than_batches_have_room(
    megabytes: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=megabytes, f_frsize=2**20))
    assert within_shared_memory(8) == expected


def test_a_system_without_it_decides_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(path: str) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(os, "statvfs", absent)
    assert within_shared_memory(3) == 3
