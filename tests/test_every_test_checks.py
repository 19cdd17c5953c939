"""No test can pass without having checked anything: each asserts, expects an exception, or calls a helper that does."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from locations import REPOSITORY

NESTED = (ast.FunctionDef, ast.Lambda, ast.ClassDef)


def of_itself(node: ast.AST) -> Iterator[ast.AST]:
    """What runs whenever `node` does: a function inside of it may never be called."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, NESTED):
            yield from of_itself(child)


def called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def looked_at(function: ast.FunctionDef) -> tuple[bool, frozenset[str]]:
    """Whether a function itself checks something, and the names of the functions that it calls."""
    nodes = list(of_itself(function))
    names = frozenset(filter(None, map(called, nodes)))
    asserts = any(isinstance(node, ast.Assert) for node in nodes)
    return asserts or "raises" in names or any(name.startswith("assert_") for name in names), names


def without_a_check(sources: list[str]) -> list[str]:
    """Return the names of the tests that check nothing."""
    functions: dict[str, list[tuple[bool, frozenset[str]]]] = {}
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                functions.setdefault(node.name, []).append(looked_at(node))
    helpers: set[str] = set()
    while True:  # helpers call helpers
        checking = {name for name, same in functions.items() if all(own or calls & helpers for own, calls in same)}
        if checking == helpers:
            break
        helpers = checking
    return sorted(name for name in functions if name.startswith("test_") and name not in helpers)


def test_every_test_checks_something() -> None:
    sources = [path.read_text() for path in sorted((REPOSITORY / "tests").rglob("*.py"))]
    assert len(sources) > 100
    assert without_a_check(sources) == []


def test_what_is_never_called_is_no_check() -> None:
    source = (
        "def test_a():\n    run(lambda: fail())\n\ndef test_b():\n    def inner():\n        assert 0\n    run(inner)\n"
    )
    assert without_a_check([source, "def helper():\n    assert 1\n\ndef test_c():\n    helper()\n"]) == [
        "test_a",
        "test_b",
    ]
