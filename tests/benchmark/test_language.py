from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vgbench.benchmark.language import expand
from vgbench.benchmark.matrix import read_matrix
from vgbench.errors import UserError


@pytest.fixture
def expanded(tmp_path):
    def of(content, **others):
        for name, text in others.items():
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(text, sort_keys=False))
        path = tmp_path / "m.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return expand(path, lambda one: yaml.safe_load(one.read_text()))

    return of


def names(content):
    return [run["name"] for run in content["runs"]]


def test_a_grid_is_every_combination_in_order(expanded):
    over = {"train.aggregation": ["gem", "netvlad"], "train.lr": [0.1, 0.01], "eval.scales": [[1], [1, 0.5]]}
    found = expanded({"grid": {"over": over, "train": {"epochs_num": 2}, "eval": {}}})
    assert names(found) == [
        f"{a} {lr} {s}" for a in ("gem", "netvlad") for lr in ("0.1", "0.01") for s in ("1", "1x0.5")
    ]
    first, second = found["runs"][:2]
    assert first["train"] == {"epochs_num": 2, "aggregation": "gem", "lr": 0.1} and first["eval"] == {"scales": [1]}
    # What is trained alike is trained once.
    assert second == {"name": "gem 0.1 1x0.5", "of": "gem 0.1 1", "eval": {"scales": [1, 0.5]}}
    assert sum("train" in run for run in found["runs"]) == 4


def test_a_label_stands_for_options(expanded):
    axis = {"ms": {"loss": "MultiSimilarity", "miner": "MultiSimilarity"}, "circle": {"loss": "Circle"}}
    found = expanded(
        {"grid": {"name": "{aggregation}+{loss}", "over": {"train.aggregation": ["gem"], "train.loss": axis}}}
    )
    assert names(found) == ["gem+ms", "gem+circle"]
    assert found["runs"][0]["train"] == {"aggregation": "gem", "loss": "MultiSimilarity", "miner": "MultiSimilarity"}


def test_exclude_and_include(expanded):
    grid = {
        "over": {"train.aggregation": ["gem", "netvlad"], "train.optim": ["adam", "sgd"]},
        "exclude": [{"aggregation": "netvlad", "optim": "sgd"}],
        "include": [{"aggregation": "cosplace", "optim": "adam"}],
    }
    found = expanded({"grid": grid})
    assert names(found) == ["gem adam", "gem sgd", "netvlad adam", "cosplace adam"]
    assert found["runs"][-1]["train"] == {"aggregation": "cosplace", "optim": "adam"}


def test_an_axis_of_a_combination(expanded):
    runs = [{"name": "a", "train": {}}, {"name": "b", "train": {}}]
    grid = {"over": {"ensemble.combine": ["concat", "mean"]}, "ensemble": {"runs": ["a", "b"]}, "eval": {}}
    found = expanded({"runs": runs, "grid": grid})
    assert found["runs"][-1] == {"name": "mean", "ensemble": {"runs": ["a", "b"], "combine": "mean"}, "eval": {}}


def test_seeds_go_down_to_what_takes_them(expanded):
    runs = [
        {"name": "gem", "train": {"lr": 1}, "seeds": [3, 4]},
        {"name": "plain", "train": {}},
        {"name": "scaled", "of": "gem", "eval": {}},
        {"name": "both", "ensemble": {"runs": ["gem", "plain"]}},
        {"name": "untrained", "eval": [{"a": 1}], "seeds": [0]},
    ]
    found = {run["name"]: run for run in expanded({"runs": runs})["runs"]}
    assert found["gem seed=3"] == {"name": "gem seed=3", "row": "gem", "seed": 3, "train": {"lr": 1, "seed": 3}}
    assert found["scaled seed=4"]["of"] == "gem seed=4" and found["scaled seed=4"]["row"] == "scaled"
    assert found["both seed=4"]["ensemble"]["runs"] == ["gem seed=4", "plain"]
    assert found["untrained seed=0"]["eval"] == [{"a": 1, "seed": 0}]
    assert len(found) == 2 + 1 + 2 + 2 + 1


def test_the_expanded_file_is_a_matrix(tmp_path):
    grid = {"over": {"train.aggregation": ["gem", "netvlad"]}, "seeds": [0, 1], "eval": {}}
    (tmp_path / "m.yaml").write_text(yaml.safe_dump({"grid": grid, "tests": [{"dataset_name": "x"}]}))
    matrix = read_matrix(tmp_path / "m.yaml")
    assert matrix.rows == ["gem", "netvlad"] and matrix.runs[0] == "gem seed=0" and len(matrix.jobs) == 8
    assert {job.options["seed"] for job in matrix.jobs if job.script == "train"} == {0, 1}


def test_variables(expanded):
    content = {
        "variables": {"size": [320, 320], "town": "york"},
        "defaults": {"all": {"resize": "$size", "dataset_name": "${town}_small"}},
        "runs": [{"name": "in ${town}", "train": {}}],
    }
    found = expanded(content)
    assert found["defaults"]["all"] == {"resize": [320, 320], "dataset_name": "york_small"}
    assert names(found) == ["in york"] and "variables" not in found


