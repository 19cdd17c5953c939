"""The pages of the demo tables: what they say, and that the index follows from them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from locations import REPOSITORY

from perf import demo_tables
from perf.demo_tables import Run, index, page, title, what

PAGES = sorted(path for path in (REPOSITORY / "docs" / "results").glob("*.md") if path.name != "README.md")


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


def test_a_page_has_the_command_the_machine_and_the_table(tmp_path: Path) -> None:
    mining = demo_tables.DEMOS / "mining_demo.yaml"
    text = page(mining, Run(6, 61.4, 30.2, 0), "| run |\n", "4 CPU cores", "python3 benchmark.py x.yaml")
    assert text.startswith("# Mining\n\nHow negatives are mined, for two aggregations.\n")
    assert "python3 benchmark.py x.yaml" in text and "4 CPU cores: 6 jobs, 61 seconds, 30 of a processor" in text
    more = page(mining, Run(6, 61.4, 30.2, 0, taken=2), "", "4 CPU cores", "python3 benchmark.py x.yaml")
    assert "30 of a processor; other work ran beside it, and 2 jobs were taken over from other tables." in more
    (tmp_path / "mining.md").write_text(text)
    rows = [line for line in index(tmp_path).splitlines() if line.startswith("| [")]
    assert rows == ["| [Mining](mining.md) | How negatives are mined, for two aggregations. | 6 | 61 | 30 |"]


def test_every_table_says_what_it_compares() -> None:
    for path in sorted(demo_tables.DEMOS.glob("*.yaml")):
        assert title(path) and what(path).endswith("."), path


def test_what_is_committed_is_the_index_of_its_pages() -> None:
    results = REPOSITORY / "docs" / "results"
    assert PAGES and (results / "README.md").read_text() == index(results)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_committed_page_is_of_a_table_that_is_there_and_whole(path: Path) -> None:
    text = path.read_text()
    [command] = re.findall(r"python3 benchmark.py (\S+)", text)
    assert command == f"benchmarks/demo/{path.stem}_demo.yaml" and (REPOSITORY / command).is_file()
    assert "Without a result" not in text and "failed" not in text
