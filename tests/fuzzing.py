"""Random files, names and command lines for every reader: what leaves a reader is a result or a UserError.

`tests/fuzz/` runs them with few inputs each; more with `-m slow --fuzz_seconds 300`. Counted instead of stopped at the
first error:

    PYTHONPATH=.:tests python tests/fuzz_count.py --seconds 100 [names yaml_files ...]
"""

from __future__ import annotations

import contextlib
import io
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch  # noqa: F401 - an alarm in the middle of this import would spoil all inputs that follow
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from vgbench.errors import UserError

LONGEST = 20  # seconds of work that one tiny input may take; what takes longer hangs
WAITING = 120  # seconds by the clock, on a machine that does much else
Read = Callable[[Any, Path], object]


@dataclass(frozen=True)
class Target:
    """One kind of input: what is drawn, and what reads it in an empty folder of its own."""

    inputs: st.SearchStrategy[Any]
    read: Read
    share: float = 1.0  # of the inputs: less where one is slow


class Hangs(BaseException):
    """An input took longer than `LONGEST`."""


TARGETS: dict[str, Target] = {}


def target(inputs: st.SearchStrategy[Any], share: float = 1.0) -> Callable[[Read], Read]:
    """Enter a reader under its function's name."""

    def enter(read: Read) -> Read:
        TARGETS[read.__name__] = Target(inputs, read, share)
        return read

    return enter


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    """Raise `Hangs` where the block works for longer, or waits for very long."""

    def stop(*_: object) -> None:
        raise Hangs(f"more than {seconds} s")

    before = [(number, signal.signal(number, stop)) for number in (signal.SIGALRM, signal.SIGPROF)]
    signal.alarm(WAITING)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        for number, handler in before:
            signal.signal(number, handler)


def read_one(name: str, value: Any, around: Path) -> None:
    """Let a target read one input in a folder; raises whatever leaves it but a UserError or status 0 or 2.

    Raises:
        AssertionError: it wrote beside its folder, or ended with another status.
    """
    folder = around / "given"
    folder.mkdir()
    try:
        # A terminal of UTF-8, which refuses what cannot be written in it.
        with within(LONGEST), contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")):
            TARGETS[name].read(value, folder)
    except UserError as error:
        assert str(error) and "\n" not in str(error)
    except SystemExit as stop:
        assert stop.code in (0, 2), f"status {stop.code}"
    finally:
        shutil.rmtree(folder)
    assert not list(around.iterdir()), f"written beside the folder: {list(around.iterdir())}"


def run(name: str, examples: int, counts: Counter[str] | None = None, stream: int = 0) -> int:
    """Draw inputs for a target, the same ones each time; another `stream` has others. Return how many were read.

    The first error of another kind is raised, or counted where `counts` is given.
    """
    one, done = TARGETS[name], 0

    @seed(stream)
    @settings(
        max_examples=max(1, int(examples * one.share)),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(one.inputs)
    def each(value: Any) -> None:
        nonlocal done
        done += 1
        with tempfile.TemporaryDirectory() as around:
            try:
                read_one(name, value, Path(around))
            except (Exception, Hangs) as error:
                if counts is None:
                    raise
                counts["of another kind"] += 1
                counts[f"  {type(error).__name__}: {str(error)[:90]!r}"] += 1

    each()
    if counts is not None:
        counts["inputs"] += done
    return done


def run_for(name: str, seconds: float, counts: Counter[str] | None = None) -> int:
    """Draw inputs for a target for some seconds, as `run` does: one stream after the other."""
    end, stream, done = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        stream += 1
        done += run(name, 200, counts, stream)
    return done


# What the values are made of

BOUNDARIES = (
    "0",
    "-1",
    "1e308",
    "1e999",
    "nan",
    "inf",
    "9" * 30,
    "9" * 5000,
    "\0",
    "",
    " ",
    "--",
    "=",
    "٣",
    "½",
    "é" * 130,
)
NUMBERS = st.one_of(st.sampled_from(BOUNDARIES), st.integers().map(str), st.floats().map(str), st.text(max_size=8))
WORDS = st.one_of(NUMBERS, st.text(st.characters(codec="utf-8"), max_size=20))


def broken(good: bytes) -> st.SearchStrategy[bytes]:
    """Return a file with a few bytes changed, cut, or put in."""
    change = st.tuples(st.integers(0, max(len(good) - 1, 0)), st.integers(0, 12), st.binary(max_size=12))

    def spoil(changes: list[tuple[int, int, bytes]]) -> bytes:
        whole = good
        for start, length, new in changes:
            whole = whole[:start] + new + whole[start + length :]
        return whole

    cut = st.integers(0, len(good)).map(lambda length: good[:length])
    return st.one_of(st.lists(change, min_size=1, max_size=4).map(spoil), cut, st.binary(max_size=200))


def lines_of(*columns: str, separator: str = ",") -> st.SearchStrategy[bytes]:
    """Return a table: mostly its header, and cells that are mostly numbers."""
    plain = st.one_of(st.sampled_from(("1", "45.5", "2020", "2020-01-01T10:00:00", "a.jpg")), NUMBERS)
    rows = st.lists(st.lists(plain, max_size=len(columns) + 1).map(separator.join), max_size=5)
    head = st.one_of(st.just(separator.join(columns)), WORDS)
    return st.tuples(head, rows).map(lambda t: "\n".join([t[0], *t[1]]).encode("utf-8", "surrogatepass"))


def file_of(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