def test_a_variable_names_those_above_it(expanded):
    content = {"variables": {"town": "york", "place": {"in": {"folder": "${town}/x"}}}}
    found = expanded({**content, "grid": {"over": {"train.place": "$place"}}})
    assert found["runs"] == [{"name": "in", "train": {"folder": "york/x"}}]
    with pytest.raises(UserError, match="no such variable"):
        expanded({"variables": {"a": "$b", "b": 1}, "runs": [{"name": "a", "train": {}}]})


def test_a_file_on_top_of_another(expanded):
    base = {
        "defaults": {"all": {"resize": [1, 1], "device": "cpu"}},
        "variables": {"lr": 1},
        "runs": [{"name": "a", "train": {"lr": "$lr"}}, {"name": "b", "train": {}}],
    }
    own = {
        "extends": "base.yaml",
        "variables": {"lr": 2},
        "defaults": {"all": {"resize": [2, 2]}},
        "runs": [{"name": "c", "train": {}}, {"name": "b", "train": {"lr": 7}}],
    }
    found = expanded(own, base=base)
    assert names(found) == ["a", "b", "c"]
    assert found["runs"][0]["train"] == {"lr": 2} and found["runs"][1]["train"] == {"lr": 7}
    assert found["defaults"]["all"] == {"resize": [2, 2], "device": "cpu"}


def test_a_file_on_top_of_several_the_later_ones_win(expanded):
    table = {"variables": {"lr": 1, "layers": {"a": {}, "b": {}}}, "runs": [{"name": "a", "train": {"lr": "$lr"}}]}
    small = {"variables": {"lr": 2}, "defaults": {"all": {"device": "cpu"}}}
    own = {"extends": ["table.yaml", "small.yaml"], "variables": {"layers": {"c": {"cut": 2}}}}
    own["grid"] = {"over": {"train.layers": "$layers"}}
    found = expanded(own, table=table, small=small)
    # A variable is one value: what it held before is gone, where it is a mapping too.
    assert names(found) == ["a", "c"] and found["runs"][0]["train"] == {"lr": 2}
    assert found["runs"][1]["train"] == {"cut": 2} and found["defaults"] == {"all": {"device": "cpu"}}


def test_a_training_that_begins_with_a_network_of_seeds_has_its_seeds(expanded):
    grid = {"over": {"train.lr": [1, 2], "eval.scales": [[1], [2]]}, "start_from": "gem", "eval": {}}
    runs = [{"name": "gem", "train": {}, "seeds": [3, 4]}]
    found = {run["name"]: run for run in expanded({"runs": runs, "grid": grid})["runs"]}
    first = found["1 1 seed=4"]
    assert (first["start_from"], first["row"], first["train"]) == ("gem seed=4", "1 1", {"lr": 1, "seed": 4})
    assert found["1 2 seed=4"]["of"] == "1 1 seed=4" and "start_from" not in found["1 2 seed=4"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"runs": [{"name": "a", "train": {"lr": "$rate"}}], "variables": {"rates": 1}}, "Did you mean rates?"),
        ({"grid": {"over": {"aggregation": ["gem"]}}}, "is no axis"),
        ({"grid": {"over": {"train.lr": 1}}}, "expected a list of values"),
        ({"grid": {"over": {"train.lr": {"small": 1}}}}, "label: {option: value}"),
        ({"grid": {"train": {}}}, "expected `over:"),
        ({"grid": {"over": {"train.lr": [1]}, "exclude": [{"lrr": 1}]}}, "Did you mean lr?"),
        ({"grid": {"over": {"train.lr": [1]}, "exclude": [{"lr": 1}]}}, "leaves no combination"),
        ({"grid": {"over": {"train.lr": [1], "train.l2": [2]}, "include": [{"lr": 1}]}}, "l2 is missing"),
        ({"grid": {"over": {"train.lr": [1]}, "name": "{rate}"}}, "cannot be filled"),
        ({"grid": {"over": {f"train.o{n}": list(range(100)) for n in range(4)}}}, "combinations"),
        ({"runs": [{"name": "a", "train": {}, "seeds": [1, 1]}]}, "different whole numbers"),
        ({"runs": [{"name": "a", "train": {}, "seeds": 3}]}, "different whole numbers"),
        (
            {"runs": [{"name": "a", "train": {}, "seeds": [1]}, {"name": "b", "of": "a", "seeds": [2], "eval": {}}]},
            "has seeds already",
        ),
        ({"extends": "m.yaml", "runs": []}, "extends itself"),
        ({"extends": [1], "runs": []}, "extends: expected the name of a YAML file, or a list"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(expanded, content, said):
    with pytest.raises(UserError) as error:
        expanded(content)
    assert said in str(error.value) and "m.yaml" in str(error.value) and "\n" not in str(error.value)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.lists(st.integers(0, 9), unique=True, max_size=3))
def test_the_number_of_runs(sizes, seeds):
    """As many as the axes' product, times the seeds; names differ."""
    over = {f"train.option{axis}": list(range(size)) for axis, size in enumerate(sizes)}
    block = {"over": over, "train": {}} | ({"seeds": seeds} if seeds else {})
    found = expand(Path("m.yaml"), lambda _: {"grid": block})
    count = len(seeds) or 1
    for size in sizes:
        count *= size
    assert len(set(names(found))) == len(found["runs"]) == count
