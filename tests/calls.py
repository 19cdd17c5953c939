"""Call a script as a user does, in this process."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from locations import REPOSITORY

SMALL = [
    "--resize", "64", "64", "--num_workers", "0", "--infer_batch_size", "8", "--report_queries=4", "--heat_maps=2",
]  # fmt: skip
TRAINING = [
    *SMALL, "--pretrain=none", "--epochs_num=2", "--queries_per_epoch=8", "--cache_refresh_rate=4",
    "--neg_samples_num=10", "--negs_num_per_query=2", "--train_batch_size=2", "--netvlad_clusters=4",
]  # fmt: skip


def run_here(script: str, *arguments: str) -> int:
    """Run a script in this process; returns its exit status."""
    before, sys.argv = sys.argv, [script, *arguments]
    try:
        runpy.run_path(str(REPOSITORY / script), run_name="__main__")
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before
    return 0


def of(dataset: Path) -> list[str]:
    return [f"--datasets_folder={dataset.parent}", f"--dataset_name={dataset.name}"]


def complaint(result: tuple[int, str, str]) -> str:
    """The one line that bad input ends with."""
    status, _, err = result
    assert status == 2, err
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert "Traceback" not in err
    return lines[0]
