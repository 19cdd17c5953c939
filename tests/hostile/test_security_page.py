"""What SECURITY.md says of the code is so: nothing that runs or unpacks what a stranger wrote, but where it says so."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from locations import REPOSITORY

SOURCES = sorted(
    path for folder in ("vgbench", "datasets_vg") for path in (REPOSITORY / folder).rglob("*.py")
) + sorted(REPOSITORY.glob("*.py"))
PAGE = (REPOSITORY / "SECURITY.md").read_text()
# Where a module is imported by a name that is no constant: tables of this project, and the user's own typed names.
BY_NAME = {
    "vgbench/registry.py", "vgbench/options.py", "vgbench/cli/main.py", "vgbench/__init__.py",
    "vgbench/models/backbones/efficientnet_lite.py", "vgbench/training/losses/metric.py",
    "vgbench/retrieval/rerank/local/lightglue.py", "datasets_vg/prepare/__init__.py",
    # Names that stand in the module itself.
    "vgbench/benchmark/forked.py", "vgbench/retrieval/rerank/local/image_pairs.py",
}  # fmt: skip


def name_of(node: ast.expr) -> str:
    """Return a dotted name, "torch.load"; "" of anything else."""
    if isinstance(node, ast.Attribute):
        inner = name_of(node.value)
        return f"{inner}.{node.attr}" if inner else node.attr
    return node.id if isinstance(node, ast.Name) else ""


def keyword(call: ast.Call, name: str) -> object:
    """Return a constant keyword of a call; "expression" where it is none, None where it is not given."""
    for one in call.keywords:
        if one.arg == name:
            return one.value.value if isinstance(one.value, ast.Constant) else "expression"
    return None


def unsafe(call: ast.Call, where: str) -> str | None:
    """Return what a call does that SECURITY.md rules out."""
    name = name_of(call.func)
    if isinstance(call.func, ast.Attribute) and "." not in name:
        name = f"().{name}"  # of what a call returns: network().eval()
    last = name.rpartition(".")[2]
    if name in ("eval", "exec", "os.system", "os.popen", "runpy.run_path", "marshal.loads", "shelve.open"):
        return name
    if name in ("pickle.load", "pickle.loads", "joblib.load", "dill.load", "cloudpickle.load"):
        return name
    if name.startswith("yaml.") and last in ("load", "load_all", "full_load", "unsafe_load"):
        return name
    if last in ("extractall", "unpack_archive") or keyword(call, "shell") is not None:
        return f"{name}: unpacks or calls without looking"
    if last == "load" and keyword(call, "allow_pickle") not in (None, False):
        return "numpy.load with pickles"
    if name == "torch.load" and keyword(call, "weights_only") is not True and where != "vgbench/models/foreign.py":
        return "torch.load without weights_only"
    if name == "torch.hub.load_state_dict_from_url" and keyword(call, "weights_only") is not True:
        return "weights of the web without weights_only"
    if name == "torch.hub.load" and where != "vgbench/models/release_kinds.py":
        return "code of the web"
    if last in ("import_module", "__import__") and not isinstance(call.args[0], ast.Constant) and where not in BY_NAME:
        return "a module by a name that may be a stranger's"
    return None


def found(source: str, where: str = "x.py") -> list[str]:
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return [f"{where}:{call.lineno}: {what}" for call in calls if (what := unsafe(call, where))]


def test_nothing_in_the_code_runs_what_a_file_says() -> None:
    assert len(SOURCES) > 300
    assert [one for path in SOURCES for one in found(path.read_text(), str(path.relative_to(REPOSITORY)))] == []


@pytest.mark.parametrize(
    "line",
    [
        "eval(text)", "os.system(text)", "pickle.loads(b)", "yaml.load(text, Loader)", "tar.extractall(folder)",
        "subprocess.run(words, shell=True)", "np.load(file, allow_pickle=True)", "torch.load(file)",
        "torch.load(file, weights_only=False)", "torch.hub.load(name, entry)", "importlib.import_module(name)",
        "torch.hub.load_state_dict_from_url(url)",
    ],
)  # fmt: skip
def test_it_would_be_found(line: str) -> None:
    assert len(found(line)) == 1


def unpicklers() -> Iterator[tuple[Path, ast.ClassDef]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any(name_of(base) == "pickle.Unpickler" for base in node.bases):
                yield path, node


def test_what_unpickles_says_which_classes_it_knows() -> None:
    known = {str(path.relative_to(REPOSITORY)): node for path, node in unpicklers()}
    assert set(known) == {"vgbench/models/foreign.py", "vgbench/data/ground_truth_file.py"}
    for node in known.values():
        assert "find_class" in [one.name for one in node.body if isinstance(one, ast.FunctionDef)]


def test_yaml_is_read_with_the_safe_loader_alone() -> None:
    bases = {
        name_of(base)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        for base in node.bases
        if name_of(base).startswith("yaml.") and name_of(base).endswith("Loader")
    }
    assert bases == {"yaml.SafeLoader"}


def test_the_tests_that_the_page_names_are_there() -> None:
    named = re.findall(r"`(tests/[\w/.]+)`", PAGE)
    assert len(named) >= 6
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


def test_methods_whose_code_is_fetched_are_all_named() -> None:
    from vgbench.models.releases import RELEASES, HubRelease

    fetched = {name.partition("-")[0] for name, release in RELEASES.items() if isinstance(release, HubRelease)}
    assert fetched
    for name in fetched:
        assert re.search(rf"`[^`]*{name}", PAGE), f"{name} is fetched as code, and SECURITY.md does not say so"
