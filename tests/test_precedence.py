"""Which value counts: command line, file, checkpoint, what is implied; and who is trusted."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vgbench.cli.parser import EvalSettings, TrainSettings, read_command_line, resolve
from vgbench.errors import UserError
from vgbench.precedence import GivenValues, Source, choose

MAPS = st.dictionaries(st.sampled_from("abc"), st.integers(), max_size=3)


@given(MAPS, MAPS, MAPS, MAPS)
def test_the_strongest_source_counts(typed: dict, file: dict, checkpoint: dict, implied: dict) -> None:
    sources = dict(zip(Source, (typed, file, checkpoint, implied), strict=True))
    chosen = choose(sources)
    assert chosen.keys() == {name for values in sources.values() for name in values}
    for name, one in chosen.items():
        first = next(source for source in Source if name in sources[source])
        assert (one.source, one.value) == (first, sources[first][name])
        assert one.trusted == (first is not Source.CHECKPOINT)


def test_through_the_command_line(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("lr: 0.5\nmargin: 0.25\n")
    given = read_command_line(TrainSettings, "", ["--config", str(config), "--lr=0.75"])
    assert isinstance(given, GivenValues) and given.in_file == {"margin"}
    settings = resolve(TrainSettings, given, {"lr": 0.1, "margin": 0.1, "patience": 9}, {"patience": 7, "seed": 5})
    training = settings.training
    assert (training.lr, training.margin, training.patience, settings.run.seed) == (0.75, 0.25, 9, 5)


def test_a_wrong_value_names_where_it_comes_from(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("optim: lion\n")
    given = read_command_line(TrainSettings, "", ["--config", str(config)])
    with pytest.raises(UserError, match=rf"^--config {config}: --optim lion: "):
        resolve(TrainSettings, given, {})
    with pytest.raises(UserError, match=r"^a/last_model\.pth: --lr -1\.0: too small"):
        resolve(TrainSettings, {"resume": Path("a/last_model.pth")}, {"lr": -1.0})
    with pytest.raises(UserError, match=r"^--lr -1\.0: too small"):
        resolve(TrainSettings, {"lr": -1.0, "resume": Path("a.pth")}, {"lr": -2.0})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("backbone", "os:system"), ("aggregation", "shutil:rmtree"), ("test_method", "os:_exit"),
        ("optim", "os:system"),
        ("rerank", ["aqe", "os:system"]), ("train_mode", "os:abort"), ("criterion", "os:abort"), ("index", "os:abort"),
        ("schedule", "os:abort"), ("search_backend", "os:abort"),
    ],
)  # fmt: skip
def test_a_checkpoint_names_no_code(name: str, value: object) -> None:
    with pytest.raises(
        UserError, match=rf"^run/last_model\.pth: names code to import, --{name} .*Expected you to name"
    ):
        resolve(TrainSettings, {"resume": Path("run/last_model.pth")}, {name: value})
    typed = tuple(value) if isinstance(value, list) else value
    found = resolve(TrainSettings, {"resume": Path("run/last_model.pth"), name: typed}, {name: value})
    assert found is not None  # named in this very call, it is the user's own


def test_what_was_of_another_run_is_not_taken_from_its_checkpoint() -> None:
    stored = {"pairs_out": "/etc/x", "run_dir": "/tmp/x", "resume": "y.pth", "save_preds": 3}
    settings = resolve(EvalSettings, {}, stored)
    assert (settings.report.pairs_out, settings.run.run_dir, settings.run.resume) == (None, None, None)
    assert settings.report.save_preds == 3
