"""Some work on several ranks (gloo, on the CPU), each forked from this process: cheaper than torchrun."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from vgbench import parallel
from vgbench.cli.exits import ended


def on_ranks(count: int, work: Callable[[int], object], folder: Path) -> tuple[list[int], str]:
    """Return the status of each rank, and what they said on stderr; `work` is told which rank it is."""
    importlib.import_module("torch._dynamo")  # which DistributedDataParallel imports: here once, not in every rank
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "stderr.txt"
    log.unlink(missing_ok=True)
    pids = []
    for rank in range(count):
        pids.append(os.fork())
        if pids[-1] == 0:
            os._exit(_be(rank, count, port, work, log))
    statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    return statuses, log.read_text()


def _be(rank: int, count: int, port: int, work: Callable[[int], object], log: Path) -> int:
    os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)  # not what pytest reads
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def started() -> None:
        parallel.start(torch.device("cpu"))
        work(rank)

    try:
        return ended(started)
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        return 1
