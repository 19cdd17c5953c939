"""A study of 24 real trainings: whatever ends in the middle and wherever it runs, its table is the undisturbed one's.

    python -m pytest tests/benchmark/test_study.py -m slow -s    # prints what was killed, and what the logs say

Each training is as small as they come; most of its seconds go into starting Python.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from locations import REPOSITORY
from tiny_city import write_dataset

from vgbench.benchmark.campaign import Campaign
from vgbench.benchmark.executor import Executor
from vgbench.benchmark.matrix import read_matrix
from vgbench.cli.benchmark import _parser
from vgbench.cli.campaigns import campaign_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
SUMMARY = "best epoch:"  # a line at the end of every training
STUDY = {
    "defaults": {
        "all": {"num_workers": 0, "infer_batch_size": 8, "heat_maps": 0, "report_queries": 1},
        "train": {
            "dataset_name": "tiny", "resize": [32, 32], "backbone": "efficientnet_lite0", "cut": 2, "pretrain": "none",
            "epochs_num": 2, "queries_per_epoch": 8, "cache_refresh_rate": 4, "neg_samples_num": 8,
            "negs_num_per_query": 2, "train_batch_size": 2,
        },
    },
    "grid": {
        "over": {
            "train.aggregation": ["gem", "spoc"],
            "train.criterion": ["triplet", "sare_ind"],
            "train.lr": [0.001, 0.01],
        },
        "seeds": [0, 1, 2],
    },
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Study:
    """The matrix, its data and the table of an undisturbed run."""

    folder: Path
    table: str = ""

    def words(self, name: str) -> list[str]:
        return [str(self.folder / "study.yaml"), "--jobs", "2", "--fork", "--logs_folder", str(self.folder / name)]

    def campaign(self, name: str, executor: Executor | None = None) -> Campaign:
        campaign = campaign_of(read_matrix(self.folder / "study.yaml"), _parser().parse_args(self.words(name)))
        # What the study has done elsewhere is not to be taken over here.
        return dataclasses.replace(campaign, executor=executor, elsewhere=(), say=lambda line: None)

    def logs(self, name: str) -> list[Path]:
        return sorted((self.folder / name / "study").glob("*/train.log"))

    def finished(self, name: str) -> int:
        return len(list((self.folder / name / "study").glob("*/train/results.json")))

    def check(self, name: str, table: str) -> None:
        """The same table, from 24 runs that each came to their end once."""
        ends = [log.read_text().count(SUMMARY) for log in self.logs(name)]
        resumed = sum("resumed" in log.read_text() for log in self.logs(name))
        print(f"\n{name}: {len(ends)} runs, done twice: {sum(end > 1 for end in ends)}, gone on with: {resumed}; "
              f"the undisturbed table: {table == self.table}")  # fmt: skip
        # One that was killed after its results were written has no summary, and is not run again for it.
        assert len(ends) == 24 and max(ends) == 1
        assert table == self.table and table.count("±") >= 8
        # Recalls of so small a dataset are all alike: the weights tell whether it is the same training.
        sums = set()
        for path in sorted((self.folder / "undisturbed" / "study").glob("*/train/last_model.pth")):
            other = self.folder / name / "study" / path.parent.parent.name / "train" / path.name
            one, two = (torch.load(file, weights_only=True)["model_state_dict"] for file in (path, other))
            assert all(torch.equal(tensor, two[key]) for key, tensor in one.items()), other
            sums.add(sum(float(tensor.double().abs().sum()) for tensor in one.values()))
        assert len(sums) == 24, "24 different networks"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    data = write_dataset(folder / "datasets" / "tiny").parent
    content = {**STUDY, "defaults": {**STUDY["defaults"]}}
    content["defaults"]["all"] = {**content["defaults"]["all"], "datasets_folder": str(data)}
    (folder / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    table, failures = Study(folder).campaign("undisturbed").run()
    assert failures == {}
    made = Study(folder, table)
    made.check("undisturbed", table)
    print(table)
    return made


def wait_until(condition: Callable[[], bool], seconds: float = 1800) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_killed_twice_it_ends_as_if_it_had_not_been(study: Study) -> None:
    """Kill -9 of benchmark.py and of the trainings that it runs, after 5 and after 14 of 24."""
    words = [sys.executable, str(REPOSITORY / "benchmark.py"), *study.words("killed")]
    # What is done elsewhere is hidden from it: logs of the undisturbed run stand in another folder than --logs_folder.
    for finished in (5, 14):
        process = subprocess.Popen(words, cwd=study.folder, stdout=subprocess.DEVNULL)
        wait_until(lambda count=finished: study.finished("killed") >= count)
        running = children(process.pid)
        for pid in (process.pid, *running):
            os.kill(pid, signal.SIGKILL)
        process.wait()
        print(f"\nkilled -9 after {study.finished('killed')} of 24: benchmark.py and {len(running)} trainings")
    before = {path: path.stat().st_mtime_ns for path in study.folder.glob("killed/study/*/train/results.json")}
    subprocess.run(words, cwd=study.folder, check=True, stdout=subprocess.DEVNULL)
    assert all(path.stat().st_mtime_ns == at for path, at in before.items()), "a finished run was written again"
    study.check("killed", (study.folder / "killed" / "study" / "table.md").read_text())


def test_on_two_nodes_of_ray_one_of_which_dies(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_worker_niceness", "0")  # its tasks would give way to all else that this machine does
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    from vgbench.benchmark.ray_tasks import RayExecutor

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        node = cluster.add_node(num_cpus=1)

        def kill() -> None:
            wait_until(lambda: study.finished("ray") >= 8)
            cluster.remove_node(node, allow_graceful=False)
            print(f"\none of two Ray nodes killed after {study.finished('ray')} of 24")

        thread = threading.Thread(target=kill)
        thread.start()
        table, failures = study.campaign("ray", RayExecutor(cluster.address)).run()
        thread.join()
        assert failures == {}
        study.check("ray", table)
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_through_submitit_with_a_preemption(study: Study) -> None:
    """SIGUSR2 is what submitit's local executor takes for a preemption: those that run are queued again."""
    pytest.importorskip("submitit")
    from vgbench.benchmark.slurm import SlurmExecutor

    executor = SlurmExecutor(study.folder / "submitit" / "jobs", cluster="local", at_a_time=2)

    def preempt() -> None:
        wait_until(lambda: study.finished("submitit") >= 8)
        tasks = [task for _, job in list(executor._running) for task in children(job._process.pid)]
        for task in tasks:
            os.kill(task, signal.SIGUSR2)
        print(f"\n{len(tasks)} jobs preempted after {study.finished('submitit')} of 24")

    thread = threading.Thread(target=preempt)
    thread.start()
    table, failures = study.campaign("submitit", executor).run()
    thread.join()
    assert failures == {}
    study.check("submitit", table)
