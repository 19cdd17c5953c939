"""What the code says of itself: imports go one way, contracts are declared, signatures are short, files are whole."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from locations import REPOSITORY

# From the top down: a module imports from its own layer and from those below it.
LAYERS = {
    "scripts": [
        "train", "eval", "benchmark", "parser", "commons", "hubconf", "vgbench.cli", "vgbench.describe",
    ],
    "the package's face": ["vgbench.api"],
    "benchmark": ["vgbench.benchmark"],
    "runs": ["vgbench.runs"],
    "combine": ["vgbench.combine", "vgbench.export"],
    "report": ["vgbench.report"],
    "training": ["vgbench.training"],
    "retrieval": ["vgbench.retrieval"],
    "models": ["vgbench.models"],
    "data": ["vgbench.data"],
    "base": [],  # all other modules of vgbench
}  # fmt: skip
# These two packages are higher than what is in them: they hand on what the scripts call.
ALONE = {"vgbench": "the package's face", "vgbench.combine": "scripts", "vgbench.combine.commands": "scripts"}
NAMES = list(LAYERS)
Function = ast.FunctionDef | ast.AsyncFunctionDef
MOST_PARAMETERS = 7
# By keyword only, each a field of what is declared: the columns of a table, the rules of an option, the parts that a
# checkpoint's configuration names, what flags say on the command line.
WIDE = {"vgbench/data/table.py ImageTable", "vgbench/options.py option", "vgbench/models/build.py build_network",
        "vgbench/api/network.py load_network"}  # fmt: skip


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the package and the scripts beside it, by its dotted name."""
    for path in sorted([*REPOSITORY.glob("*.py"), *(REPOSITORY / "vgbench").rglob("*.py")]):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


FILES = dict(modules())
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}


def layer_of(module: str) -> str:
    if module.endswith((".cli", ".__main__")):
        return "scripts"
    if module in ALONE:
        return ALONE[module]
    fitting = [
        (prefix, name)
        for name, prefixes in LAYERS.items()
        for prefix in prefixes
        if module == prefix or module.startswith(f"{prefix}.")
    ]
    return max(fitting)[1] if fitting else "base"  # the longest prefix of those that fit


def imported(module: str, anywhere: bool) -> Iterator[tuple[str, int]]:
    """The project's modules that a module imports, with the line; `anywhere`: inside functions too."""
    body = ast.walk(TREES[module]) if anywhere else at_import(TREES[module].body)
    for node in body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in FILES:
                    yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                if below in FILES:
                    yield below, node.lineno
                elif node.module in FILES:
                    yield node.module, node.lineno


def at_import(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """The statements that run when a module is imported (those under TYPE_CHECKING do not)."""
    for node in body:
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield node
        for inner in ("body", "orelse", "finalbody"):
            yield from at_import(getattr(node, inner, []))
        for handler in getattr(node, "handlers", []):
            yield from at_import(handler.body)


def test_no_import_runs_upward() -> None:
    wrong = [
        f"{module}:{line} ({layer_of(module)}) imports {target} ({layer_of(target)})"
        for module in TREES
        for target, line in imported(module, anywhere=True)
        if target != "vgbench"  # its version; the package's face loads nothing by itself
        and NAMES.index(layer_of(target)) < NAMES.index(layer_of(module))
    ]
    assert not wrong, "\n".join(wrong)


def test_the_order_of_layers_can_be_broken() -> None:
    assert layer_of("vgbench.models.network") == "models" and layer_of("vgbench.errors") == "base"
    assert layer_of("train") == "scripts" and layer_of("vgbench.runs.training") == "runs"
    assert NAMES.index("training") < NAMES.index("retrieval") < NAMES.index("models") < NAMES.index("data")


def test_no_circle_of_imports() -> None:
    below = {module: {target for target, _ in imported(module, anywhere=False)} for module in TREES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for target in sorted(below[module]):
                visit(target, (*path, module))
            done.add(module)

    for module in TREES:
        visit(module, ())


def parameters(function: Function) -> int:
    every = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
    return len([one for one in every if one.arg not in ("self", "cls", "ctx")])


def functions_of(tree: ast.AST, of: ast.ClassDef | None = None) -> Iterator[tuple[ast.ClassDef | None, Function]]:
    """Every function with the class that it is directly in."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield of, node
        yield from functions_of(node, node if isinstance(node, ast.ClassDef) else None)


@pytest.mark.parametrize("folder", ["vgbench", "datasets_vg"])
def test_no_function_has_more_than_seven_parameters(folder: str) -> None:
    functions = [
        (path, node, class_.name if class_ else node.name)
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
        for class_, node in functions_of(ast.parse(path.read_text("utf-8")))
    ]
    long = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno} {node.name}: {parameters(node)}"
        for path, node, name in functions
        if parameters(node) > MOST_PARAMETERS and f"{path.relative_to(REPOSITORY)} {name}" not in WIDE
    ]
    assert len(functions) > 20
    assert not long, "\n".join(long)


def test_one_way_to_write_a_file_whole() -> None:
    """Only `vgbench.files` puts a finished file into its place, but for descriptors, which can be continued."""
    own = {"vgbench.files", "vgbench.retrieval.extraction.writer"}
    wrong = [
        f"{module}:{node.lineno}"
        for module, tree in TREES.items()
        if module not in own
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(".partial")
    ]
    assert not wrong, wrong


@pytest.mark.parametrize("module", ["vgbench.benchmark.campaign", "vgbench.retrieval.extraction.writer"])
def test_modules_load_without_what_only_unix_has(module: str) -> None:
    code = f"import sys; sys.modules['fcntl'] = None; sys.modules['resource'] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
