import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_program
import pytest
import yaml
from locations import REPOSITORY

from vgbench.benchmark.campaign import OUTDATED, Campaign
from vgbench.benchmark.matrix import read_matrix
from vgbench.errors import UserError


class Bench:
    """A matrix, a program that pretends to run it, and what became of it."""

    def __init__(self, tmp_path):
        self.program = fake_program.write_program(tmp_path / "program")
        self.folder = tmp_path / "logs" / "m"
        self.file = tmp_path / "m.yaml"
        self.said = []

    def campaign(self, runs, **more):
        self.file.write_text(yaml.safe_dump(runs))
        return Campaign(read_matrix(self.file), self.folder, self.program, say=self.said.append, **more)

    def run(self, runs, **more):
        """Run; return (table, failures, calls of scripts made by this run)."""
        before, self.said = len(self.calls), []
        table, failures = self.campaign(runs, **more).run()
        assert (self.folder / "table.md").read_text() == table
        return table, failures, self.calls[before:]

    @property
    def calls(self):
        path = Path(self.program[-1]).with_name("calls.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


TWO = [
    {"name": "gem", "train": {"lr": 40.0}, "eval": [{"dataset_name": "tokyo"}]},
    {"name": "netvlad", "train": {"lr": 60.0}},
]


def test_runs_everything_once(bench):
    table, failures, calls = bench.run(TWO)
    best = str(bench.folder / "gem" / "train" / "best_model.pth")
    assert calls == [
        ["train", "gem", "train", None],
        ["eval", "gem", "eval-1", best],
        ["train", "netvlad", "train", None],
    ]
    assert failures == {} and "**60.0**" in table and "tokyo R@1" in table
    again = bench.run(TWO)
    assert again == (table, {}, [])
    assert all("already done" in line for line in bench.said)


def test_changed_options_run_again_and_nothing_old_is_lost(bench):
    bench.run(TWO)
    changed = [{**TWO[0], "train": {"lr": 70.0}}, TWO[1]]
    table, _, calls = bench.run(changed)
    assert [call[:3] for call in calls] == [["train", "gem", "train"], ["eval", "gem", "eval-1"]]
    assert calls[0][3] is None, "the old checkpoint is of other options"
    assert "**70.0**" in table
    kept = [path for path in (bench.folder / "gem").glob("train.*") if path.is_dir()]
    assert len(kept) == 1 and json.loads((kept[0] / "results.json").read_text())["recalls"]["25"]["1"] == 40.0


@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        ("missing", "datasets/missing: no such folder"),
        ("crash", "ValueError: shapes differ"),
        ("killed", "ended by SIGKILL (out of memory?)"),
        ("silent", "50%"),
        ("forgets", "train ended well but left no results that can be read"),
    ],
)
def test_a_failure_is_marked_and_the_others_go_on(bench, dataset, reason):
    runs = [{"name": "bad", "train": {"dataset_name": dataset}, "eval": [{"dataset_name": "tokyo"}]}, TWO[1]]
    table, failures, calls = bench.run(runs)
    assert failures == {"bad": f"train: {reason}"}
    assert f"- bad: `train: {reason}`" in table and "**60.0**" in table
    assert [call[1] for call in calls] == ["bad", "netvlad"], "nothing is tested that was not trained"
    assert json.loads((bench.folder / "bad" / "train.state.json").read_text())["reason"] == reason


def test_a_failed_evaluation_leaves_the_others_of_its_run(bench):
    runs = [{"name": "a", "train": {}, "eval": [{"dataset_name": "missing"}, {"dataset_name": "tokyo"}]}]
    table, failures, _ = bench.run(runs)
    assert failures == {"a": "eval-1: datasets/missing: no such folder"}
    assert "tokyo R@1" in table and "city R@1" in table


