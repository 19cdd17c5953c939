"""Commands are named as they were called."""

import sys

import pytest

from vgbench.invocation import command


@pytest.mark.parametrize(
    ("called", "name", "said"),
    [
        ("train.py", "eval", "python3 eval.py"),
        ("/usr/bin/vgbench", "eval", "vgbench eval"),
        ("/lib/vgbench/__main__.py", "train", "vgbench train"),
        ("train.py", "export", "python3 -m vgbench export"),
    ],
)
def test_a_command_is_named_as_this_one_was_called(monkeypatch, called, name, said):
    monkeypatch.setattr("sys.argv", [called])
    assert command(name) == said


@pytest.mark.parametrize(
    ("called", "train", "combine"),
    [
        ("train.py", "python3 train.py", "python3 -m vgbench.combine"),
        ("/home/me/clone/eval.py", "python3 train.py", "python3 -m vgbench.combine"),
        ("/usr/bin/vgbench", "vgbench train", "vgbench combine"),
        ("/lib/site-packages/vgbench/__main__.py", "vgbench train", "vgbench combine"),
    ],
)
def test_one_call_names_all_commands_alike(
    called: str, train: str, combine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    assert command("train") == train and command("combine") == combine
