"""docs/architecture.md is true: what it names exists."""

import ast
import re

import pytest
from locations import REPOSITORY

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
