"""What perf/gpu.sh runs: tests, what a GPU may do in another way (perf.device), the rows of perf.beside.

All within a time limit; gpu.json is whole after every stage.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from perf.beside.run import RUNS, TABLE
from vgbench.files import write_text

LIMIT = 480  # seconds in all
_TAIL = 4000  # characters of a stage's output that are kept
_SCALE = ("--images", "512", "--triplets", "64", "--repeats", "2", "--small", "4000")


@dataclass(frozen=True)
class Stage:
    """One command and the most seconds that it may take."""

    name: str
    command: Sequence[str]
    limit: float


def stages(out: Path, reference: Path | None, scale: Sequence[str] = _SCALE) -> list[Stage]:
    """Return what is run, in order; the rows are kept run by run, so that the limit may cut them short."""
    tests = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        f"--junitxml={out / 'tests.xml'}",
    ]
    beside = ["--reference", str(reference)] if reference else ["--alone"]
    rows = [sys.executable, "-m", "perf", *beside, "--out", str(out / "rows"), *scale]
    device = [sys.executable, "-m", "perf", "--only", "device", "--rounds", "3"]
    return [Stage("tests", tests, 150), Stage("device", device, 90), Stage("rows", rows, LIMIT)]


def run(chosen: Sequence[Stage], out: Path, limit: float = LIMIT) -> dict[str, Any]:
    """Run the stages within `limit` seconds in all, and write what they left into gpu.json after each."""
    out.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    report: dict[str, Any] = {"machine": gpu(), "stages": {}}
    for stage in chosen:
        left = min(stage.limit, limit - (time.monotonic() - begin))
        report["stages"][stage.name] = _run(stage.command, out / f"{stage.name}.log", left)
        report |= {"seconds": round(time.monotonic() - begin, 1), "tests": tests_in(out / "tests.xml"), **_rows_in(out)}
        write_text(out / "gpu.json", json.dumps(report, indent=1) + "\n")
    return report


def _run(command: Sequence[str], log: Path, seconds: float) -> dict[str, Any]:
    begin = time.monotonic()
    status: int | str = "not started: no time was left"
    if seconds > 1:
        with log.open("w") as output:
            try:
                status = subprocess.run(command, stdout=output, stderr=output, timeout=seconds, check=False).returncode
            except subprocess.TimeoutExpired:
                status = f"stopped after {seconds:.0f} s"
    text = log.read_text(errors="replace") if log.is_file() else ""
    return {"status": status, "seconds": round(time.monotonic() - begin, 1), "output": text[-_TAIL:]}


def tests_in(path: Path) -> dict[str, int]:
    """Return how many tests ran, failed and were skipped, by pytest's XML report; {} where there is none."""
    if not path.is_file():
        return {}
    found = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for suite in ElementTree.parse(path).iter("testsuite"):
        for name in found:
            found[name] += int(suite.get(name, 0))
    return found


def _rows_in(out: Path) -> dict[str, Any]:
    runs, table = out / "rows" / RUNS, out / "rows" / TABLE
    return {
        "rows": json.loads(runs.read_text()) if runs.is_file() else {},
        "table": table.read_text().splitlines() if table.is_file() else [],
    }


def gpu() -> str:
    """Return the GPU's name, driver and memory as nvidia-smi says them; '' where there is none."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=30, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", type=Path, help="a checkout of the Deep VG Benchmark")
    parser.add_argument("--out", type=Path, default=Path("logs/gpu"))
    arguments = parser.parse_args()
    report = run(stages(arguments.out, arguments.reference), arguments.out)
    print("\n".join(report["table"]))
    print(f"tests: {report['tests']}; {report['seconds']} s; {arguments.out / 'gpu.json'}")


if __name__ == "__main__":
    main()