def test_failed_seeds_share_the_row_of_their_run(bench):
    runs = [{"name": "bad", "train": {"dataset_name": "missing"}, "seeds": [0, 1]}, TWO[1]]
    table, failures, _ = bench.run(runs)
    assert set(failures) == {"bad seed=0", "bad seed=1"}
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]
    assert rows.count("bad") == 1 and not any("seed=" in row for row in rows)
    assert table.count("failed") == 1
    [why] = [line for line in table.splitlines() if line.startswith("- bad")]
    assert "bad seed=0: train: datasets/missing" in why and "bad seed=1: train: datasets/missing" in why


def test_what_failed_is_tried_again_from_its_last_checkpoint(bench):
    runs = [{"name": "a", "train": {"dataset_name": "once"}}]
    assert bench.run(runs)[1] == {"a": "train: the disk is full"}
    _, failures, calls = bench.run(runs)
    assert failures == {} and calls == [["train", "a", "train", str(bench.folder / "a" / "train" / "last_model.pth")]]


def test_results_of_a_failed_job_do_not_count(bench):
    runs = [{"name": "a", "train": {"dataset_name": "missing"}}]
    bench.run(runs)
    (bench.folder / "a" / "train" / "results.json").write_text('{"dataset": "x", "recalls": {"25": {"1": 1.0}}}')
    table, failures, calls = bench.run(runs)
    assert len(calls) == 1 and failures and "x R@1" not in table


def test_half_a_results_file_is_not_a_result(bench):
    bench.run(TWO[1:])
    (bench.folder / "netvlad" / "train" / "results.json").write_text('{"dataset": "x", "rec')
    _, failures, calls = bench.run(TWO[1:])
    assert len(calls) == 1 and failures == {}


def test_goes_on_after_being_killed(bench):
    runs = [TWO[1], {"name": "slow", "train": {"dataset_name": "slow"}}]
    campaign = bench.campaign(runs)
    code = (
        "import sys; from pathlib import Path; from vgbench.benchmark.campaign import Campaign; "
        "from vgbench.benchmark.matrix import read_matrix; "
        "file, folder = map(Path, sys.argv[1:3]); Campaign(read_matrix(file), folder, sys.argv[3:]).run()"
    )
    root = REPOSITORY
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, (bench.file, bench.folder)), *bench.program],
        cwd=root,
        start_new_session=True,
    )
    waiting = bench.folder / "slow" / "train" / "waiting"
    deadline = time.monotonic() + 60
    while not waiting.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(UserError, match="another benchmark"):
        campaign.run()
    process.kill()
    process.wait()
    if sys.platform != "linux":
        with pytest.raises(UserError, match="a run that one left behind"):
            campaign.run()
        os.killpg(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while _alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(process.pid)  # its run has ended with it
    assert [call[1] for call in bench.calls] == ["netvlad", "slow"]
    # What made it slow is mended without changing its options.
    for script in [Path(bench.program[-1])]:
        script.write_text(script.read_text().replace("time.sleep(60)", "pass"))
    table, failures, calls = bench.run(runs)
    assert calls == [["train", "slow", "train", str(bench.folder / "slow" / "train" / "last_model.pth")]]
    assert failures == {} and "slow R@1" in table and "city R@1" in table


def test_checkpoints_from_elsewhere_and_networks_as_they_come(bench, tmp_path):
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"w")
    runs = [{"name": "a", "checkpoint": str(weights), "eval": [{}]}, {"name": "b", "eval": [{"dataset_name": "tokyo"}]}]
    table, failures, calls = bench.run(runs)
    assert calls == [["eval", "a", "eval-1", str(weights)], ["eval", "b", "eval-1", None]]
    assert failures == {} and "tokyo R@1" in table


