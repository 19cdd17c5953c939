"""benchmark.py reads a matrix, runs what is in it, prints one table."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import fake_program
import pytest
import yaml
from locations import REPOSITORY

from vgbench.benchmark.matrix import Job, read_matrix
from vgbench.cli import benchmark, campaigns
from vgbench.cli.exits import ended
from vgbench.errors import UserError

CHECK_DATA = campaigns.check_data


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the script on a matrix; return (exit status, stdout, stderr)."""
    monkeypatch.setattr(campaigns, "PROGRAM", fake_program.write_program(tmp_path / "program"))
    monkeypatch.setattr(campaigns, "check_data", lambda job, config: None)  # nothing is read by the pretended program

    def run_matrix(content):
        path = tmp_path / "two.yaml"
        path.write_text(yaml.safe_dump(content))
        monkeypatch.setattr(sys, "argv", ["benchmark.py", str(path), "--logs_folder", str(tmp_path / "logs")])
        status = ended(benchmark.main)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_matrix


def test_one_table_printed_and_written(run, tmp_path):
    status, out, _ = run([{"name": "gem", "train": {"aggregation": "gem"}}, {"name": "netvlad", "train": None}])
    table = (tmp_path / "logs" / "two" / "table.md").read_text()
    assert status == 0 and table in out and "| gem" in table and "| netvlad" in table
    assert "[1/2] gem: train: started" in out and "[2/2] netvlad: train: done" in out


def test_a_failure_ends_with_status_1_after_the_table(run):
    status, out, _ = run([{"name": "bad", "train": {"dataset_name": "missing"}}, {"name": "ok", "train": {}}])
    assert status == 1 and "FAILED" in out and "- bad: `train: datasets/missing: no such folder`" in out
    assert "| ok" in out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"name": "a", "train": {"agregation": "gem"}}], "--agregation; did you mean --aggregation?"),
        ([{"name": "a", "train": {}, "eval": [{"margin": 0.2}]}], "eval-1.yaml: unknown option --margin"),
        ([{"name": "a"}], "run 1 (a): neither `train:`"),
        ([{"name": "a", "train": {}}, {"name": "b", "whiten": {"runs": ["a"], "shrinkage": 2}}], "--shrinkage"),
        (
            [{"name": "a", "train": {}}, {"name": "b", "train": {"wandb": "mine"}}],
            "b: train: --wandb mine: wandb is not",
        ),
        # What only the network itself can refuse, of the last run as of the first.
        (
            [{"name": "a", "train": {}}, {"name": "b", "train": {"cut": 4}}],
            "b: train: resnet18conv4 with netvlad: no option 'cut'",
        ),
        (
            [{"name": "a", "train": {}}, {"name": "b", "eval": [{"aggregation": "salad"}]}],
            "b: eval-1: --aggregation salad",
        ),
        ([{"name": "a", "train": {}}, {"name": "b", "whiten": {"runs": ["a"], "resize": [0, 0]}}], "--resize 0 0"),
    ],
)
def test_mistakes_are_one_line_and_status_2_before_anything_runs(run, tmp_path, monkeypatch, content, message):
    monkeypatch.setitem(sys.modules, "wandb", None)  # as where it is not installed
    status, _, err = run(content)
    assert status == 2 and message in err and err.count("\n") == 1 and err.startswith("error: ")
    assert not (tmp_path / "program" / "calls.jsonl").exists()


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"whiten": {"runs": ["a"], "whitening_dim": 4}}, "unknown option --whitening_dim"),
        ({"whiten": {"runs": ["a"], "dim": "many"}}, "--dim many: is not a whole number"),
        ({"whiten": {"runs": ["a"], "dim": 0}}, "--dim 0: too small"),
        ({"whiten": {"runs": ["a"], "dim": 99_999}}, "--dim 99999: the network gives 16384 dimensions"),
        ({"whiten": {"runs": ["a"], "dataset_name": "absent"}}, "absent: no such dataset"),
        ({"whiten": {"runs": ["a"], "device": "tpu"}}, "--device tpu: not known"),
        ({"soup": {"runs": ["a", "b"], "soup": "gredy"}}, "--soup gredy: not known. Did you mean greedy"),
        ({"soup": {"runs": ["a", "b"], "combine": "concat"}}, "unknown option --combine"),
        ({"soup": {"runs": ["a", "b"], "soup": "greedy", "dataset_name": "absent"}}, "absent: no such dataset"),
        ({"soup": {"runs": ["a", "b"], "amp": "half"}}, "--amp half: not known"),
        ({"ensemble": {"runs": ["a", "b"], "combine": "avg"}}, "--combine avg: not known"),
        ({"ensemble": {"runs": ["a", "b"], "weights": [1, 2, 3]}}, "--weights 1 2 3: of 2 networks"),
        ({"ensemble": {"runs": ["a", "b"], "weights": [1, -2]}}, "--weights 1 -2: out of range"),
    ],
    ids=str,
)
def test_what_is_combined_wrongly_is_said_before_the_first_run(
    run, tmp_path, pristine_dataset, monkeypatch, made, message
):
    monkeypatch.setattr(campaigns, "check_data", CHECK_DATA)
    here = {"datasets_folder": str(pristine_dataset.parent), "dataset_name": pristine_dataset.name}
    runs = [{"name": "a", "train": here}, {"name": "b", "train": here | {"seed": 1}}, {"name": "made", **made}]
    status, _, err = run({"defaults": {"all": {"datasets_folder": here["datasets_folder"]}}, "runs": runs})
    assert status == 2 and message in err and err.count("\n") == 1
    assert err.startswith(f"error: {tmp_path / 'two.yaml'}: made: {next(iter(made))}: ")
    assert not (tmp_path / "program" / "calls.jsonl").exists()


