"""YAML files, matrices, files of options and command lines."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

from fuzzing import NUMBERS, WORDS, file_of, target
from hypothesis import strategies as st

_YAML_PIECES = st.sampled_from(
    (
        "runs",
        "name",
        "train",
        "eval",
        "grid",
        "over",
        "extends",
        "variables",
        "seeds",
        "of",
        "defaults",
        "all",
        "tests",
        "published",
        "exclude",
        "include",
        "checkpoint",
        "ensemble",
        "x.yaml",
        "train.aggregation",
        "$a",
        "${a}",
        "&a",
        "*a",
        "<<",
        "!!python/object:os.system",
        "!!binary",
        "2020-01-01",
        "0x1F",
        "1:30",
        ".inf",
        "~",
        "? ",
        "- ",
        ": ",
        ", ",
        "{",
        "}",
        "[",
        "]",
        "\n",
        "\n  ",
        "\n    ",
        "'",
        '"',
        "|",
        ">",
        "#",
        "---\n",
        "%TAG",
        "!!set",
        "!!timestamp",
        "!!float",
        "!!int",
        "!!bool",
        "_",
        "-",
        "0b",
        "0o",
        "+",
        "!!omap",
        "!!pairs",
        "!!null",
    )
)
_YAML = st.lists(st.one_of(_YAML_PIECES, NUMBERS), max_size=25).map("".join)
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(("gem", "x", "a b", "$a", "${a}", "all", "")),
    WORDS,
    st.dates(),
)
_OPTION_NAMES = st.sampled_from(
    (
        "dataset_name",
        "aggregation",
        "loss",
        "seed",
        "epochs_num",
        "resize",
        "margin",
        "amp",
        "config",
        "recall_values",
        "loss_args",
        "backbone",
        "runs",
        "name",
        "help",
        "device",
    )
)
_KEYS = st.one_of(_OPTION_NAMES, WORDS, st.integers(), st.none(), st.booleans(), st.floats(), st.dates())
TREES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=3)),
    max_leaves=8,
)
_AXES = st.dictionaries(
    st.sampled_from(("train.aggregation", "train.loss", "eval.resize", "train.seed", "soup.x", "x")),
    st.one_of(st.lists(_LEAVES, max_size=3), TREES),
    max_size=3,
)


def _mapping(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({}, optional=optional)


_OPTIONS = st.one_of(st.dictionaries(_OPTION_NAMES, _LEAVES, max_size=3), TREES)
_RUN = _mapping(
    name=st.one_of(st.sampled_from(("a", "b")), _LEAVES),
    train=_OPTIONS,
    eval=st.one_of(st.lists(_OPTIONS, max_size=2), _OPTIONS),
    of=_LEAVES,
    seeds=TREES,
    checkpoint=_LEAVES,
    ensemble=_OPTIONS,
    soup=_OPTIONS,
    whiten=_OPTIONS,
    gpus=_LEAVES,
)
_GRID = _mapping(name=_LEAVES, over=_AXES, exclude=TREES, include=TREES, seeds=TREES, train=_OPTIONS, eval=_OPTIONS)
_MATRICES = _mapping(
    runs=st.one_of(st.lists(_RUN, max_size=3), TREES),
    grid=st.one_of(_GRID, st.lists(_GRID, max_size=2), TREES),
    variables=st.one_of(st.dictionaries(st.just("a"), _LEAVES), TREES),
    defaults=TREES,
    tests=TREES,
    published=TREES,
    extends=st.one_of(st.sampled_from(("matrix.yaml", "base.yaml", ".", "/dev/null", "a\0b")), TREES),
)


def _dumped(value: Any) -> str:
    import yaml

    return yaml.safe_dump(value, allow_unicode=True)


@target(st.one_of(_YAML.map(str.encode), st.binary(max_size=60), TREES.map(_dumped).map(str.encode)))
def yaml_files(value: bytes, folder: Path) -> None:
    from vgbench.plain_yaml import read_yaml

    read_yaml(file_of(folder, "x.yaml", value))


@target(st.one_of(_MATRICES, TREES).map(_dumped) | _YAML)
def matrices(value: str, folder: Path) -> None:
    from vgbench.benchmark.matrix import read_matrix

    file_of(folder, "base.yaml", b"runs: [{name: a, train: {dataset_name: x}}]\ngrid: {over: {train.seed: [1]}}")
    matrix = read_matrix(file_of(folder, "matrix.yaml", value.encode("utf-8", "replace")))
    for job in matrix.jobs:
        assert job.digest and (folder / job.folder).resolve().is_relative_to(folder), job.folder


@target(st.one_of(_OPTIONS, TREES).map(_dumped) | _YAML, share=0.5)
def configs(value: str, folder: Path) -> None:
    _settings_of("eval", ["--config", str(file_of(folder, "x.yaml", value.encode("utf-8", "replace")))])
    _settings_of("train", ["--config", str(folder / "x.yaml")])


def _settings_of(name: str, words: list[str]) -> None:
    from vgbench.cli.parser import read_command_line
    from vgbench.runs.choosing import eval_settings, train_settings
    from vgbench.runs.settings import EvalSettings, TrainSettings

    if name == "train":
        train_settings(read_command_line(TrainSettings, "", words))
    else:
        eval_settings(read_command_line(EvalSettings, "", words))


def _flags() -> list[str]:
    import dataclasses
    import typing

    from vgbench.runs.settings import EvalSettings, TrainSettings

    names: set[str] = set()
    for kind in (TrainSettings, EvalSettings):
        for group in typing.get_type_hints(kind).values():
            if dataclasses.is_dataclass(group):
                names |= {field.name for field in dataclasses.fields(group)}
    assert len(names) > 50
    return sorted(names)


_VALUES = st.one_of(
    WORDS,
    st.sampled_from(
        ("gem", "netvlad", "resnet18conv4", "tiny", "cpu", "bfloat16", "local", "0.5", "a=b", "/dev/null", "x" * 300)
    ),
)
_OPTION = st.tuples(st.deferred(lambda: st.sampled_from(_flags())), st.lists(_VALUES, max_size=2), st.booleans()).map(
    lambda t: [f"--{t[0]}={t[1][0]}"] if t[2] and t[1] else [f"--{t[0]}", *t[1]]
)
_LINES = st.lists(st.one_of(_OPTION, _OPTION, WORDS.map(lambda w: [w])), max_size=4).map(
    lambda parts: [word for part in parts for word in part]
)


@target(st.tuples(st.sampled_from(("train", "eval")), _LINES))
def command_lines(value: tuple[str, list[str]], folder: Path) -> None:
    with contextlib.chdir(folder) if hasattr(contextlib, "chdir") else contextlib.nullcontext():
        _settings_of(value[0], [*value[1], "--dataset_name=none"])


@target(
    st.tuples(
        st.sampled_from(("benchmark", "combine", "leaderboard", "describe", "export", "nothing", "")),
        st.lists(
            st.one_of(
                WORDS,
                st.sampled_from(
                    (
                        "soup",
                        "whiten",
                        "ensemble",
                        "--list",
                        "--table",
                        "--jobs=0",
                        "--values",
                        "--only",
                        "--checkpoints",
                        "--resume=x",
                        "--help",
                        "--output=y",
                        "--format=onnx",
                        "-h",
                        "--folder",
                        "/dev/null",
                    )
                ),
            ),
            max_size=4,
        ),
    ),
    share=0.5,
)
def other_commands(value: tuple[str, list[str]], folder: Path) -> None:
    from vgbench.cli.main import main

    with contextlib.chdir(folder) if hasattr(contextlib, "chdir") else contextlib.nullcontext():
        error = io.StringIO()
        with contextlib.redirect_stderr(error):
            status = main([value[0], *value[1]])
        assert status in (0, 2), f"status {status}"
        assert status == 0 or error.getvalue().startswith(("error: ", "usage")), error.getvalue()[:100]
