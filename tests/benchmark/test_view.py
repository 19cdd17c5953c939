"""The live view: what it says, and what of it stays on a terminal."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as some

from vgbench.benchmark.view import LiveView, Pace, Running, State, duration, lines_of


class Terminal(io.StringIO):
    """Text with a screen: keeps lines, and obeys "one line up" and "clear the line"."""

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        lines = [""]
        for part in re.split(r"(\x1b\[F|\x1b\[2K|\n)", self.getvalue()):
            if part == "\n":
                lines.append("")
            elif part == "\x1b[F":
                assert lines.pop() == "", "goes up from within a line"
            elif part == "\x1b[2K":
                lines[-1] = ""
            else:
                lines[-1] += part
        return [line for line in lines if line]


def running(label: str = "[1/4] gem: train", seconds: float = 60.0, line: str = "epoch 1") -> Running:
    return Running(label, "train", seconds, line)


def test_the_view_says_where_the_matrix_is() -> None:
    pace = Pace()
    pace.add("train", 100.0)
    pace.add("eval", 10.0)
    state = State(8, [running()], ["train", "eval"], {"netvlad": "train: no such dataset"})
    assert lines_of(state, pace, 200, 20) == [
        "[###############.........] 5 of 8 done, 1 running, 2 waiting, 1 failed; left: about 2:30",
        "  [1/4] gem: train (1:00, 0:40 left): epoch 1",
        "  failed: netvlad: train: no such dataset",
    ]


def test_several_at_a_time_share_what_is_left() -> None:
    pace = Pace()
    pace.add("train", 100.0)
    two = State(4, [running(seconds=0), running(seconds=0)], ["train", "train"], {})
    assert pace.total(two, 2) == 200
    assert pace.total(State(1, [running(seconds=10)], [], {}), 4) == 90  # no sooner than the longest one
    assert pace.total(State(1, [running(seconds=500)], [], {}), 1) == 0


def test_what_is_not_known_is_not_said() -> None:
    state = State(2, [running()], ["eval"], {})
    assert "left" not in "".join(lines_of(state, Pace(), 200, 20))


@given(
    width=some.integers(10, 120), height=some.integers(1, 12), failures=some.integers(0, 30), jobs=some.integers(0, 8)
)
def test_it_never_outgrows_the_terminal(width: int, height: int, failures: int, jobs: int) -> None:
    failed = {f"run {number}": "x" * 200 for number in range(failures)}
    lines = lines_of(State(50, [running(line="y" * 300)] * jobs, ["eval"] * 3, failed), Pace(), width, height)
    assert 1 <= len(lines) <= height and all(len(line) <= width for line in lines)


def test_on_a_terminal_only_what_was_said_stays() -> None:
    terminal = Terminal()
    view = LiveView(terminal)
    for number in range(3):
        view.show(State(3, [running(f"job {number}")] * (number + 1), [], {}))
        view.say(f"job {number}: done")
    assert terminal.screen() == ["job 0: done", "job 1: done", "job 2: done"]
    view.show(State(3, [running("job 9")], [], {}))
    assert len(terminal.screen()) == 5 and "job 9" in terminal.screen()[-1]
    view.clear()
    assert len(terminal.screen()) == 3


def test_elsewhere_there_are_plain_lines_only() -> None:
    said: list[str] = []
    output = io.StringIO()
    view = LiveView(output, said.append)
    view.show(State(3, [running()], [], {}))
    view.say("done")
    view.clear()
    assert said == ["done"] and output.getvalue() == ""


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0:00"), (61, "1:01"), (3599.6, "1:00:00"), (36_125, "10:02:05")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