@pytest.mark.parametrize(
    ("taking", "message"),
    [
        (
            {"of": "a", "eval": [{"aggregation": "gem"}]},
            "b: eval-1: a/train: holds a network without --aggregation gem",
        ),
        ({"start_from": "a", "train": {"backbone": "vgg16"}}, "b: train: a/train: holds a network"),
        ({"of": "a", "eval": [{"backbone": "resnet18conv4"}]}, None),
    ],
)
def test_options_of_another_network_than_the_runs_above_are_refused(
    run, tmp_path, pristine_dataset, monkeypatch, taking, message
):
    monkeypatch.setattr(campaigns, "check_data", CHECK_DATA)
    here = {"datasets_folder": str(pristine_dataset.parent), "dataset_name": pristine_dataset.name}
    runs = [{"name": "a", "train": {"netvlad_clusters": 8}}, {"name": "b", **taking}]
    status, _, err = run({"defaults": {"all": here}, "runs": runs})
    assert (status, err) == (0, "") if message is None else status == 2 and message in err and err.count("\n") == 1


BENCHMARKS = REPOSITORY / "benchmarks"
DEMOS = sorted((BENCHMARKS / "demo").glob("*.yaml"))
# At full scale they differ from their demo variants in a few values; some of their runs are enough.
FULL = [BENCHMARKS / path.name.replace("_demo", "") for path in DEMOS]
OTHERS = sorted(path for path in BENCHMARKS.glob("*.yaml") if path not in FULL and path.name != "demo_eval.yaml")


def check_jobs(jobs, tmp_path):
    for job in jobs:
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump(job.options))
        campaigns.check_options(job, config)


@pytest.mark.parametrize("path", [*DEMOS, *OTHERS], ids=lambda path: path.name)
def test_the_matrices_that_come_along_are_sound(path, tmp_path):
    different = {str((job.script, job.options)): job for job in read_matrix(path).jobs}
    assert different
    check_jobs(different.values(), tmp_path)


