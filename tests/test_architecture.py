"""docs/architecture.md is true: what it names exists."""

import ast
import dataclasses
import importlib
import re

import pytest
from locations import REPOSITORY

from vgbench.options import REGISTRY, table_of
from vgbench.runs.settings import TrainSettings, groups_of

PAGE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
STEPS = re.findall(r"`([\w/]+\.py):([\w.]+)`", PAGE)


def defined(path):
    """The functions and classes of a file, methods as Class.method."""
    found = set()
    for node in ast.parse((REPOSITORY / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
    return found


def test_the_story_has_its_three_ways():
    assert len(STEPS) >= 20


@pytest.mark.parametrize(("path", "name"), STEPS, ids=lambda value: str(value))
def test_each_step_of_the_story_is_in_the_code(path, name):
    assert name in defined(path)


def test_every_package_is_on_the_map():
    """Each folder and module right below vgbench/ is named on the page."""
    for path in (REPOSITORY / "vgbench").iterdir():
        if path.name.startswith(("_", ".")) or path.suffix not in ("", ".py"):
            continue
        assert re.search(rf"\b{path.stem}\b", PAGE), path.name


@pytest.mark.parametrize("path", re.findall(r"\| `([\w/]+\.py)` \|", PAGE))
def test_every_table_that_a_line_goes_into_exists(path):
    assert (REPOSITORY / "vgbench" / path).is_file()


CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([\w -]+) \| (.*?) \| `(\w+)` in `([\w/]+\.py)` \| `?([\w -]+)`? \|$", CONTRIBUTING, flags=re.M)


@pytest.mark.parametrize(("part", "file", "table", "path", "option"), ROWS, ids=[row[0] for row in ROWS])
def test_how_to_add_a_part_names_what_there_is(part, file, table, path, option):
    module = importlib.import_module(path.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    lines = getattr(module, table)
    assert len(list(lines)) > 1 and f"{table}" in (REPOSITORY / path).read_text(encoding="utf-8")
    for folder in re.findall(r"`([\w/]+)/<name>\.py`", file):
        assert (REPOSITORY / folder).is_dir()
    declared = {field.name: field for kind in groups_of(TrainSettings).values() for field in dataclasses.fields(kind)}
    if option.startswith("--"):
        assert part == "released network" or table_of(declared[option[2:]]) is lines


def test_how_to_add_a_part_is_said_of_every_table():
    assert len(ROWS) >= 13
    tables = {table for _, _, table, _, _ in ROWS} | {"AGGREGATIONS"}  # the one that the steps are for
    with_names = [field for kind in groups_of(TrainSettings).values() for field in dataclasses.fields(kind)
                  if field.metadata[REGISTRY]]  # fmt: skip
    said = {field.metadata[REGISTRY].partition(":")[2] for field in with_names}
    assert said - tables <= {"MATCHERS", "QUANTISERS", "SEARCH_BACKENDS"} and len(with_names) > 10
