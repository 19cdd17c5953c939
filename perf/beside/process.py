"""A command measured from outside: wall-clock seconds, processor seconds and peak memory of its process tree."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS_BETWEEN_LOOKS = 0.1


@dataclass(frozen=True)
class Ran:
    """What a command took.

    Attributes:
        begin: when it was started, seconds of `time.time`.
        wall: seconds until it ended.
        processor: seconds that all of its processes had a processor, in the program and in the system.
        peak_mb: the most memory that its processes had together, MB (`tree_kilobytes`).
        anonymous_mb: the same of memory that is of no file: without libraries.
    """

    begin: float
    wall: float
    processor: float
    peak_mb: float
    anonymous_mb: float


def run_measured(command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path) -> Ran:
    """Run a command in a folder, its output into `log`; raises RuntimeError with the log's end where it fails."""
    with log.open("w") as output:
        begin = time.time()
        process = subprocess.Popen(command, cwd=folder, env=dict(environment), stdout=output, stderr=output)
        watch = _Watch(process.pid)
        watch.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        finally:
            watch.stop()
        wall = time.time() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise RuntimeError(f"{' '.join(command)}: ended with {process.returncode}\n{tail}")
    return Ran(begin, wall, usage.ru_utime + usage.ru_stime, *(peak / 1024 for peak in watch.peaks))


class _Watch(threading.Thread):
    """Looks at a process tree's memory again and again."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._root, self._ended = root, threading.Event()
        self.peaks = [0, 0]  # kilobytes, in all and anonymous

    def run(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_LOOKS):
            now = tree_kilobytes(self._root)
            self.peaks = [max(pair) for pair in zip(self.peaks, now, strict=True)]

    def stop(self) -> None:
        self._ended.set()
        self.join()


def tree(root: int) -> list[int]:
    """Return the numbers of a process and of all that descend from it (Linux; elsewhere the process alone)."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
    return found


def tree_kilobytes(root: int) -> tuple[int, int]:
    """Return what a process and all that descend from it hold, in all and anonymous, kB; what they share counts once.

    Libraries count as much as the process that has most of them holds. Their share, which Linux knows too, depends on
    who else on the machine has loaded the same: an evaluation alone had 250 MB more than one beside nine others.
    """
    anonymous, shared, libraries = 0, 0, 0
    for pid in tree(root):
        with contextlib.suppress(OSError, KeyError):
            shares = _fields(Path(f"/proc/{pid}/smaps_rollup"))
            anonymous += shares.get("Pss_Anon", shares["Pss"])  # Linux 5.3 tells them apart
            shared += shares.get("Pss_Shmem", 0)
            libraries = max(libraries, _fields(Path(f"/proc/{pid}/status"))["RssFile"])
    return anonymous + shared + libraries, anonymous


def _fields(path: Path) -> dict[str, int]:
    """Read the lines "Name:  123 kB" of a file of /proc."""
    pairs = (line.split(":", 1) for line in path.read_text().splitlines() if line.endswith("kB"))
    return {name: int(value.split()[0]) for name, value in pairs}
