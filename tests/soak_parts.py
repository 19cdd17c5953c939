"""What the soak is made of: commands in processes of their own, disks that can be full, what is equal at the end."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from calls import run_here

LONGEST = 600.0  # seconds that a command of some seconds may take on a machine that does much else
_OVERRIDE = (1 << 1) | (1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
DISK = 160 * 2**20
# What differs between two runs of the same bits.
_OF_THE_CLOCK = ("seconds", "images_per_second")


class WrongError(Exception):
    """Something that must not be."""


class Child:
    """A script in a process of its own, forked from this one so that it need not import everything again.

    Args:
        small: no file may become larger than this many bytes: a full disk for who may not mount one.
        ranks: that torchrun starts; 1: the script alone.
    """

    def __init__(self, script: str, words: list[str], folder: Path, small: int | None = None, ranks: int = 1) -> None:
        self.status: int | None = None
        self.ranks = ranks
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(_run(script, words, folder, small, ranks))

    def ended_within(self, seconds: float) -> bool:
        """Whether it ends within some seconds; returns as soon as it does."""
        end = time.monotonic() + seconds
        while self.status is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end:
                return False
            else:
                time.sleep(0.01)
        return True

    def wait(self) -> int:
        """Return its status; raises WrongError where it does not end."""
        if not self.ended_within(LONGEST):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            raise WrongError(f"did not end within {LONGEST:.0f} s")
        assert self.status is not None
        return self.status

    def send(self, number: int, rank: int | None = None) -> None:
        """Send a signal, unless it has ended: to torchrun, or to one rank alone; kill -9 of torchrun is of all.

        Args:
            rank: where there are several.
        """
        if self.status is not None:
            return
        if self.ranks > 1 and rank is not None:
            for one in _children(self.pid)[rank : rank + 1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, number)
        elif self.ranks > 1 and number == signal.SIGKILL:
            os.killpg(self.pid, number)
        else:
            os.kill(self.pid, number)


def _children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _torchrun(ranks: int, script: str, words: list[str]) -> int:
    """Run a script as `torchrun --standalone --nproc_per_node=<ranks>` does, but for ranks that are forked."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        1, 1, ranks, run_id=f"soak-{os.getpid()}", rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0,
        start_method="fork", monitor_interval=0.1,
    )  # fmt: skip
    try:
        elastic_launch(config, _one_rank)(script, words)
    except SignalException as told:
        return 128 + int(told.sigval)
    except ChildFailedError as failed:
        return int(failed.get_first_failure()[1].exitcode)
    return 0


def _one_rank(script: str, words: list[str]) -> None:
    status = run_here(script, *words)
    if status:
        os._exit(status)


def _run(script: str, words: list[str], folder: Path, small: int | None, ranks: int) -> int:
    """Be the child: return the script's status."""
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # The log is outside of the disk that will be full.
        log = os.open(folder.parent / f"{folder.name}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        _obey_permissions()
        if small is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (small, small))
        os.chdir(folder.parent)
        status = run_here(script, *words) if ranks == 1 else _torchrun(ranks, script, words)
        if status < 0:  # of a rank that the system ended
            signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
            os.kill(os.getpid(), -status)
    except BaseException:  # as the interpreter does at its end
        traceback.print_exc()
    with contextlib.suppress(OSError, ValueError):
        os.fsync(1)
    return status