def test_networks_of_earlier_runs_are_tested_again_and_combined(bench):
    again = {"name": "down", "of": "gem", "eval": [{"dataset_name": "tokyo"}]}
    both = {"name": "both", "ensemble": {"runs": ["gem", "netvlad"], "combine": "mean"}, "eval": [{"lr": 70.0}]}
    table, failures, calls = bench.run([*TWO, again, both])
    gem, netvlad, joined = (
        str(bench.folder / one / "best_model.pth") for one in ("gem/train", "netvlad/train", "both/ensemble")
    )
    assert failures == {} and calls[3] == ["eval", "down", "eval-1", gem]
    assert calls[4] == ["ensemble", "--combine", "mean", "--checkpoints", gem, netvlad, "--output", joined]
    assert calls[5] == ["eval", "both", "eval-1", joined]
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:6]] == ["gem", "netvlad", "down", "both"]
    assert bench.run([*TWO, again, both])[2] == []
    # Another training makes another network, which its neighbours' results do not depend on.
    other = [TWO[0], {"name": "netvlad", "train": {"lr": 61.0}}, again, both]
    assert [call[0] for call in bench.run(other)[2]] == ["train", "ensemble", "eval"]


def test_a_training_begins_with_the_network_of_another(bench):
    then = {"name": "then", "start_from": "gem", "train": {"dataset_name": "once"}}
    _, failures, calls = bench.run([*TWO, then])
    best = str(bench.folder / "gem" / "train" / "best_model.pth")
    assert calls[-1] == ["train", "then", "train", best] and failures == {"then": "train: the disk is full"}
    # One that goes on knows where it began.
    last = str(bench.folder / "then" / "train" / "last_model.pth")
    assert bench.run([*TWO, then])[2] == [["train", "then", "train", last]]


def test_a_training_is_told_its_teacher_and_its_start(bench):
    taught = {"name": "taught", "start_from": "netvlad", "distill_from": "gem", "train": {"lr": 40.0}}
    campaign = bench.campaign([*TWO, taught])
    job = campaign.matrix.jobs[-1]
    words, begins = campaign._call(job).words, campaign._call(job).begins_with
    gem, netvlad = (str(bench.folder / name / "train" / "best_model.pth") for name in ("gem", "netvlad"))
    assert words[words.index("--distill_from") + 1] == gem and "--start_from" not in words
    assert begins == ("--start_from", netvlad)
    alone = bench.campaign([*TWO, {**taught, "start_from": "gem"}])
    assert alone._call(alone.matrix.jobs[-1]).begins_with == ("--start_from", gem)
    plain = bench.campaign([*TWO, {"name": "then", "start_from": "gem", "train": {}}])
    assert "--distill_from" not in plain._call(plain.matrix.jobs[-1]).words


def test_what_cannot_be_combined_leaves_out_its_tests_alone(bench):
    both = {"name": "both", "soup": {"runs": ["gem", "netvlad"], "weights": [1, 2, 3]}, "eval": [{}]}
    table, failures, calls = bench.run([*TWO, both])
    assert failures == {"both": "soup: 3 weights of 2 networks"} and len(calls) == 4
    assert bench.said[-1].endswith("left out, both/soup failed") and "3 weights" in table


def test_runs_of_a_network_that_failed_say_so(bench):
    runs = [{"name": "a", "train": {"dataset_name": "missing"}}, {"name": "b", "of": "a", "eval": [{}]}]
    table, failures, calls = bench.run(runs)
    assert failures["b"] == "eval-1: left out, a/train failed" and "left out" in table and len(calls) == 1


