"""Run both sides of every row in turn, keep every run in a file at once, and make the table of what is there."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from tqdm import tqdm

from perf.beside.city import PHOTOGRAPH, SMALL, write_city
from perf.beside.edits import edited_copy
from perf.beside.process import run_measured
from perf.beside.rows import AGGREGATIONS, REPOSITORY, SIDES, Row, Scale, command_of, figures, interpreter, recalls_in
from vgbench.errors import UserError
from vgbench.files import write_text
from vgbench.runtime import RuntimeOptions, resolve_runtime

# Ours asks glibc for this itself; the reference is given it too. Each is measured as its users run it, but for that.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**31 - 1), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
RUNS, TABLE = "runs.json", "table.md"
HEADERS = ("what", "unit", "ours", "reference", "times faster (min to max)", "processor seconds, times fewer",
           "peak memory, MB: ours / reference")  # fmt: skip


class Runs:
    """What was measured so far, in a folder; written after every run.

    Args:
        folder: of runs.json and table.md; what is in there already counts.
        facts: how it is measured: machine, scale, reference.

    Raises:
        UserError: the folder holds runs that were measured otherwise.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.path = folder / RUNS
        self.facts = json.loads(json.dumps(facts))
        self.all: list[dict[str, Any]] = []
        if self.path.is_file():
            stored = json.loads(self.path.read_text())
            if stored["facts"] != self.facts:
                differing = [name for name in self.facts if stored["facts"].get(name) != self.facts[name]]
                raise UserError(
                    f"{self.path}: measured with another {', '.join(differing)}. Expected the same, to go on; "
                    "give another --out"
                )
            self.all = stored["runs"]

    def has(self, row: Row, side: str, repeat: int) -> bool:
        return any((run["row"], run["side"], run["repeat"]) == (row.name, side, repeat) for run in self.all)

    def add(self, run: dict[str, Any]) -> None:
        self.all.append(run)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps({"facts": self.facts, "runs": self.all}, indent=1) + "\n")

    def of(self, row: Row, side: str) -> list[dict[str, Any]]:
        found = [run for run in self.all if run["row"] == row.name and run["side"] == side]
        return sorted(found, key=lambda run: int(run["repeat"]))


def compare(checkout: Path | None, rows: list[Row], scale: Scale, repeats: int, out: Path) -> str:
    """Measure the rows and return the table in markdown, which is also in `out`.

    Args:
        checkout: of the reference; None measures ours alone.

    Raises:
        UserError: the checkout is not the reference; `out` has runs that were measured otherwise.
        RuntimeError: a command of either side failed.
    """
    runs = Runs(out, {"machine": machine(scale), "scale": asdict(scale)})
    with tempfile.TemporaryDirectory(prefix="perf-") as name:
        work = Path(name)
        reference = edited_copy(checkout, work / "reference") if checkout else None
        _prepare(work, reference, rows, scale)
        sides = SIDES if reference else SIDES[:1]
        tasks = [(row, repeat, side) for row in rows for repeat in range(repeats) for side in sides]
        for row, repeat, side in tqdm(tasks, desc="perf", unit="run"):
            if not runs.has(row, side, repeat):
                runs.add(_measure(row, side, scale, reference or work, work) | {"repeat": repeat})
                if side == sides[-1]:
                    write_text(out / TABLE, table(runs, rows, scale))
    text = table(runs, rows, scale)
    write_text(out / TABLE, text)
    return text