@pytest.mark.parametrize("path", FULL, ids=lambda path: path.name)
def test_each_table_has_a_demo_variant_of_its_runs(path, tmp_path):
    matrix, demo = read_matrix(path), read_matrix(path.parent / "demo" / f"{path.stem}_demo.yaml")
    scripts = [{job.script for job in one.jobs} for one in (matrix, demo)]
    assert scripts[0] - {"eval"} == scripts[1] - {"eval"} and matrix.name != demo.name
    assert {job.options["dataset_name"] for job in demo.jobs if job.script in ("train", "eval")} == {"synthetic_city"}
    assert all("seed" in job.options for job in matrix.jobs if job.script == "train"), "seeds make mean and deviation"
    check_jobs(matrix.jobs[:: max(1, len(matrix.jobs) // 8)], tmp_path)


def test_the_demo_that_is_tested_again_is_the_demo(tmp_path):
    path = BENCHMARKS / "demo_eval.yaml"
    content = yaml.safe_load(path.read_text())
    campaigns.check_options(Job("again", "eval", "eval-1", {}), path)
    logs, folder, matrix, run, *rest = Path(content["resume"]).parts
    assert run in read_matrix(BENCHMARKS / f"{matrix}.yaml").runs
    assert rest == ["train", "best_model.pth"] and (logs, folder) == ("logs", "benchmarks")


OWN_RERANKER = """
class Nearest:
    def __init__(self, topk: int = 5) -> None:
        self.topk = topk
    def __call__(self, predictions, context):
        return predictions
"""
# What a matrix names, and a keyword of its class.
KEYWORDS = [
    ("eval", {"rerank": ["my_nearest:Nearest"]}, "topk", 3),
    ("eval", {"backbone": "dinov2_vits14", "aggregation": "salad"}, "num_clusters", 8),
    ("train", {"train_mode": "places", "loss": "TripletMargin"}, "margin", 0.2),
    ("train", {"optim": "adamw"}, "eps", 1e-6),
]


@pytest.mark.parametrize(("script", "options", "name", "value"), KEYWORDS, ids=lambda one: str(one))
def test_keywords_of_parts_are_a_mapping_checked_before_the_first_run(
    script, options, name, value, tmp_path, monkeypatch
):
    (tmp_path / "my_nearest.py").write_text(OWN_RERANKER)
    monkeypatch.syspath_prepend(str(tmp_path))
    option = f"{list(options)[-1]}_args"

    def checked(keywords):
        run = {**options, option: keywords}
        path, config = tmp_path / "m.yaml", tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump([{"name": "a", script: run if script == "train" else [run]}]))
        [job] = read_matrix(path).jobs
        config.write_text(yaml.safe_dump(job.options))
        campaigns.check_options(job, config)
        return job

    as_mapping, as_list = checked({name: value}), checked([f"{name}={value}"])
    assert as_mapping.options[option] == [f"{name}={value}"] and as_mapping.digest == as_list.digest
    with pytest.raises(UserError, match=rf"--{option} {name}s={value}: .*Did you mean {name}\?"):
        checked({f"{name}s": value})
    with pytest.raises(UserError, match=rf"--{option} {name}=high: .*another type"):
        checked({name: "high"})
    with pytest.raises(UserError, match=f"{option}: expected a word, a number or a list"):
        checked({name: {"of": 1}})


@pytest.mark.parametrize("script", ["train.py", "eval.py", "benchmark.py"])
def test_scripts_are_short(script):
    assert len((REPOSITORY / script).read_text().splitlines()) < 100


def test_a_cluster_that_cannot_be_used_is_one_line(run, monkeypatch, tmp_path):
    (tmp_path / "slurm.yaml").write_text("partiton: gpu")
    pytest.importorskip("submitit")
    plain = benchmark.main
    monkeypatch.setattr(benchmark, "main", lambda: plain([*sys.argv[1:], "--slurm", str(tmp_path / "slurm.yaml")]))
    status, _, err = run([{"name": "a", "train": {}}])
    assert status == 2 and "partiton is not known" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "variable", "threads", "cluster"),
    [
        ("", None, None, {}),
        ("--jobs 4", None, 2, {}),
        ("--jobs 16", None, 1, {}),
        ("--jobs 4", "3", None, {}),
        ("--jobs 4 --threads 5", "3", 5, {}),
        ("--slurm FILE", None, 6, {"cpus_per_task": 6}),
        ("--slurm FILE --threads 5 --jobs 4", None, 5, {"cpus_per_task": 6, "at_a_time": 4}),
        ("--slurm EMPTY", None, 1, {}),
        ("--slurm EMPTY --threads 5", None, 5, {"cpus_per_task": 5}),
        ("--ray --jobs 4", None, 1, {"cpus": 1, "at_a_time": 4}),
        ("--ray --threads 5", None, 5, {"cpus": 5}),
    ],
)
def test_a_jobs_threads_are_decided_where_it_is_started(words, variable, threads, cluster, tmp_path, monkeypatch):
    """By the command's options, and not by whichever machine happens to run it."""
    given: dict[str, object] = {}
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr("vgbench.benchmark.ray_tasks.RayExecutor", lambda address, **more: given.update(more))
    monkeypatch.setattr("vgbench.benchmark.slurm.SlurmExecutor", lambda _, of, **more: given.update(of, **more))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    for name, text in {"FILE": "cpus_per_task: 6", "EMPTY": "slurm_time: 60", "m": "- {name: a, train: {}}"}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    typed = benchmark._parser().parse_args(["m", *words.split()])
    campaign = campaigns.campaign_of(read_matrix(typed.matrix), typed)
    assert campaign.threads == threads and cluster.items() <= given.items()
    [job] = campaign.matrix.jobs
    expected = variable if threads is None else str(threads)
    assert campaign._call(job).environment.get("OMP_NUM_THREADS") == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--baseline", "gemm"], "--baseline gemm: no run has this name. Did you mean gem?"),
        (["--slurm", "slurm.yaml"], "--slurm: there is no srun here"),
        (["--ray", "127.0.0.1:1"], "--ray 127.0.0.1:1: no cluster answers there"),
    ],
)
def test_what_would_fail_later_is_said_before_anything_runs(run, words, message, tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    pytest.importorskip("ray")
    (tmp_path / "slurm.yaml").write_text("slurm_partition: gpu")
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.chdir(tmp_path)
    plain = benchmark.main
    monkeypatch.setattr(benchmark, "main", lambda: plain([*sys.argv[1:], *words]))
    status, _, err = run([{"name": "gem", "train": {}}])
    assert status == 2 and message in err and err.count("\n") == 1
    assert not (tmp_path / "program" / "calls.jsonl").exists()


def test_the_data_of_a_test_are_those_that_it_asks_for(tmp_path, pristine_dataset):
    """Its split and its folders of queries, and no coordinates where the truth needs none."""
    root = shutil.copytree(pristine_dataset, tmp_path / "sets" / "toy")
    (root / "images/val/queries").rename(root / "images/val/queries_740")
    here = {"datasets_folder": str(root.parent), "dataset_name": "toy"}

    def check(**options):
        config = tmp_path / f"{len(options)}.yaml"
        config.write_text(yaml.safe_dump(here | options))
        CHECK_DATA(Job("one", "eval", "eval-1", here | options), config)

    check(split="val", queries_folder=["queries_740"])
    with pytest.raises(UserError, match=r"images/val/queries: no such folder of queries\. There are: queries_740"):
        check(split="val")
    for number, path in enumerate(sorted((root / "images/test/queries").iterdir())):
        path.rename(path.with_name(f"{number}.jpg"))
    check(split="test", frame_tolerance=1, queries_folder=["queries"])
