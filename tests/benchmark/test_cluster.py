"""The executors of clusters, on this machine: submitit's local executor, and several nodes of Ray."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import fake_program
import pytest
import yaml

from vgbench.benchmark.campaign import Campaign
from vgbench.benchmark.executor import Call
from vgbench.benchmark.matrix import Job, read_matrix
from vgbench.benchmark.process import Process
from vgbench.benchmark.slurm import SlurmExecutor
from vgbench.errors import UserError

GRID = {"grid": {"over": {"train.lr": [40.0, 60.0]}, "seeds": [0, 1, 2], "eval": [{}]}}


@pytest.fixture
def campaign(tmp_path):
    program = fake_program.write_program(tmp_path / "program")
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(GRID))

    def of(name, **more):
        return Campaign(read_matrix(tmp_path / "m.yaml"), tmp_path / name, program, say=lambda line: None, **more)

    return of


def calls(tmp_path):
    lines = (tmp_path / "program" / "calls.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def wait_until(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


def test_a_process_passes_on_the_end_and_takes_up_its_checkpoint(tmp_path):
    last, ended = tmp_path / "last.pth", tmp_path / "ended"
    code = (
        "import sys, time, signal, pathlib\n"
        f"last = pathlib.Path({str(last)!r})\n"
        "if '--resume' in sys.argv: sys.exit('error: resumed')\n"
        "signal.signal(signal.SIGTERM, lambda *_: (last.touch(), sys.exit(143)))\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    call = Call(
        Job("a", "train", "train", {}), (sys.executable, "-c", code), tmp_path / "a.log", dict(os.environ), last
    )
    child = os.fork()
    if child == 0:  # a process of its own, whose main thread gets the signal
        process = Process(call)
        signal.signal(signal.SIGUSR1, lambda *_: (process.end(), ended.touch()))
        process.run()
        os._exit(0)
    wait_until(lambda: call.log.exists() and "ready" in call.log.read_text())
    os.kill(child, signal.SIGUSR1)
    wait_until(ended.exists, 60)  # less than what a job has to save in: its end is seen when it comes
    os.waitpid(child, 0)
    assert last.exists(), "it had the time to save"
    assert Process(call).run() == "resumed"


def test_what_ended_as_its_node_was_lost_is_not_done_twice(tmp_path):
    product, started, ran = tmp_path / "results.json", tmp_path / "state.json", tmp_path / "ran"
    words = (sys.executable, "-c", f"open({str(ran)!r}, 'a').write('x')")
    job = Job("a", "train", "train", {})
    call = Call(job, words, tmp_path / "a.log", dict(os.environ), product=product, started=started)
    product.touch()  # of an earlier try, which failed later
    started.touch()
    os.utime(product, ns=(0, started.stat().st_mtime_ns - 1))
    assert Process(call).run() == "" and ran.read_text() == "x"
    os.utime(product, ns=(0, started.stat().st_mtime_ns + 1))
    assert Process(call).run() == "" and ran.read_text() == "x"
    product.unlink()
    assert Process(call).run() == "" and ran.read_text() == "xx"


@pytest.mark.slow
def test_through_submitit_the_table_is_the_same(campaign, tmp_path):
    pytest.importorskip("submitit")
    here = campaign("here").run()
    executor = SlurmExecutor(tmp_path / "submitit", cluster="local", at_a_time=4)
    assert campaign("there", executor=executor).run() == here
    assert len(calls(tmp_path)) == 2 * 12, "nothing was done twice"


def test_what_fails_through_submitit_says_why(campaign, tmp_path):
    pytest.importorskip("submitit")
    (tmp_path / "m.yaml").write_text(yaml.safe_dump([{"name": "bad", "train": {"dataset_name": "missing"}}]))
    executor = SlurmExecutor(tmp_path / "submitit", cluster="local")
    _, failures = campaign("there", executor=executor).run()
    assert failures == {"bad": "train: datasets/missing: no such folder"}


def test_unknown_options_of_slurm(tmp_path):
    pytest.importorskip("submitit")
    with pytest.raises(UserError, match="partiton is not known"):
        SlurmExecutor(tmp_path, {"partiton": "gpu"})


@pytest.mark.slow
def test_a_preempted_job_goes_on_where_it_was(campaign, tmp_path):
    """The signal of a preemption, sent to the job: it is started again and takes up its checkpoint."""
    pytest.importorskip("submitit")
    (tmp_path / "m.yaml").write_text(yaml.safe_dump([{"name": "a", "train": {"dataset_name": "slow"}}]))
    script = tmp_path / "program" / "program.py"
    here = campaign("there", executor=SlurmExecutor(tmp_path / "submitit", cluster="local"))
    text = script.read_text().replace(
        '    time.sleep(60)\n', '    time.sleep(0 if typed.resume else 60)\n'
    )  # fmt: skip
    script.write_text(text)
    import threading

    waiting = tmp_path / "there" / "a" / "train" / "waiting"

    def preempt():
        wait_until(waiting.exists)
        for _, job in list(here.executor._running):
            # submitit's local executor passes on SIGTERM alone: the signal of a preemption goes to the task itself.
            watcher = job._process.pid
            task = Path(f"/proc/{watcher}/task/{watcher}/children").read_text().split()[0]
            os.kill(int(task), signal.SIGUSR2)

    thread = threading.Thread(target=preempt)
    thread.start()
    _, failures = here.run()
    thread.join()
    found = calls(tmp_path)
    assert failures == {} and found[0][3] is None and found[1][3].endswith("last_model.pth")


def test_a_machine_keeps_its_gpus_and_takes_the_jobs_threads(tmp_path, monkeypatch):
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "7")
    code = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['CUDA_VISIBLE_DEVICES'])"
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "0"}
    call = Call(Job("a", "train", "train", {}), (sys.executable, "-c", code), tmp_path / "a.log", environment)
    assert Process(call).run() == "" and call.log.read_text() == "2 7\n"


@pytest.mark.slow
def test_a_node_of_ray_that_dies_costs_nothing_but_time(campaign, tmp_path):
    """Two nodes, one killed in the middle: the same table as without, and no finished job done twice."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    from vgbench.benchmark.ray_tasks import RayExecutor

    here = campaign("here").run()
    (tmp_path / "program" / "calls.jsonl").unlink()
    script = tmp_path / "program" / "program.py"
    script.write_text(script.read_text().replace('(run_dir / "last', 'time.sleep(1)\n(run_dir / "last'))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        node = cluster.add_node(num_cpus=1)
        executor = RayExecutor(cluster.address)
        import threading

        def kill():
            wait_until(lambda: len(list((tmp_path / "there").glob("*/*/results.json"))) >= 3)
            cluster.remove_node(node, allow_graceful=False)

        thread = threading.Thread(target=kill)
        thread.start()
        found = campaign("there", executor=executor).run()
        thread.join()
        assert found == here
        finished = [call[1:3] for call in calls(tmp_path)]
        # Only what ran on the node when it died ran again.
        assert 12 <= len(finished) <= 13 and len({str(one) for one in finished}) == 12
        assert Path(tmp_path / "there" / "table.tex").exists()
    finally:
        ray.shutdown()
        cluster.shutdown()
