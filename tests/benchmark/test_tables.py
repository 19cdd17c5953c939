"""The table of a matrix: what a training tested at its end is not a second seed of the evaluation of the same."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from vgbench.benchmark.matrix import Job
from vgbench.benchmark.published import published_results
from vgbench.benchmark.tables import TableOptions, write_tables


def result(name: str, dataset: str, recall: float) -> dict[str, Any]:
    return {"name": name, "dataset": dataset, "descriptors_dim": 256, "recalls": {"25": {"1": recall, "5": 99.0}}}


def store_of(found: dict[Job, dict[str, Any]]) -> Any:
    jobs = tuple(found)
    matrix = SimpleNamespace(
        jobs=jobs, rows=tuple(dict.fromkeys(job.run for job in jobs)), name="toy", published=published_results()
    )
    return SimpleNamespace(matrix=matrix, rows=lambda job, ranks: [found[job]])


def test_a_training_and_its_evaluation_are_one_number(tmp_path: Path) -> None:
    name = "resnet18-gem on pitts30k"
    found = {
        Job(name, "train", "train", Unhashed(0)): result(name, "pitts30k", 70.0),
        Job(name, "eval", "eval-1", Unhashed(1)): result(name, "pitts30k", 78.3),
        Job(name, "eval", "eval-2", Unhashed(2)): result(name, "msls", 36.0),
        Job("alone", "train", "train", Unhashed(3)): result("alone", "pitts30k", 60.0),
    }
    text = write_tables(tmp_path, store_of(found), TableOptions(values=(1,)), {})
    cells = [[cell.strip(" *_") for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    assert [name, "256", "78.3", "36.0"] in cells and ["alone", "256", "60.0", ""] in cells
    assert "seeds" not in text
    assert [row[1:] for row in cells if row[1:2] in (["pitts30k R@1"], ["msls R@1"])] == [
        ["pitts30k R@1", "78.3", "77.8", "+0.5"],
        ["msls R@1", "36.0", "35.3", "+0.7"],
    ]


class Unhashed(dict[str, int]):
    """Options that can be told apart as keys."""

    def __init__(self, number: int) -> None:
        super().__init__(number=number)
        self.number = number

    def __hash__(self) -> int:
        return self.number
