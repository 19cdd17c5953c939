"""Memory that is refused ends in one line that names what to change; a closed pipe ends nothing."""

from __future__ import annotations

import logging
import sys

import pytest
import torch
from calls import complaint

from vgbench.cli.console import log_to_console
from vgbench.cli.exits import ended


def refused_by_torch() -> None:
    torch.empty(2**50)


def refused_by_python() -> None:
    raise MemoryError


def killed_worker() -> None:
    raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")


@pytest.mark.parametrize("work", [refused_by_torch, refused_by_python, killed_worker])
def test_refused_memory_is_one_line(work: object, capsys: pytest.CaptureFixture[str]) -> None:
    status = ended(work)  # type: ignore[arg-type]
    line = complaint((status, *capsys.readouterr()))
    assert "--infer_batch_size" in line and "--num_workers" in line


def test_other_errors_are_not_hidden() -> None:
    def broken() -> None:
        raise RuntimeError("a mistake of the program")

    with pytest.raises(RuntimeError, match="a mistake"):
        ended(broken)


def test_a_closed_pipe_does_not_end_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, text: str) -> None:
            raise BrokenPipeError

        flush = close = lambda self: None

    log_to_console()
    closed = Closed()
    monkeypatch.setattr("sys.stdout", closed)
    logging.getLogger("vgbench").info("a line")
    assert sys.stdout is closed, "the line went nowhere, and nothing was raised"
