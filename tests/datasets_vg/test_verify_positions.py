"""`verify` says FAULT of positions that cannot be, and exits with 1."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from datasets_vg.__main__ import main

FAULTS = {
    "degrees where metres are expected": ("@52.201@0.1201@.jpg", "@52.202@0.1202@.jpg"),
    "UTM zones differ": ("@0714836.14@5542944.11@31@U@@@@@@@@@@@.jpg", "@0285171.01@5542944.64@32@U@@@@@@@@@@@.jpg"),
    "contradict the UTM": ("@0303189.31@5787193.03@31@U@048.85000@0002.35000@@@@@@@@@.jpg",),
    "no UTM coordinates": ("@20210601_153000@20210601_153000@.jpg",),
    "out of range": ("@0303189.31@5787193.03@31@U@152.20000@0000.12000@@@@@@@@@.jpg",),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str) -> None:
    for part in ("database", "queries"):
        for name in FAULTS[fault]:
            path = tmp_path / "town/images/test" / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16)).save(path)
    assert main(["verify", str(tmp_path / "town")]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAULT")]
    assert lines and all(fault in line for line in lines)
