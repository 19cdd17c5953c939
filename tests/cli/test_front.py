"""One front for all commands: help without torch, mistakes in one line with a near name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from calls import complaint

from datasets_vg import choices
from datasets_vg.synthetic_city.prepare import DEFAULT_IMAGES
from vgbench.cli.main import COMMANDS, main
from vgbench.export import FORMATS
from vgbench.export.suffixes import SUFFIXES

REPOSITORY = Path(__file__).resolve().parents[2]
_SUB = {"datasets": ("prepare", "list", "verify", "stats", "map", "msls"), "combine": ("soup", "ensemble", "whiten")}
HELPS = [(name, "--help") for name in COMMANDS] + [(name, sub, "--help") for name in _SUB for sub in _SUB[name]]


@pytest.mark.parametrize("words", [*HELPS, ("datasets", "list"), ("export", "--fromat=onnx")], ids=" ".join)
def test_neither_help_nor_mistakes_load_torch(words: Sequence[str], tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from vgbench.cli.main import main\n"
        f"try: main({list(words)!r})\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout or done.stderr.startswith("error: ")


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["nosuch"], "no such command"),
        (["exprot"], "Did you mean export?"),
        (["train", "--bacbone=x"], "did you mean --backbone?"),
        (["eval", "--dataset_nam=x"], "did you mean --dataset_name?"),
        (["benchmark", "m.yaml", "--jbos", "2"], "did you mean --jobs?"),
        (["benchmark", "--lst"], "did you mean --list?"),
        (["benchmark", "m.yaml", "--job", "2"], "did you mean --jobs?"),  # no option is cut short
        (["benchmark", "m.yaml", "--jobs", "0"], "at least 1"),
        (["benchmark", "m.yaml", "--costs", "dmi"], "Did you mean dim?"),
        (["leaderboard", "--foldr=x"], "unknown option --foldr"),
        (["leaderboard", "a", "b"], "b: stands without an option"),
        (["describe", "--ouput=x.h5"], "did you mean --output?"),
        (["describe", "x", "--output=x.h5", "--layout=hlo"], "Did you mean hloc?"),
        (["describe", "x"], "--output"),
        (["export", "--fromat=onnx"], "did you mean --format?"),
        (["export", "--method=megaloc", "--output=x.onnx", "--format=onxx"], "Did you mean onnx?"),
        (["export", "--output=x.onnx"], "--resume --method"),
        (["datasets", "preparre"], "Did you mean prepare?"),
        (["datasets", "prepare", "--keep_download"], "did you mean --keep_downloads?"),
        (["datasets", "prepare", "synthetic_city", "--scale=-1"], "positive number"),
        (["datasets", "verify", "x", "--names_olny"], "did you mean --names_only?"),
        (["datasets", "stats", "x", "--raduis=3"], "did you mean --radius?"),
        (["datasets", "map", "x", "--otput=x.svg"], "did you mean --output?"),
        (["combine", "suop"], "Did you mean soup?"),
        (["combine", "soup", "--checkpoint=a.pth"], "did you mean --checkpoints?"),
        (["combine", "whiten", "--shrinkag=1"], "did you mean --shrinkage?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_with_a_near_name(
    words: list[str], near: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    status = main(words)
    shown = capsys.readouterr()
    assert near in complaint((status, shown.out, shown.err))
    assert not list(tmp_path.iterdir())


def test_what_the_front_lists_is_what_there_is() -> None:
    assert {name: kind.suffix for name, kind in FORMATS.items()} == SUFFIXES
    assert choices.DEFAULT_IMAGES == DEFAULT_IMAGES
