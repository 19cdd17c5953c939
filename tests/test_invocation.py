"""Commands are named as they were called."""

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