def _prepare(work: Path, reference: Path | None, rows: list[Row], scale: Scale) -> None:
    """Write the photographs and, for tests, one checkpoint of random weights for either side to read."""
    kinds = {row.kind for row in rows}
    train = scale.images, max(scale.triplets, 4)
    counts = {"train": train, "val": (16, 8), "test": (scale.images, scale.images // 2)}
    write_city(work / "datasets", "city", counts, PHOTOGRAPH)
    if "small" in kinds:
        write_city(work / "datasets", "small", {"test": (scale.small, scale.small // 2)}, SMALL)
    (work / "checkpoints").mkdir()
    for dim in sorted({row.dim for row in rows if row.kind in ("evaluation", "small")}):
        words = [str(reference or "ours"), str(work / "checkpoints" / f"{dim}.pth"), AGGREGATIONS[dim]]
        run_measured(
            [sys.executable, "-m", "perf.beside.checkpoint", *words],
            REPOSITORY,
            _environment(),
            work / "checkpoint.log",
        )


def _environment() -> dict[str, str]:
    return {**os.environ, **ALLOCATOR, "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "ignore"}


def _measure(row: Row, side: str, scale: Scale, reference: Path, work: Path) -> dict[str, Any]:
    """Run one side of a row once, in an empty folder."""
    folder, log, events = work / "run", work / "run.log", work / "events.json"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    command = command_of(row, side, scale, reference, work)
    ran = run_measured(interpreter(command, events), folder, _environment(), log)
    noted: dict[str, Any] = {}
    if command.watched:
        noted = json.loads(events.read_text())
    elif row.kind == "selection":
        noted = json.loads(log.read_text().splitlines()[-1])
        if noted.pop("wrong"):
            raise RuntimeError(f"{side}: chose positives that are too far, or negatives that are too near")
    return {
        "row": row.name,
        "side": side,
        **asdict(ran),
        "recalls": recalls_in(folder, log) if row.kind in ("evaluation", "small") else {},
        "events": noted,
    }


def machine(scale: Scale) -> str:
    """Say what runs here."""
    runtime = resolve_runtime(RuntimeOptions(device=scale.device))
    precision = str(runtime.amp_dtype or torch.float32).removeprefix("torch.")
    on = torch.cuda.get_device_name() if scale.device == "cuda" else f"{torch.backends.cpu.get_cpu_capability()}"
    return (
        f"{platform.machine()}, {on}, {torch.get_num_threads()} threads, ours in {precision}, the reference in "
        f"float32, torch {torch.__version__}"
    )


def table(runs: Runs, rows: Iterable[Row], scale: Scale) -> str:
    """Return the table of the rows that ran at least once, beside the reference where that did too."""
    lines: list[list[str]] = []
    recalls = []
    for row in rows:
        mine, theirs = (runs.of(row, side) for side in SIDES)
        if mine and not theirs:
            read = [figures(row, scale, run) for run in mine]
            medians = [statistics.median(figure.value for figure in same) for same in zip(*read, strict=True)]
            lines += [[one.what, one.unit, f"{value:.3g}"] for one, value in zip(read[0], medians, strict=True)]
        pairs = list(zip(mine, theirs, strict=False))
        if not pairs:
            continue
        lines += _lines(row, scale, pairs)
        peaks = [statistics.median(run["peak_mb"] for run in side) for side in zip(*pairs, strict=True)]
        lines[-1][-1] = f"{peaks[0]:.0f} / {peaks[1]:.0f}"
        if pairs[0][0]["recalls"]:
            recalls.append(f"{row.name}: {_recalls(pairs[0][0])} / {_recalls(pairs[0][1])}")
    return (
        f"{runs.facts['machine']}; {scale.workers} decoding processes; runs taken in turn, medians\n\n"
        f"{tabulate(lines, headers=HEADERS, tablefmt='github', disable_numparse=True)}\n\n"
        + "".join(f"recalls, ours / reference, {line}\n" for line in recalls)
    )


def _lines(row: Row, scale: Scale, pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[list[str]]:
    """The lines of a row, without memory."""
    read = [[figures(row, scale, run) for run in pair] for pair in pairs]
    lines = []
    for number in range(len(read[0][0])):
        both = [(mine[number], theirs[number]) for mine, theirs in read]
        values = [statistics.median(figure.value for figure in side) for side in zip(*both, strict=True)]
        ratios = [theirs.wall / mine.wall for mine, theirs in both]
        fewer = statistics.median(theirs.processor / max(mine.processor, 0.01) for mine, theirs in both)
        lines.append([
            both[0][0].what, both[0][0].unit, *(f"{value:.3g}" for value in values),
            f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})", f"{fewer:.2f}", "",
        ])  # fmt: skip
    return lines


def _recalls(run: Mapping[str, Any]) -> str:
    return ", ".join(f"R@{number} {percent:.1f}" for number, percent in run["recalls"].items())
