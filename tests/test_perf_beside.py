"""The measurement beside the Deep VG Benchmark, on a stand-in of it that is written here."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from perf.beside.cli import size_of
from perf.beside.edits import EDITS, edited_copy
from perf.beside.process import _fields, run_measured, tree, tree_kilobytes
from perf.beside.rows import KINDS, Row, Scale, command_of, figures, recalls_in, rows_of
from perf.beside.run import Runs, table
from perf.beside.selection import ours, positions, wrong_choices
from perf.beside.stopwatch import Stopwatch
from vgbench.errors import UserError

STAND_IN = {
    "datasets_ws.py": "import numpy as np\nkept = np.delete(paths, rows)\n",
    "test.py": "found = np.any(np.in1d(a, b))\n",
    "eval.py": "from google_drive_downloader import Something as s\nx = 1\n",
    "train.py": "print(util.get_flops(model, size))\nbest = torch.load(join(folder, 'b.pth'))['x']\n",
    "util.py": "import torchscan\nx = torch.load(args.resume, map_location=args.device)\n",
    "model/network.py": (
        "from transformers import Model\nfrom google_drive_downloader import Something as s\n"
        "net = resnet18(pretrained=True)\n"
    ),
    "model/aggregation.py": (
        "descriptors_num = 50000\ndescs_num_per_image = 100\nn = math.ceil(descriptors_num / descs_num_per_image)\n"
    ),
}


def stand_in(folder: Path, **other: str) -> Path:
    for name, text in {**STAND_IN, **other}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_every_edit_is_made_in_the_copy_alone(tmp_path: Path) -> None:
    checkout = stand_in(tmp_path / "checkout")
    copy = edited_copy(checkout, tmp_path / "copy")
    assert {name: (checkout / name).read_text() for name in STAND_IN} == STAND_IN
    changed = {name: (copy / name).read_text() for name in STAND_IN}
    assert "np.isin(a, b)" in changed["test.py"]
    assert "weights=None" in changed["model/network.py"]
    assert "join(folder, 'b.pth'), weights_only=False)['x']" in changed["train.py"]
    assert "map_location=args.device, weights_only=False)" in changed["util.py"]
    assert "get_flops" not in changed["train.py"]
    images, size = range(300), SimpleNamespace(resize=[96, 96])
    starts: dict[str, Any] = {"args": size, "cluster_ds": images, "math": math}
    exec(changed["model/aggregation.py"], starts)
    assert (starts["n"], starts["descriptors_num"]) == (300, 300 * 36)
    for edit in EDITS:
        if edit.is_needed and edit.pattern != r"\Z":
            assert not re.search(edit.pattern, changed[edit.file], re.MULTILINE) or edit.file in ("train.py", "util.py")


def test_the_function_that_takes_the_place_of_delete_deletes(tmp_path: Path) -> None:
    import numpy as np

    copy = edited_copy(stand_in(tmp_path / "checkout"), tmp_path / "copy")
    names: dict[str, Any] = {"np": np, "paths": [[1], [2, 3], [4]], "rows": np.array([1])}
    exec((copy / "datasets_ws.py").read_text().replace("kept =", "def kept():\n    return"), names)
    assert names["kept"]() == [[1], [4]]


def test_a_folder_that_is_not_the_reference_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no datasets_ws\.py"):
        edited_copy(tmp_path, tmp_path / "copy")
    with pytest.raises(UserError, match=r"test\.py: nothing like"):
        edited_copy(stand_in(tmp_path / "other", **{"test.py": "pass\n"}), tmp_path / "copy2")


TOY = """
import time
class Net:
    @staticmethod
    def wait(seconds): time.sleep(seconds); return "waited"
    def step(self): return 7
