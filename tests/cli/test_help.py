"""`--help` is documentation: one screen of what people use, every option elsewhere, nothing that says nothing."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from vgbench.cli.commands import Command, Group, parse
from vgbench.cli.help import page
from vgbench.cli.parser import EvalSettings, TrainSettings, read_command_line
from vgbench.errors import UserError
from vgbench.flags import help_of, parts_of
from vgbench.models.aggregation import AGGREGATIONS
from vgbench.models.backbones import BACKBONES
from vgbench.runs.settings import groups_of

REPO = Path(__file__).resolve().parents[2]
TRAIN = Command(
    "python3 train.py", "Train.\n\nexample", tuple(map(Group, groups_of(TrainSettings).values())), short="train"
)
EVAL = Command("python3 eval.py", "Test.\n\nexample", tuple(map(Group, groups_of(EvalSettings).values())), short="eval")


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


@pytest.mark.parametrize("command", [TRAIN, EVAL])
def test_the_short_page_fits_a_screen(command: Command) -> None:
    lines = page(command).splitlines()
    assert lines[0] == command.description.splitlines()[0]
    assert len(lines) <= 60 and all(len(line) <= 120 for line in lines)
    shown = [line for line in lines if line.startswith("  --")]
    assert 25 <= len(shown) <= 42
    assert all(f"--{name}" in page(command) for name in ("backbone", "dataset_name", "resume", "device"))
    assert "timm:<name>" in page(command) and all(name in page(command) for name in AGGREGATIONS)


@pytest.mark.parametrize("command", [TRAIN, EVAL])
def test_every_option_is_on_the_page_of_all_and_on_that_of_its_topic(command: Command) -> None:
    everything = page(command, "all")
    assert "default: None" not in everything and "None" not in everything.replace("none", "")
    for group in command.groups:
        for field in dataclasses.fields(group.options):
            assert f"--{field.name}" in everything
            assert f"--{field.name}" in page(command, field.metadata["topic"])
            assert page(command, field.name).lstrip().startswith(f"--{field.name}")
    assert all(name in page(command, "backbone") for name in BACKBONES)


def test_a_word_finds_the_options_that_speak_of_it_and_a_misspelt_one_is_told() -> None:
    assert "--num_clusters" in page(TRAIN, "salad") and "--lr " not in page(TRAIN, "salad")
    assert "MultiSimilarityLoss" in page(TRAIN, "loss") and "salad" in page(TRAIN, "method")
    assert "has an effect only with --train_mode triplets" in page(TRAIN, "mining")
    with pytest.raises(UserError, match=r"--help agregation: no such topic. Did you mean aggregation\?"):
        page(TRAIN, "agregation")


def test_parsing_and_help_load_neither_torch_nor_numpy() -> None:
    script = """
import sys
from vgbench.cli.parser import EvalSettings, TrainSettings, read_command_line, resolve
from vgbench.cli.help import page
given = read_command_line(TrainSettings, "", ["--backbone=vgg16", "--aggregation=gem", "--rerank", "aqe"])
resolve(TrainSettings, given, {})
for words in (["--help"], ["--help", "all"], ["--help", "backbone"]):
    try:
        read_command_line(EvalSettings, "Test.", words)
    except SystemExit as stop:
        assert not stop.code
print(*sorted({"torch", "numpy", "faiss", "cv2", "scipy", "h5py"} & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr.strip() == "", done.stderr
    assert "--backbone" in done.stdout


@pytest.mark.parametrize("script", ["train.py", "eval.py"])
def test_the_scripts_help_needs_no_torch(script: str, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')\n")
    done = subprocess.run(
        [sys.executable, str(REPO / script), "--help"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": f"{tmp_path}:{REPO}", "COLUMNS": "120", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(("Train a network", "Test a network"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([" "], "an empty word stands between the options"),
        ([""], "an empty word stands between the options"),
        (["--seed=--"], "--seed --: is no value. Expected --seed VALUE"),
        (["pitts30k"], "pitts30k: stands without an option"),
        (["--lr"], "--lr: expected one argument"),
        (["--lr", "fast"], "--lr fast: is not a number"),
        (["--seed", "9" * 5000], "--seed 9+[.]{3}: is not a whole number"),
        (["--seed", "1.5"], "--seed 1.5: is not a whole number"),
        (["--resize", "240"], "--resize: expected 2 arguments"),
        (["--bacbone=vgg16"], r"unknown option --bacbone; did you mean --backbone\?"),
        (["--horizontal_flip=1"], "--horizontal_flip"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_command_line(TrainSettings, "", words)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_commands_within_a_command() -> None:
    whole = Command("vgbench tool", "A tool.\n\nexample", commands={"train": TRAIN, "eval": EVAL})
    given = parse(whole, ["eval", "--seed=3"])
    assert (given.command, given.values) == ("eval", {"seed": 3})
    with pytest.raises(UserError, match=r"vgbench tool evl: no such command\. Did you mean eval\?"):
        parse(whole, ["evl"])
    with pytest.raises(UserError, match=r"a command is missing\. Expected one of train, eval"):
        parse(whole, [])


def test_help_says_which_part_an_option_is_of_by_what_it_needs() -> None:
    told = 0
    for settings in (TrainSettings, EvalSettings):
        for options in groups_of(settings).values():
            for field in dataclasses.fields(options):
                parts, text = parts_of(field), field.metadata["help"]
                told += bool(parts)
                assert help_of(field).startswith(f"{', '.join(parts)}: {text}" if parts else text), field.name
                assert not any(text.startswith(f"{part}: ") for part in parts), field.name  # said twice
    assert told > 50
    assert "boq, edtformer: layers (unset: 2)" in " ".join(page(TRAIN, "all").split())
