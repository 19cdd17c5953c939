"""Half an hour of kills, signals, full disks, read-only folders and pairs of runs changes no bit of any run.

Not part of `make test`:

    OMP_NUM_THREADS=1 python -m pytest tests/soak.py -m soak --soak_minutes 30 --soak_seed 0 -s
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from locations import REPOSITORY


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_what_happens_to_a_run_changes_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    minutes, seed = (request.config.getoption(f"--soak_{name}") for name in ("minutes", "seed"))
    command = [sys.executable, str(REPOSITORY / "tests" / "soaking.py"), f"--minutes={minutes}", f"--seed={seed}"]
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    # Without torch's threads, which a process that is forked would not have.
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, f"--folder={tmp_path / 'soak'}"], env=environment, stdout=subprocess.PIPE, text=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    print(found)
    assert found["problems"] == [] and done.returncode == 0
    assert found["counts"]["runs"] >= 1 and found["counts"]["starts"] > found["counts"]["runs"]
