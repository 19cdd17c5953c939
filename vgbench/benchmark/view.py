"""A live view of a whole matrix on a terminal: what is done, what runs and until when, what waits, what failed."""

from __future__ import annotations

import shutil
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO

_UP_AND_CLEAR = "\x1b[F\x1b[2K"
_BAR = 24


@dataclass(frozen=True)
class Running:
    """A job that runs: its label, its kind (train, eval, ...), seconds since it began, the last line it printed."""

    label: str
    kind: str
    seconds: float
    line: str = ""


@dataclass(frozen=True)
class State:
    """Where a matrix is.

    Attributes:
        total: jobs that this call is to see done.
        running: those that run.
        waiting: kinds of those that have not begun.
        failures: run -> why it has no result.
    """

    total: int
    running: Sequence[Running]
    waiting: Sequence[str]
    failures: Mapping[str, str]

    @property
    def ended(self) -> int:
        return self.total - len(self.running) - len(self.waiting)


@dataclass
class Pace:
    """How long jobs of each kind take, from those that this call has seen end."""

    _seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, kind: str, seconds: float) -> None:
        """Note how long a job took."""
        self._seconds.setdefault(kind, []).append(seconds)

    def left(self, job: Running) -> float | None:
        """Return the seconds that a job will most likely still run; None where none of its kind has ended."""
        usual = self._usual(job.kind)
        return None if usual is None else max(usual - job.seconds, 0.0)

    def total(self, state: State, at_a_time: int) -> float | None:
        """Return the seconds until all is done, `at_a_time` jobs at a time; None where a kind is not known yet."""
        running = [self.left(job) for job in state.running]
        waiting = [self._usual(kind) for kind in state.waiting]
        known = [seconds for seconds in [*running, *waiting] if seconds is not None]
        if len(known) < len(running) + len(waiting):
            return None
        return max(
            [sum(known) / max(at_a_time, 1), *(seconds for seconds in running if seconds is not None)], default=0.0
        )

    def _usual(self, kind: str) -> float | None:
        known = self._seconds.get(kind)
        return statistics.median(known) if known else None


def lines_of(state: State, pace: Pace, width: int, height: int) -> list[str]:
    """Return the view's lines, none longer than `width`, at most `height` of them."""
    full = round(_BAR * state.ended / max(state.total, 1))
    counts = [f"{state.ended} of {state.total} done", f"{len(state.running)} running", f"{len(state.waiting)} waiting"]
    counts += [f"{len(state.failures)} failed"] if state.failures else []
    left = pace.total(state, len(state.running))
    head = f"[{'#' * full}{'.' * (_BAR - full)}] {', '.join(counts)}"
    found = [head + ("" if left is None else f"; left: about {duration(left)}")]
    for job in state.running:
        rest = pace.left(job)
        until = duration(job.seconds) + ("" if rest is None else f", {duration(rest)} left")
        found.append(f"  {job.label} ({until})" + (f": {job.line}" if job.line else ""))
    failed = [f"  failed: {run}: {reason}" for run, reason in state.failures.items()]
    space = max(height - len(found), 0)
    if len(failed) > space:
        shown = failed[: max(space - 1, 0)]
        failed = [*shown, f"  ... and {len(failed) - len(shown)} that failed besides"]
    return [line[:width] for line in [*found, *failed][:height]]


@dataclass
class LiveView:
    """Draws a state again and again below the lines that are said; where there is no terminal, only these.

    Attributes:
        output: where to; a terminal is drawn on.
        plain: prints one line, in place of `output` where that is no terminal.
    """

    output: TextIO = field(default_factory=lambda: sys.stdout)
    plain: Callable[[str], None] = print
    pace: Pace = field(default_factory=Pace)
    _drawn: int = 0

    @property
    def is_live(self) -> bool:
        """Whether anything but said lines is shown."""
        return self.output.isatty()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        if not self.is_live:
            self.plain(line)
            return
        self.clear()
        self.output.write(line + "\n")
        self.output.flush()

    def show(self, state: State) -> None:
        """Draw a state in place of the last one."""
        if not self.is_live:
            return
        size = shutil.get_terminal_size()
        self.clear()
        lines = lines_of(state, self.pace, size.columns - 1, max(size.lines - 2, 1))
        self.output.write("".join(line + "\n" for line in lines))
        self.output.flush()
        self._drawn = len(lines)

    def clear(self) -> None:
        """Take away what was drawn."""
        self.output.write(_UP_AND_CLEAR * self._drawn)
        self.output.flush()
        self._drawn = 0


def duration(seconds: float) -> str:
    """Return "1:02:03", or "2:03" below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
