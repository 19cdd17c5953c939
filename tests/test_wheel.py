"""The wheel that `pip install .` makes: whole, and working in any folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from calls import SMALL, of

import vgbench

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("vgbench", "datasets_vg")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    for name in (*PACKAGES, "requirements"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    # Without the network: what builds it is installed.
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", "dist", "."]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    [built] = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)
    return target


def test_it_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    here = {
        path.relative_to(REPOSITORY).as_posix()
        for name in PACKAGES
        for path in (REPOSITORY / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    assert {name for name in names if ".dist-info/" not in name} == here
    assert {"vgbench/py.typed", "vgbench/__init__.pyi"} <= here


def test_its_facts(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        [about] = [archive.read(name).decode() for name in names if name.endswith("METADATA")]
        [entries] = [archive.read(name).decode() for name in names if name.endswith("entry_points.txt")]
        assert any(name.endswith("licenses/LICENSE") for name in names)
    assert f"\nVersion: {vgbench.__version__}\n" in about and "\nLicense-Expression: MIT\n" in about
    assert "vgbench = vgbench.cli.main:script" in entries
    needs = [line.removeprefix("Requires-Dist: ") for line in about.splitlines() if line.startswith("Requires-Dist")]
    assert all(">=" in need for need in needs if "extra ==" not in need), "a dependency without a lower bound"
    extras = {line.removeprefix("Provides-Extra: ") for line in about.splitlines() if line.startswith("Provides-Extra")}
    assert {"lightglue", "cluster", "export", "wandb", "heic"} <= extras


def test_it_works_in_an_empty_folder(installed: Path, pristine_dataset: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}

    def run(*words: str) -> str:
        done = subprocess.run(
            [str(installed / "bin" / "vgbench"), *words], cwd=tmp_path, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("--version") == f"vgbench {vgbench.__version__}\n"
    training = ["--backbone=efficientnet_lite0", "--aggregation=gem", "--dry_run", "--run_dir=run"]
    out = run("train", *of(pristine_dataset), *SMALL, *training)
    assert "dry run: every step works" in out and "test again:  vgbench eval --resume=run/best_model.pth" in out
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["version"] == vgbench.__version__, "no commit of whatever repository lies around the installation"
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000  # its template was found
    assert "synthetic_city" in run("datasets", "list", f"--datasets_folder={tmp_path}")