"""


def run_watched(folder: Path, script: str, watched: dict[str, str], last: str = "") -> tuple[Any, str]:
    (folder / "toy.py").write_text(TOY)
    (folder / "script.py").write_text(script)
    out = folder / "events.json"
    words = [sys.executable, Path(sys.modules[Stopwatch.__module__].__file__ or ""), out, json.dumps(watched), last]
    ended = subprocess.run(
        [*map(str, words), str(folder / "script.py"), "a", "b"], capture_output=True, text=True, check=True
    )
    return json.loads(out.read_text()), ended.stdout


def test_the_stopwatch_notes_calls_and_changes_nothing_else(tmp_path: Path) -> None:
    script = "import sys, toy\nprint(sys.argv[1:], toy.Net.wait(0.05), toy.Net().step(), __name__)\n"
    events, printed = run_watched(tmp_path, script, {"wait": "toy:Net.wait", "step": "toy:Net.step", "none": "os2:x"})
    assert printed == "['a', 'b'] waited 7 __main__\n"
    (begin, end, used, used_end), *more = events["wait"]
    assert end - begin >= 0.05 and used_end >= used and not more
    assert len(events["step"]) == 1 and events["none"] == []


def test_the_stopwatch_ends_the_script_after_the_last_event(tmp_path: Path) -> None:
    script = "import toy\nprint('before')\ntoy.Net().step()\nprint('after')\n"
    events, printed = run_watched(tmp_path, script, {"step": "toy:Net.step"}, "step")
    assert printed == "before\n" and len(events["step"]) == 1


def test_memory_is_that_of_the_whole_tree(tmp_path: Path) -> None:
    child = "import time; held = bytearray(60 * 2**20); time.sleep(1)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    ran = run_measured([sys.executable, "-c", parent], tmp_path, os.environ, tmp_path / "log")
    assert ran.peak_mb > ran.anonymous_mb > 55 or not Path("/proc/self/smaps_rollup").exists()
    assert ran.wall >= 1 and ran.processor > 0
    assert os.getpid() in tree(os.getpid())


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux alone tells")
def test_what_a_tree_shares_counts_once_and_libraries_whole() -> None:
    code = (
        "import os, sys, numpy; kept = b'x' * 50_000_000; child = os.fork()\n"
        "print(flush=True) if child else None; sys.stdin.read(); os.wait() if child else None"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline()
        (both, anonymous), resident = tree_kilobytes(process.pid), _fields(Path(f"/proc/{process.pid}/status"))["VmRSS"]
        assert len(tree(process.pid)) == 2
        process.communicate()
    assert 50_000 < anonymous < both
    assert 0.95 * resident < both < 1.2 * resident  # though this very process has most of the same libraries


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no such thing"):
        run_measured(
            [sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path, os.environ, tmp_path / "log"
        )


def made_up(row: Row, side: str, repeat: int, seconds: float) -> dict[str, Any]:
    events = {
        "mining": [[1.0, 2.0, 1.0, 2.0]],
        "step": [[3 + seconds * n, 3 + seconds * (n + 1), 3 + seconds * n, 3 + seconds * (n + 1)] for n in range(4)],
        "validation": [[20.0, 21.0, 20.0, 21.0]],
        "test": [[1.0, 1.0 + seconds, 1.0, 1.0 + seconds]],
        "selection": [[1.0, 1.0 + seconds, 1.0, 1.0 + seconds]],
    }
    return {
        "row": row.name, "side": side, "repeat": repeat, "begin": 0.0, "wall": seconds, "processor": seconds,
        "peak_mb": 100.0, "recalls": {"1": 50.0} if row.kind == "evaluation" else {}, "events": events,
    }  # fmt: skip


def test_the_table_has_medians_of_ratios_taken_in_turn(tmp_path: Path) -> None:
    rows = rows_of(KINDS, [(320, 320)], [256])
    runs = Runs(tmp_path, {"machine": "here"})
    for row in rows:
        for repeat, (mine, theirs) in enumerate([(1.0, 2.0), (2.0, 8.0), (4.0, 12.0)]):
            runs.add(made_up(row, "ours", repeat, mine))
            runs.add(made_up(row, "reference", repeat, theirs))
    text = table(runs, rows, Scale(images=96))
    step = next(line for line in text.splitlines() if "training step" in line)
    assert [cell.strip() for cell in step.split("|")[2:7]] == ["s", "2", "8", "**3.00** (2.00 to 4.00)", "3.00"]
    extraction = next(line for line in text.splitlines() if "extraction" in line)
    assert [cell.strip() for cell in extraction.split("|")[2:5]] == ["images/s", "72", "18"]
    assert "recalls, ours / reference, evaluation-320x320-256: R@1 50.0 / R@1 50.0" in text


def test_runs_are_kept_and_gone_on_with(tmp_path: Path) -> None:
    row = Row("selection")
    Runs(tmp_path, {"machine": "here", "scale": {"images": 1}}).add(made_up(row, "ours", 0, 1.0))
    again = Runs(tmp_path, {"machine": "here", "scale": {"images": 1}})
    assert again.has(row, "ours", 0) and not again.has(row, "reference", 0) and not again.has(row, "ours", 1)
    with pytest.raises(UserError, match="another scale"):
        Runs(tmp_path, {"machine": "here", "scale": {"images": 2}})


def test_both_sides_are_given_the_same_options(tmp_path: Path) -> None:
    for row in rows_of(["evaluation", "training", "small"], [(320, 320)], [256, 16_384]):
        mine, theirs = (command_of(row, side, Scale(), tmp_path, tmp_path) for side in ("ours", "reference"))
        assert [word for word in mine.words[1:] if word != "--pretrain=none"] == theirs.words[1:]
        assert mine.watched.keys() == theirs.watched.keys()
    events = made_up(Row("training", (320, 320)), "ours", 0, 1.5)
    step, epoch = figures(Row("training", (320, 320)), Scale(), events)
    assert (step.wall, epoch.wall) == (1.5, 20.0)


def test_recalls_are_read_from_either_side(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Recalls on x: R@1: 45.1, R@5: 70.0\n")
    assert recalls_in(tmp_path, log) == {"1": 45.1, "5": 70.0}
    run = tmp_path / "logs" / "perf" / "now"
    run.mkdir(parents=True)
    (run / "results.json").write_text(json.dumps({"recalls": {"25": {"1": 44.0}}}))
    assert recalls_in(tmp_path, log) == {"1": 44.0}


def test_our_selection_is_right_and_wrong_ones_are_seen(tmp_path: Path) -> None:
    chosen = ours(tmp_path, 32, 300)()
    assert len(chosen) == 300 and wrong_choices(chosen, 300, 32) == 0
    database, _ = positions(300)
    query, positive, *negatives = chosen[0]
    far = (positive + 700) % len(database)
    assert wrong_choices([[query, far, *negatives]], 300, 32) == 1
    assert wrong_choices([[query, positive, positive, *negatives[1:]]], 300, 32) == 1
    assert wrong_choices([[query, positive, *negatives[::-1]]], 300, 32) == 1


def test_sizes_are_height_and_width() -> None:
    assert size_of("320x240") == (320, 240)
    with pytest.raises(Exception, match="height x width"):
        size_of("320")