def _obey_permissions() -> None:
    """Take root's right to write where nobody may: a read-only folder is one for everybody then."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0))
    held = ctypes.create_string_buffer(24)
    if libc.capget(header, held) == 0:
        parts = list(struct.unpack("6I", held.raw))
        parts[0] &= ~_OVERRIDE
        parts[1] &= ~_OVERRIDE
        libc.capset(header, ctypes.create_string_buffer(struct.pack("6I", *parts)))


class Disk:
    """A small disk of one run, which can be full or read-only; a plain folder where none may be mounted."""

    def __init__(self, folder: Path, mounted: bool = True) -> None:
        self.folder, self.mounted, self._heard = folder, False, 0
        folder.mkdir()
        if mounted:
            command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(folder)]
            self.mounted = (
                shutil.which("mount") is not None and subprocess.run(command, capture_output=True).returncode == 0
            )

    def fill(self, left: int) -> None:
        """Leave so many bytes."""
        if self.mounted:
            with (self.folder / "ballast").open("wb") as stream, contextlib.suppress(OSError):
                size = shutil.disk_usage(self.folder).free - left
                if size > 0:
                    os.posix_fallocate(stream.fileno(), 0, size)

    def read_only(self) -> None:
        """Nothing can be made, replaced or removed in any folder of it."""
        for folder in self._folders():
            folder.chmod(0o555)

    def as_before(self) -> None:
        """Writable and with space again."""
        for folder in self._folders():
            folder.chmod(0o755)
        (self.folder / "ballast").unlink(missing_ok=True)

    def _folders(self) -> list[Path]:
        return [self.folder, *(path for path in self.folder.rglob("*") if path.is_dir())]

    def said(self, whole: bool = False) -> str:
        """Return what the commands said since `heard`, or the end of it."""
        log = self.folder.parent / f"{self.folder.name}.log"
        text = log.read_bytes()[self._heard :].decode("utf-8", "replace") if log.is_file() else ""
        return text if whole else text[-300:]

    def heard(self) -> None:
        """Begin to listen anew."""
        self._heard = (self.folder.parent / f"{self.folder.name}.log").stat().st_size

    def close(self, keep: bool = False) -> None:
        """Remove it."""
        if keep:
            with contextlib.suppress(OSError):
                shutil.copytree(self.folder, self.folder.with_name(f"{self.folder.name}-kept"))
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)
        shutil.rmtree(self.folder)


def rounds_done(run: Path) -> int:
    """Return the number of lines of metrics.jsonl."""
    file = run / "metrics.jsonl"
    return len(file.read_bytes().splitlines()) if file.is_file() else 0


def differences(calm: Path, disturbed: Path, run: str = "run", test: str = "test") -> list[str]:
    """Return what is not equal to the bit: weights and all else that checkpoints hold, recalls, tables, predictions.

    Args:
        run, test: the folders of the training and of its test within both.
    """
    found = [
        f"{name}: {key}"
        for name in (f"{run}/last_model.pth", f"{run}/best_model.pth")
        for key in _unequal(_checkpoint(calm / name), _checkpoint(disturbed / name))
    ]
    found += [f"{run}/metrics.jsonl: row {row}" for row in _unequal(_rows(calm / run), _rows(disturbed / run))]
    for folder in (run, test):
        known, made = (json.loads((one / folder / "results.json").read_text()) for one in (calm, disturbed))
        found += [
            f"{folder}/results.json: {key}" for key in ("recalls", "queries", "database") if known[key] != made[key]
        ]
        found += [
            f"{folder}/{name}"
            for name in ("predictions.csv", "predictions.h5")
            if (calm / folder / name).read_bytes() != (disturbed / folder / name).read_bytes()
        ]
        if _table(calm / folder) != _table(disturbed / folder):
            found.append(f"{folder}: table")
    left = [
        path
        for path in disturbed.rglob("*")
        if path.suffix in (".partial", ".lock", ".progress") or path.name == ".lock"
        if not (calm / path.relative_to(disturbed)).exists()  # benchmark.py keeps the file of its lock
    ]
    return found + [f"{path.relative_to(disturbed)} is left" for path in left]


def _table(folder: Path) -> str:
    from vgbench.report.tables.build import build_table

    results = json.loads((folder / "results.json").read_text())
    return str(build_table([{**results, "name": "one"}], values=(1, 5, 10, 20)))


def _checkpoint(path: Path) -> dict[str, Any]:
    """Return everything that a checkpoint holds, flat, but for the options, which say where the run is."""
    import torch

    content = torch.load(path, weights_only=True)
    content.pop("options", None)
    return dict(_flat("", content))


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if str(key).startswith(_OF_THE_CLOCK):
                continue
            yield from _flat(f"{name}/{key}", inner)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _flat(f"{name}/{index}", inner)
    else:
        yield name, value


def _rows(run: Path) -> dict[str, Any]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return dict(_flat("", rows))


def _unequal(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the names of the values that are not the same, or that only one has."""
    import torch

    def same(key: str) -> bool:
        if key not in one or key not in other:
            return False
        left, right = one[key], other[key]
        if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
            return left.dtype == right.dtype and torch.equal(left, right)
        return bool(left == right)

    return [key for key in {**one, **other} if not same(key)]
