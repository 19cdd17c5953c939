"""Pairs of timings taken in turn, so that a ratio holds while the machine's speed drifts."""

from __future__ import annotations

import json
import multiprocessing
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from vgbench.retrieval.extraction.writer import DescriptorWriter


@dataclass(frozen=True)
class Pair:
    """Ours beside the reference.

    Attributes:
        what: what was done, with its sizes.
        unit: of the two rates or times.
        ours, reference: medians.
        ratio: median over the rounds of how many times faster ours was in that round.
        low, high: the smallest and the largest of those.
        memory: peak resident memory of ours and of the reference, MB, where each ran in its own process.
    """

    what: str
    unit: str
    ours: float
    reference: float
    ratio: float
    low: float
    high: float
    memory: tuple[float, float] | None = None


def seconds(action: Callable[[], object]) -> float:
    """Run once; return wall-clock seconds."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


class Partner:
    """A reference that runs in a process of its own, which nothing but its own code has set up.

    Args:
        prepare: an importable function of `arguments` that returns the action to time.
    """

    def __init__(self, prepare: Callable[..., Callable[[], object]], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, prepare, arguments), daemon=True)
        self._process.start()

    def __call__(self) -> None:
        """Run the action once."""
        self._pipe.send(True)
        self._pipe.recv()

    def __enter__(self) -> Partner:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.join()


def _serve(pipe: Connection, prepare: Callable[..., Callable[[], object]], arguments: tuple[object, ...]) -> None:
    action = prepare(*arguments)
    while pipe.recv():
        action()
        pipe.send(True)


def in_turn(
    ours: Callable[[], object], reference: Callable[[], object], rounds: int
) -> tuple[list[float], list[float]]:
    """Warm both up, then time them in turn: seconds of each round."""
    ours(), reference()
    pairs = [(seconds(ours), seconds(reference)) for _ in range(rounds)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def pair_of(
    what: str, unit: str, ours: Sequence[float], reference: Sequence[float], amount: float | None = None,
    memory: tuple[float, float] | None = None,
) -> Pair:  # fmt: skip
    """Summarise rounds of seconds; `amount` (images, say) a round turns the medians into rates."""
    ratios = [b / a for a, b in zip(ours, reference, strict=True)]
    mine, theirs = (amount / median if amount else median for median in map(statistics.median, (ours, reference)))
    return Pair(what, unit, mine, theirs, statistics.median(ratios), min(ratios), max(ratios), memory)


def in_own_process(module: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Run `python -m module '<json>'`; return the JSON of its last line."""
    command = [sys.executable, "-m", module, json.dumps(dict(arguments))]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{module} stopped with status {ended.returncode}")
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result


def peak_mb() -> float:
    """Return the peak resident memory of this process so far, MB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent held when it started this process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_descriptors(path: Path, rows: int, dim: int, seed: int) -> None:
    """Write random unit descriptors float16 [rows,D] into a file."""
    generator = torch.Generator().manual_seed(seed)
    with DescriptorWriter(path, rows, dim, "float16", "perf") as writer:
        for start in range(0, rows, 20_000):
            block = torch.randn(min(20_000, rows - start), dim, generator=generator)
            writer.write(torch.nn.functional.normalize(block, dim=1))
