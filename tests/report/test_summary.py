"""The lines that end a training run, and the command in them, which runs."""

import json
import re
import shlex
from pathlib import Path

from calls import of

from vgbench.data import DataOptions
from vgbench.report.summary import evaluation_command, images_per_s, training_summary
from vgbench.retrieval.options import EvalOptions
from vgbench.training import LoopResult

RESULTS = {
    "dataset": "city", "queries": 40, "recalls": {"25": {"1": 61.25, "5": 80.0}}, "queries_folder": "queries_night",
}  # fmt: skip
RECORDS = [
    {"epoch": 0, "round": 0, "images": 100, "seconds_training": 4.0},
    {"epoch": 0, "round": 1, "images": 60, "seconds_training": 1.0},
    {"epoch": 0, "loss": 0.5},
]


def test_lines():
    result = LoopResult(Path("run/best_model.pth"), 1, 81.0, 3, 1200, True, 3725.4)
    text = training_summary(
        result, Path("run"), {1: 60.0, 5: 81.04}, RESULTS, RECORDS, (3 * 2**29, "GPU"), "python3 eval.py"
    )
    lines = dict(re.split(r":\s+", line, maxsplit=1) for line in text.splitlines())
    assert lines["best epoch"] == "1 (of 0 to 2, stopped early)"
    assert lines["val"] == "R@1 60.0, R@5 81.0"
    assert lines["test"] == "R@1 61.2, R@5 80.0 (city night, 40 queries)"
    assert lines["trained"] == "1:02:05, 1,200 steps, 32.0 images/s"
    assert lines["peak memory"] == "1.50 GiB (GPU)"
    assert lines["test again"] == "python3 eval.py" and "best_model.pth" in lines["written to"]


def test_no_speed_without_times():
    assert images_per_s([{"epoch": 0, "loss": 1.0}, {"images": 5, "seconds_training": 0.0}]) is None


def test_the_command_names_what_differs_and_nothing_else():
    data = DataOptions(datasets_folder=Path("my sets"), resize=(64, 64), num_workers=0)
    evaluation = EvalOptions(recall_values=(1, 5))
    command = evaluation_command(Path("a b/best.pth"), (data, evaluation), ("resize",))
    assert command == (
        "python3 eval.py '--resume=a b/best.pth' '--datasets_folder=my sets' --num_workers=0 --recall_values 1 5"
    )


def test_the_command_of_a_run_finds_the_same_recalls(trained, pristine_dataset, call):
    first = json.loads((trained / "results.json").read_text())
    said = (trained / "info.log").read_text()
    command = re.search(r"test again:\s+(.*)", said)
    assert command, said
    words = [word for word in shlex.split(command[1]) if not word.startswith("--resume=")]
    assert words[:2] == ["python3", "eval.py"] and set(of(pristine_dataset)[:1]) <= set(words)
    again = trained.parent / "again"
    status, _, err = call("eval.py", *words[2:], f"--resume={trained / 'best_model.pth'}", f"--run_dir={again}")
    assert status == 0, err
    assert json.loads((again / "results.json").read_text())["recalls"] == first["recalls"]
    for name in ("best epoch", "val", "test", "trained", "peak memory", "written to"):
        assert re.search(rf"{name}:\s+\S", said), name
    assert "images/s" in said
