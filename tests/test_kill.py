"""train.py killed with SIGKILL three times, at moments spread over the run, ends as an undisturbed run, to the bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from locations import REPOSITORY
from tiny_city import write_dataset

OPTIONS = [
    "--resize", "64", "64", "--num_workers", "0", "--infer_batch_size", "8", "--pretrain=none", "--epochs_num=3",
    "--queries_per_epoch=16", "--cache_refresh_rate=4", "--neg_samples_num=16", "--negs_num_per_query=3",
    "--train_batch_size=2", "--netvlad_clusters=4", "--mining=full", "--brightness=0.2", "--horizontal_flip",
    "--lr=1e-3", "--patience=9",
]  # fmt: skip


def start(run: Path, *arguments: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(REPOSITORY / "train.py"), *arguments]
    with (run.parent / f"{run.name}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=run.parent)


def rounds_done(run: Path) -> int:
    file = run / "metrics.jsonl"
    return len(file.read_bytes().splitlines()) if file.exists() else 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_kills_change_no_bit(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "datasets" / "tiny")
    where = [f"--datasets_folder={dataset.parent}", "--dataset_name=tiny", *OPTIONS]
    calm, disturbed = tmp_path / "calm", tmp_path / "disturbed"
    assert start(calm, *where, f"--run_dir={calm}").wait() == 0

    process = start(disturbed, *where, f"--run_dir={disturbed}")
    killed_after = []
    for rounds in (1, 6, 11):
        # Somewhat after the round was noted: while mining, while training or while writing the checkpoint.
        while rounds_done(disturbed) < rounds:
            assert process.poll() is None, (tmp_path / "disturbed.log").read_text()
            time.sleep(0.01)
        time.sleep(0.1 * len(killed_after))
        assert process.poll() is None, "the run was over before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed_after.append(rounds_done(disturbed))
        process = start(disturbed, f"--resume={disturbed / 'last_model.pth'}")
    assert process.wait() == 0, (tmp_path / "disturbed.log").read_text()

    last = [torch.load(run / "last_model.pth", weights_only=True) for run in (calm, disturbed)]
    for name, tensor in last[0]["model_state_dict"].items():
        assert torch.equal(tensor, last[1]["model_state_dict"][name]), name
    results = [json.loads((run / "results.json").read_text()) for run in (calm, disturbed)]
    assert results[0]["recalls"] == results[1]["recalls"]
    print(f"killed after {killed_after} notes in metrics.jsonl; all {len(last[0]['model_state_dict'])} tensors equal")
