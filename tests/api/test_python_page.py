"""docs/python.md runs, block after block."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


def test_every_block_runs(
    first_run: Path, pristine_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    shutil.copy(first_run / "best_model.pth", tmp_path)
    shutil.copytree(pristine_dataset / "images" / "test" / "database", tmp_path / "database")
    shutil.copytree(pristine_dataset, tmp_path / "datasets" / "my_town")
    photo = sorted((tmp_path / "database").iterdir())[7]
    shutil.copy(photo, tmp_path / "photo.jpg")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)
    assert len(blocks) == 5
    names: dict[str, object] = {}
    said = []
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
        said.append(capsys.readouterr().out)
    east, north = photo.name.split("@")[1:3]
    assert said[0].split()[0] == str(photo) and said[0].split(maxsplit=1)[1] == f"({float(east)}, {float(north)})\n"
    assert "48.13700 N, distance 0.00" in said[1].splitlines()[0] and len(said[1].splitlines()) == 2
    assert said[2] == "(1, 1280)\n"
    assert re.fullmatch(r"best epoch \d, R@1 on test [\d.]+, written to logs/python/\S+", said[3].splitlines()[-1])
    assert "looks like" in said[4]


def test_the_blocks_that_promise_it_are_five_lines() -> None:
    first = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)[0]
    assert len([line for line in first.splitlines() if line.strip()]) == 5