def _alive(group):
    """Whether a process of the group still runs; one that has ended and waits for its parent does not count."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            return True
    return False


def test_an_interruption_ends_the_job_and_keeps_the_lock_free(bench, monkeypatch):
    monkeypatch.setattr("vgbench.benchmark.executor.GRACE_SECONDS", 0.5)
    started = []

    def interrupted(self, progress, executor):
        started.extend(one.process for one in executor._running)
        deadline = time.monotonic() + 60
        while not (bench.folder / "a" / "train" / "waiting").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        raise KeyboardInterrupt

    monkeypatch.setattr(Campaign, "_show", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.run([{"name": "a", "train": {"dataset_name": "slow"}}])
    assert started[0].poll() is not None
    monkeypatch.undo()
    assert bench.run(TWO[1:])[1] == {}


def test_on_a_terminal_the_last_line_is_shown_while_it_runs(bench, monkeypatch, capsys):
    monkeypatch.setattr("vgbench.benchmark.campaign._POLL_SECONDS", 0.01)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for script in [Path(bench.program[-1])]:
        script.write_text(script.read_text().replace('end="\\r 50%")', 'end="\\r 50%", flush=True); time.sleep(0.5)'))
    _, failures, _ = bench.run(TWO[1:])
    out = capsys.readouterr().out
    assert failures == {} and re.search(r"netvlad: train \(0:\d\d\): 50%", out)
    assert re.search(r"\[2K\[1/1\] netvlad: train: done in 0:\d\d, city R@1 60.0 R@5 80.0\n$", out)


def test_options_are_checked_before_anything_runs(bench):
    def refuse(job, config):
        if "no_such" in config.read_text():
            raise UserError(f"{job.script} {config.name}: unknown option")

    runs = [TWO[1], {"name": "b", "train": {"no_such": 1}}]
    with pytest.raises(UserError, match=r"train train\.yaml: unknown option"):
        bench.run(runs, check=refuse)
    assert bench.calls == []


def test_a_place_that_cannot_be_written_is_one_line(bench, tmp_path):
    (tmp_path / "logs").write_text("a file where a folder should be")
    with pytest.raises(UserError, match="cannot be written"):
        bench.run(TWO)


GRID = {"grid": {"over": {"train.lr": [40.0, 60.0], "train.margin": [1, 2]}, "seeds": [0, 1, 2], "eval": [{}]}}


def test_seeds_share_a_row(bench):
    table, failures, calls = bench.run(GRID)
    assert failures == {} and len(calls) == 24
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:6]] == ["40 1", "40 2", "60 1", "60 2"]
    assert "Mean and standard deviation over 6 seeds" in table or "± 0.0" in table
    for name in ("table.tex", "table.csv", "table.html"):
        assert "60 2" in (bench.folder / name).read_text()


def test_several_jobs_give_the_table_of_one_after_the_other(bench, tmp_path):
    grid = {"grid": {**GRID["grid"], "over": {"train.lr": [40.0, 60.0]}, "seeds": [0, 1]}}
    one = bench.run(grid)
    bench.folder = tmp_path / "logs" / "again"
    table, failures, calls = bench.run(grid, jobs=3)
    assert (table, failures) == one[:2] and sorted(map(str, calls)) == sorted(
        str(call).replace("/logs/m/", "/logs/again/") for call in one[2]
    )


def test_what_takes_a_network_waits_for_it(bench):
    both = {"name": "both", "ensemble": {"runs": ["gem", "netvlad"]}, "eval": [{}]}
    _, failures, calls = bench.run([*TWO, both], jobs=4)
    names = [call[0] for call in calls]
    assert failures == {} and names.index("ensemble") > max(names.index("train"), 1) and names[-1] == "eval"


def test_only_some_runs_and_what_they_need(bench):
    again = {"name": "down", "of": "gem", "eval": [{}]}
    _, _, calls = bench.run([*TWO, again], only="do*")
    assert [call[:2] for call in calls] == [["train", "gem"], ["eval", "down"]]
    with pytest.raises(UserError, match="Did you mean down"):
        bench.run([*TWO, again], only="dwon")


def test_force_runs_again_and_keeps_the_old(bench):
    bench.run(TWO)
    _, _, calls = bench.run(TWO, only="netvlad", force=True)
    assert [call[:3] for call in calls] == [["train", "netvlad", "train"]] and calls[0][3] is None
    assert len(list((bench.folder / "netvlad").glob("train.*/results.json"))) == 1


def test_what_another_matrix_has_done_is_taken_over(bench, tmp_path):
    bench.run(TWO)
    first, bench.folder = bench.folder, tmp_path / "logs" / "second"
    other = [{**TWO[0], "name": "the same"}, {"name": "new", "train": {"lr": 1.0}}]
    table, failures, calls = bench.run(other, elsewhere=(first,))
    assert [call[1] for call in calls] == ["new"] and failures == {} and "| the same" in table
    assert any("taken over from" in line for line in bench.said)
    # Half a result is none.
    (first / "gem" / "train" / "results.json").write_text("{")
    bench.folder = tmp_path / "logs" / "third"
    assert [call[:2] for call in bench.run(other[:1], elsewhere=(first,))[2]] == [["train", "the same"]]


def test_other_data_is_another_result(bench):
    bench.run(TWO[1:], facts=lambda job: {"data": 1})
    assert bench.run(TWO[1:], facts=lambda job: {"data": 1})[2] == []
    assert len(bench.run(TWO[1:], facts=lambda job: {"data": 2})[2]) == 1


def test_what_became_of_each_job(bench):
    runs = [TWO[0], {"name": "bad", "train": {"dataset_name": "missing"}, "eval": [{}]}]
    assert [status for _, status in bench.campaign(runs).statuses()] == [
        "to do", "waits for gem/train", "to do", "waits for bad/train",
    ]  # fmt: skip
    bench.run(runs)
    found = {job.folder: status for job, status in bench.campaign(runs).statuses()}
    assert found["gem/eval-1"] == "done" and found["bad/train"] == "failed: datasets/missing: no such folder"
    table = bench.campaign(runs).write_tables()
    assert "- bad: `train: datasets/missing: no such folder`" in table


def test_results_of_other_options_are_said_to_be_left_out(bench):
    bench.run(TWO)
    assert bench.campaign(TWO).left() == ""
    changed = bench.campaign([{**TWO[0], "train": {"lr": 70.0}}, TWO[1]])
    assert [status for _, status in changed.statuses()] == [OUTDATED, OUTDATED, "done"]
    assert "60.0" in changed.write_tables() and "40.0" not in changed.write_tables()
    said = "2 of 3 jobs to do: their results are of other options or images. To see which: "
    assert (
        changed.left()
        == f"{said}python3 benchmark.py {bench.file} --list; to run them: python3 benchmark.py {bench.file}"
    )
    fresh = [*TWO, {"name": "bad", "train": {"dataset_name": "missing"}}]
    bench.run(fresh)
    fresh[1] = {**fresh[1], "train": {"lr": 61.0}}
    assert (
        "2 of 4 jobs to do: of 1 the results are of other options or images; 1 failed." in bench.campaign(fresh).left()
    )


@pytest.mark.slow
def test_killed_twice_nothing_is_done_twice(bench, tmp_path):
    """24 runs, killed -9 twice with all that they started: the same table as undisturbed, and none done twice."""
    script = Path(bench.program[-1])
    script.write_text(script.read_text().replace('(run_dir / "last', 'time.sleep(0.2)\n(run_dir / "last'))
    code = (
        "import sys; from pathlib import Path; from vgbench.benchmark.campaign import Campaign; "
        "from vgbench.benchmark.matrix import read_matrix; "
        "file, folder = map(Path, sys.argv[1:3]); Campaign(read_matrix(file), folder, sys.argv[3:], jobs=2).run()"
    )
    bench.campaign(GRID)
    words = [sys.executable, "-c", code, str(bench.file), str(bench.folder), *bench.program]
    for finished in (5, 14):
        process = subprocess.Popen(words, cwd=REPOSITORY, start_new_session=True)
        deadline = time.monotonic() + 120
        while len(list(bench.folder.glob("*/*/results.json"))) < finished and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = {path.parent: path.stat().st_mtime_ns for path in bench.folder.glob("*/*/results.json")}
    table, failures, _ = bench.run(GRID, jobs=2)
    assert failures == {} and all(path.joinpath("results.json").stat().st_mtime_ns == at for path, at in done.items())
    bench.folder = tmp_path / "logs" / "undisturbed"
    assert bench.run(GRID)[0] == table
