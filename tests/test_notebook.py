"""experiments.ipynb runs from an empty folder, and what is committed of it is small and says nothing of a machine."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import nbformat
import pytest
from locations import REPOSITORY
from nbclient import NotebookClient

NOTEBOOK = REPOSITORY / "experiments.ipynb"


@pytest.mark.timeout(600)
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]).rstrip(":"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    client.execute()
    runs = {path.parent.name: path for path in (tmp_path / "logs" / "notebook").glob("*/metrics.jsonl")}
    assert runs.keys() == {"triplets", "places"}
    for name, path in runs.items():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert [row["epoch"] for row in rows if "recalls" in row] == [0, 1, 2], name
        losses = [row["loss"] for row in rows if "round" in row]
        assert min(losses[1:]) < losses[0], name
        assert (path.parent / "best_model.pth").is_file()
    kinds = [kind for cell in notebook.cells for output in cell.get("outputs", []) for kind in output.get("data", {})]
    assert kinds.count("image/jpeg") == 3 and kinds.count("image/png") == 2 and kinds.count("text/markdown") == 2
    assert not [
        output for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "error"
    ]


def test_what_is_committed_is_small_and_names_no_machine() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 300_000
    notebook = nbformat.reads(text, as_version=4)
    assert all(cell.outputs or cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.output_type in ("display_data", "execute_result"), output
        words = json.dumps([cell.source, [o for o in cell.get("outputs", []) if "image/png" not in o.get("data", {})
                                          and "image/jpeg" not in o.get("data", {})]])  # fmt: skip
        assert not re.search(r"(/home|/root|/tmp|/work|/Users|[A-Z]:\\\\)", words), words
