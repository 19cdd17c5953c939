from pathlib import Path

import pytest
import yaml
from locations import REPOSITORY

from vgbench.benchmark.matrix import read_matrix
from vgbench.errors import UserError


@pytest.fixture
def read(tmp_path):
    def read_content(content, name="some.yaml"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
        return read_matrix(path)

    return read_content


def test_defaults_and_own_options_are_joined(read, tmp_path):
    (tmp_path / "other.pth").write_bytes(b"weights")
    matrix = read(
        {
            "defaults": {"all": {"resize": [48, 64], "seed": 1}, "train": {"seed": 2}, "eval": {"seed": 3}},
            "runs": [
                {"name": "gem", "train": {"aggregation": "gem"}, "eval": [{"dataset_name": "a"}, {"seed": 4}]},
                {"name": "other", "checkpoint": str(tmp_path / "other.pth"), "eval": [None]},
            ],
            "published": ["resnet18-gem"],
        }
    )
    assert matrix.name == "some" and matrix.runs == ["gem", "other"]
    assert [(job.run, job.script, job.name, job.options) for job in matrix.jobs] == [
        ("gem", "train", "train", {"resize": [48, 64], "seed": 2, "aggregation": "gem"}),
        ("gem", "eval", "eval-1", {"resize": [48, 64], "seed": 3, "dataset_name": "a"}),
        ("gem", "eval", "eval-2", {"resize": [48, 64], "seed": 4}),
        ("other", "eval", "eval-1", {"resize": [48, 64], "seed": 3}),
    ]
    assert [job.checkpoint for job in matrix.jobs] == [None, None, None, tmp_path / "other.pth"]
    assert {one["dataset"] for one in matrix.published} == {"pitts30k", "msls"}


def test_a_bare_list_is_a_matrix(read):
    assert read([{"name": "a", "train": None}]).runs == ["a"]


def test_options_on_every_test(read):
    matrix = read(
        {
            "tests": [{"dataset_name": "x"}, {"dataset_name": "y", "resize": [2, 3]}],
            "runs": [ONE, {"name": "b", "of": "a", "eval": {"resize": [4, 5]}}, {"name": "c", "of": "b", "eval": {}}],
        }
    )
    assert [job.options for job in matrix.jobs[1:]] == [
        {"dataset_name": "x", "resize": [4, 5]},
        {"dataset_name": "y", "resize": [4, 5]},
        {"dataset_name": "x"},
        {"dataset_name": "y", "resize": [2, 3]},
    ]
    assert {job.makers for job in matrix.jobs[1:]} == {("a/train",)}
    assert {job.after for job in matrix.jobs[1:]} == {matrix.jobs[0].digest}


def test_a_training_that_begins_with_the_network_of_another(read, tmp_path):
    weights = tmp_path / "w.pth"
    weights.touch()
    elsewhere = {"name": "w", "checkpoint": str(weights), "eval": [{}]}
    runs = [ONE, {"name": "on", "start_from": "a", "train": {"lr": 1}}, elsewhere]
    matrix = read([*runs, {"name": "on w", "start_from": "w", "train": {}}])
    jobs = {job.run: job for job in matrix.jobs}
    assert jobs["on"].makers == ("a/train",) and jobs["on"].options == {"lr": 1}
    assert jobs["on"].after == jobs["a"].digest and jobs["on w"].options == {"start_from": str(weights)}
    soup = [{"name": "b", "train": {}}, {"name": "s", "soup": {"runs": ["a", "b"]}}]
    soup.append({"name": "of s", "start_from": "s", "train": {}})
    assert [job.run for job in read([*runs, *soup]).dry().jobs] == ["a", "on", "b"], "no soup is made in a dry run"
    with pytest.raises(UserError, match="Expected `train:` beside it"):
        read([ONE, {"name": "b", "start_from": "a", "eval": [{}]}])


def test_a_training_that_learns_from_the_network_of_another(read, tmp_path):
    weights = tmp_path / "w.pth"
    weights.touch()
    elsewhere = {"name": "w", "checkpoint": str(weights), "eval": [{}]}
    runs = [ONE, {"name": "b", "train": {"lr": 1}}, elsewhere]
    runs += [
        {"name": "taught", "distill_from": "a", "train": {"lr": 1}},
        {"name": "begun", "start_from": "a", "train": {"lr": 1}},
        {"name": "both", "start_from": "b", "distill_from": "a", "train": {}},
        {"name": "itself", "start_from": "a", "distill_from": "a", "train": {}},
        {"name": "of file", "start_from": "b", "distill_from": "w", "train": {}},
    ]
    jobs = {job.run: job for job in read(runs).jobs}
    assert jobs["taught"].makers == ("a/train",) and jobs["taught"].taught
    assert jobs["taught"].digest != jobs["begun"].digest and not jobs["begun"].taught
    assert jobs["both"].makers == ("b/train", "a/train") and jobs["itself"].makers == ("a/train", "a/train")
    assert jobs["of file"].makers == ("b/train",) and not jobs["of file"].taught
    assert jobs["of file"].options == {"distill_from": str(weights)}
    with pytest.raises(UserError, match=r"distill_from: is of a training. Expected `train:` beside it"):
        read([ONE, {"name": "b", "distill_from": "a", "eval": [{}]}])
    with pytest.raises(UserError, match="distill_from: no run above with a network is named c"):
        read([ONE, {"name": "b", "distill_from": "c", "train": {}}])


def test_what_combining_knows_of_the_defaults_reaches_it(read):
    matrix = read(
        {
            "defaults": {"all": {"datasets_folder": "d", "resize": [2, 3], "seed": 4}},
            "runs": [ONE, {"name": "b", "train": {}}, {"name": "c", "soup": {"runs": ["a", "b"], "soup": "greedy"}},
                     {"name": "d", "ensemble": {"runs": ["a", "c"]}},
                     {"name": "e", "whiten": {"runs": ["b"], "dim": 5}}],
        }
    )  # fmt: skip
    found = {job.run: job.options for job in matrix.jobs if job.script in ("soup", "ensemble", "whiten")}
    assert found["c"] == {"datasets_folder": "d", "resize": [2, 3], "soup": "greedy"}
    assert found["d"] == {"resize": [2, 3]}
    assert found["e"] == {"datasets_folder": "d", "resize": [2, 3], "dim": 5}
    assert matrix.jobs[-1].makers == ("b/train",)


def test_the_example_of_the_documentation_is_a_matrix(tmp_path, monkeypatch):
    page = (REPOSITORY / "docs" / "benchmarks.md").read_text()
    (tmp_path / "somewhere").mkdir()
    (tmp_path / "somewhere" / "best_model.pth").touch()
    monkeypatch.chdir(tmp_path)
    Path("example.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
    assert len(read_matrix(Path("example.yaml")).runs) == 7


def test_the_digest_follows_what_is_computed(read, tmp_path):
    def digests(train, evaluation):
        return [job.digest for job in read([{"name": "a", "train": train, "eval": [evaluation]}]).jobs]

    base = digests({"lr": 1, "seed": 0}, {"x": 1})
    assert digests({"seed": 0, "lr": 1}, {"x": 1}) == base
    other_eval = digests({"lr": 1, "seed": 0}, {"x": 2})
    assert other_eval[0] == base[0] and other_eval[1] != base[1]
    other_train = digests({"lr": 2, "seed": 0}, {"x": 1})
    assert other_train[0] != base[0] and other_train[1] != base[1]
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"1")
    matrix = read([{"name": "a", "checkpoint": str(weights), "eval": [{}]}])
    before = matrix.jobs[0].digest
    weights.write_bytes(b"22")
    assert matrix.jobs[0].digest != before


ONE = {"name": "a", "train": {}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("runs: [", "some.yaml: cannot be read as YAML"),
        ("just words", "expected `defaults | published | runs | tests: ...`, found str"),
        ({}, "runs is missing"),
        ({"runs": []}, "runs: expected a list of at least one"),
        ({"runs": {"a": 1}}, "runs: expected a list"),
        ({"runs": [ONE], "run": 1}, "run is not known. Expected defaults, published, runs, tests"),
        ({"runs": [ONE], "defaults": {"both": {}}}, "defaults: both is not known"),
        ({"runs": [ONE], "defaults": [1]}, "defaults: expected"),
        (["gem"], "run 1: expected"),
        ([ONE, {"train": {}}], "run 2: name is missing"),
        ([{"name": "../up", "train": {}}], "name '../up' cannot name a folder"),
        ([{"name": "a"}], "run 1 (a): neither `train:` nor `eval:`"),
        (
            [{"name": "a", "train": {}, "checkpoint": "x"}],
            "run 1 (a): found train and checkpoint. Expected at most one of train, checkpoint, of, ensemble, soup, "
            "whiten",
        ),
        ([{"name": "a", "of": "b", "eval": [{}]}], "run 1 (a): no run above with a network is named b"),
        ([ONE, {"name": "b", "of": "c", "eval": [{}]}], "named c. Expected one of a"),
        ([ONE, {"name": "b", "eval": [{}]}, {"name": "c", "of": "b", "eval": [{}]}], "named b. Expected one of a"),
        ([ONE, {"name": "b", "of": "a"}], "run 2 (b): neither"),
        ([ONE, {"name": "b", "ensemble": {"runs": ["a"]}}], "run 2 (b): ensemble: expected `runs: [<run above>"),
        (
            [ONE, {"name": "b", "whiten": {"runs": ["a", "a"]}}],
            "run 2 (b): whiten: expected `runs: [<run above>]`, just one",
        ),
        ([ONE, {"name": "b", "ensemble": ["a"]}], "ensemble: expected `option: value`, found list"),
        ([ONE, {"name": "b", "soup": {"runs": ["a", "x"]}}], "run 2 (b): soup: no run above with a network is named x"),
        ([ONE, {"name": "b", "soup": {"runs": ["a", "a"], "output": "x"}}], "output is set by the benchmark itself"),
        ([{"name": "a", "checkpoint": "no/such.pth", "eval": [{}]}], "checkpoint no/such.pth: no such file"),
        ([{"name": "a", "train": {}, "eval": {"dataset_name": "x"}}], "eval: there are no `tests:`. Expected them, or"),
        ([{"name": "a", "train": {}, "eval": 3}], "eval: expected `option: value`, found int"),
        ({"runs": [ONE], "tests": {"dataset_name": "x"}}, "tests: expected a list"),
        ({"runs": [ONE], "tests": ["x"]}, "test 1: expected `option: value`, found str"),
        ([{"name": "a", "train": {}, "eval": ["x"]}], "eval 1: expected `option: value`, found str"),
        ([{"name": "a", "train": {"--lr": 1}}], "'--lr' is no option name"),
        ([{"name": "a", "train": {"resume": "x"}}], "resume is set by the benchmark itself"),
        ([{"name": "a", "train": {"lr": {"x": 1}}}], "lr: expected a word, a number or a list"),
        ([ONE, {"name": "A", "train": {}}], "there more than once"),
        ({"runs": [ONE], "published": ["resnet19"]}, "no numbers of resnet19"),
        ({"runs": [ONE], "published": 3}, "published: expected `all` or a list"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(read, content, message):
    with pytest.raises(UserError) as caught:
        read(content)
    assert message in str(caught.value) and "some.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_no_file():
    with pytest.raises(UserError, match=r"absent\.yaml: cannot be read as YAML \(No such file"):
        read_matrix(Path("absent.yaml"))


def test_a_checkpoint_without_eval_is_nothing_to_do(read, tmp_path):
    (tmp_path / "w.pth").write_bytes(b"")
    with pytest.raises(UserError, match="nothing to do"):
        read([{"name": "a", "checkpoint": str(tmp_path / "w.pth")}])
