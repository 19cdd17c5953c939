"""Growth: the fit, the table, the pictures, and that everything runs; and what perf/gpu.sh runs, on a stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from locations import REPOSITORY
from PIL import Image

from perf import device, gpu
from perf.growth import Point, draw, exponent, measure, table
from vgbench.runtime import Runtime


def test_the_exponent_is_that_of_a_power_law() -> None:
    points = [Point("search", n, "ours", 3e-6 * n**1.5) for n in (100, 1_000, 10_000, 100_000)]
    assert exponent(points) == pytest.approx(1.5)
    started = [Point("search", n, "ours", 2.0 + 1e-6 * n) for n in (10, 1_000_000, 10_000_000)]
    assert exponent(started) == pytest.approx(0.6, abs=0.05)  # the smallest does not count


def test_everything_is_measured_and_drawn(tmp_path: Path) -> None:
    points = measure(200, repeats=1) + measure(400, repeats=1)
    assert {point.what for point in points} == {"listing", "fingerprint", "positives", "mining", "search"}
    assert all(point.seconds >= 0 for point in points)
    rows = table(points).splitlines()
    assert len(rows) == 2 + 7 and "200 images" in rows[0] and "exponent" in rows[0]
    draw(points, tmp_path)
    svg = (tmp_path / "growth.svg").read_text()
    assert "<svg" in svg
    with Image.open(tmp_path / "growth.png") as picture:
        assert picture.width > 600 and len(picture.convert("RGB").getcolors(2**20) or []) > 20


def program(code: str) -> list[str]:
    return [sys.executable, "-c", code]


XML = "<testsuites><testsuite tests='6' failures='1' errors='0' skipped='2'/></testsuites>"


def test_gpu_json_has_what_every_stage_left(tmp_path: Path) -> None:
    tests = (
        f"import pathlib; pathlib.Path({str(tmp_path / 'tests.xml')!r}).write_text({XML!r}); print('6 ran'); exit(1)"
    )
    (tmp_path / "rows").mkdir()
    rows = f"import pathlib as p; f = p.Path({str(tmp_path / 'rows')!r}); (f / 'runs.json').write_text('[1]'); "
    rows += "(f / 'table.md').write_text('| a |')"
    chosen = [gpu.Stage("tests", program(tests), 60), gpu.Stage("rows", program(rows), 60)]
    report = gpu.run(chosen, tmp_path)
    assert json.loads((tmp_path / "gpu.json").read_text()) == json.loads(json.dumps(report))
    assert report["tests"] == {"tests": 6, "failures": 1, "errors": 0, "skipped": 2}
    assert report["stages"]["tests"]["status"] == 1 and "6 ran" in report["stages"]["tests"]["output"]
    assert report["stages"]["rows"]["status"] == 0 and report["rows"] == [1] and report["table"] == ["| a |"]


def test_the_limit_cuts_stages_short_and_keeps_what_there_is(tmp_path: Path) -> None:
    long = "print('begun', flush=True); import time; time.sleep(60)"
    report = gpu.run([gpu.Stage("tests", program(long), 3), gpu.Stage("rows", program(long), 60)], tmp_path, limit=3.5)
    assert str(report["stages"]["tests"]["status"]).startswith("stopped after")
    assert report["stages"]["tests"]["output"] == "begun\n"
    assert report["stages"]["rows"]["status"] == "not started: no time was left"
    assert report["seconds"] < 30


def test_the_stages_run_the_gpu_tests_and_the_rows(tmp_path: Path) -> None:
    tests, other, rows = gpu.stages(tmp_path, tmp_path / "checkout")
    assert "gpu" in tests.command and f"--junitxml={tmp_path / 'tests.xml'}" in tests.command
    assert "--reference" in rows.command and "--alone" in gpu.stages(tmp_path, None)[2].command
    assert other.command[-4:] == ["--only", "device", "--rounds", "3"]
    assert tests.limit + other.limit < gpu.LIMIT <= 480


def test_other_ways_of_a_device_are_measured_beside_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "SIZE", (32, 32))
    optimiser, decoding = device._optimiser("SGD", Runtime(), 1), device._decoding(Runtime(), 4, 0, 1)
    assert optimiser.unit == "s" and 0 < optimiser.ours < 60 and "fused" in optimiser.what
    assert decoding.unit == "images/s" and decoding.ours > 0 and decoding.reference > 0


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_the_script_installs_nothing_that_is_there(tmp_path: Path) -> None:
    said = tmp_path / "said"
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/bash\necho "$1 $2 $3 $4 $5 $6" >> {said}\n[ "$1" = -c ] && exit ${{MISSING:-0}}\nexit 0\n'
    )
    python.chmod(0o755)
    for missing in ("0", "1"):
        environment = {**os.environ, "PYTHON": str(python), "OUT": "out", "MISSING": missing}
        subprocess.run([str(REPOSITORY / "perf" / "gpu.sh"), "checkout"], env=environment, check=True, timeout=60)
    calls = [line for line in said.read_text().splitlines() if not line.startswith("-c")]
    assert [call.split()[1] for call in calls] == ["perf.gpu", "pip", "perf.gpu"]
    assert calls[0] == "-m perf.gpu --out out --reference checkout"
