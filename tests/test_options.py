"""Declarations: what stands beside an option is what is checked, and all that is checked."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vgbench.combine.options import EnsembleOptions, OutputOptions, SoupOptions
from vgbench.data.options import DataOptions
from vgbench.errors import UserError
from vgbench.flags import build_options
from vgbench.models.aggregation import AGGREGATIONS
from vgbench.models.aggregation.options import AggregationOptions
from vgbench.options import (
    ARGUMENTS_OF,
    CHOICES,
    DISTINCT,
    NEEDS,
    RISING,
    UNSET,
    Mark,
    OptionError,
    Options,
    above,
    arguments,
    at_least,
    between,
    changed_options,
    check_needs,
    marked,
    option,
    table_of,
)
from vgbench.runs.settings import EvalSettings, TrainSettings, groups_of


@dataclass(frozen=True)
class HeadOptions(Options, needs="head=mine"):
    sharpness: float = option(1.0, "how sharp", range=above(0))
    parts: int | None = option(None, "how many", range=at_least(2), unset="all")


@dataclass(frozen=True)
class AllOptions(HeadOptions):
    head: str = option("none", "the head")
    fraction: float = option(0.5, "a part", range=between(0, 1))
    steps: tuple[int, ...] | None = option(None, "where", range=at_least(1), together=RISING)
    scales: tuple[float, ...] = option((1.0,), "how large", range=above(0, at_most=4), together=DISTINCT)
    mode: str = option("a", "which", choices=("a", "bee"))
    file: Path | None = option(
        None, "a file", needs="head=mine or mode=bee", without="--file {value}: nothing reads it"
    )


def test_a_float_option_works_by_its_declaration_alone() -> None:
    assert build_options(AllOptions, {"sharpness": "2.5"}).sharpness == 2.5
    for value in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(OptionError, match=rf"--sharpness {value}: out of range. Expected a number above 0"):
            AllOptions(sharpness=value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": 1}, "--parts 1: too small. Expected a whole number of at least 2"),
        ({"fraction": 1.5}, "--fraction 1.5: out of range. Expected a number from 0 to 1"),
        ({"steps": (3, 2)}, "--steps 3 2: out of order. Expected each above the one before"),
        ({"steps": ()}, "--steps: no values"),
        ({"scales": (1.0, 5.0)}, "--scales 1.0 5.0: out of range. Expected a number above 0, at most 4"),
        ({"scales": (1.0, 1.0)}, "--scales 1.0 1.0: out of order. Expected each of them once"),
        ({"mode": "be"}, "--mode be: not known. Did you mean bee. Expected one of a, bee"),
        ({"file": Path("x")}, "--file x: nothing reads it. Expected --head mine or --mode bee beside it; leave it out"),
        ({"parts": 10**30}, "--parts 1000000.*: too large"),
        ({"fraction": "much"}, "--fraction much: not a number"),
    ],
)
def test_what_is_declared_is_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message.replace("bee.", r"bee\?")) as caught:
        AllOptions(**changes)
    assert caught.value.option in changes and "\n" not in str(caught.value)


@given(st.floats(), st.floats(-5, 5), st.floats(0, 5))
def test_ranges_are_what_they_say(value: float, low: float, width: float) -> None:
    high = low + width
    assert at_least(low).holds(value) == (value >= low and value < math.inf)
    assert above(low).holds(value) == (value > low and value < math.inf)
    assert between(low, high).holds(value) == (low <= value <= high)
    assert above(low, below=high).holds(value) == (low < value < high)


def test_what_a_class_needs_all_of_its_options_need() -> None:
    options = AllOptions(sharpness=2.0)
    with pytest.raises(OptionError, match=r"--sharpness 2.0: does nothing with --head none\. Expected --head mine"):
        check_needs([options], {"sharpness"})
    check_needs([AllOptions(sharpness=2.0, head="mine")], {"sharpness"})
    check_needs([options], set())  # nobody gave it


def test_only_what_was_changed_is_listed() -> None:
    assert changed_options(AllOptions(fraction=0.25, steps=(1, 2))) == {"fraction": 0.25, "steps": (1, 2)}


def every_field() -> dict[str, dataclasses.Field[Any]]:
    groups = [*groups_of(TrainSettings).values(), *groups_of(EvalSettings).values()]
    return {field.name: field for group in groups for field in dataclasses.fields(group)}


def test_every_registry_takes_keywords_of_ones_own() -> None:
    fields = every_field()
    named = {name for name, field in fields.items() if table_of(field) is not None} | {"loss", "miner"}
    assert named == {field.metadata[ARGUMENTS_OF] for field in fields.values() if field.metadata[ARGUMENTS_OF]}
    assert {"backbone", "aggregation", "criterion", "mining", "optim", "schedule", "rerank", "index"} <= named
    assert all(f"{name}_args" in fields for name in named)


def test_defaults_obey_their_own_rules_and_words_are_not_said_twice() -> None:
    for group in {**groups_of(TrainSettings), **groups_of(EvalSettings)}.values():
        group()
        for field in dataclasses.fields(group):
            assert "unset" not in field.metadata["help"], field.name
            assert field.default is None or not field.metadata[UNSET], field.name
            assert field.metadata[CHOICES] is None or field.default in (None, *field.metadata[CHOICES]), field.name


@pytest.mark.parametrize("settings", [TrainSettings, EvalSettings])
def test_defaults_go_together(settings: type[Any]) -> None:
    """Options that are all at their defaults are not checked together: there has to be nothing to find."""
    refused = []
    for group in groups_of(settings).values():
        made = group()
        for base in type(made).__mro__:
            with contextlib.suppress(UserError):
                vars(base).get("check_together", lambda _: None)(made)
                continue
            refused.append(base.__name__)
    assert refused == []


def test_an_aggregations_options_are_those_of_its_class_and_unset_is_its_default() -> None:
    users: dict[str, set[str]] = {}
    for name in AGGREGATIONS:
        parameters = inspect.signature(AGGREGATIONS.resolve(name)).parameters
        for parameter in parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY:
                users.setdefault(parameter.name, set()).add(name)
    for field in dataclasses.fields(AggregationOptions):
        own = users["grid" if field.name == "gem_grid" and "grid" in users else field.name]
        assert set(field.metadata[NEEDS].removeprefix("aggregation=").split("|")) == own, field.name
        for name in own:
            default = inspect.signature(AGGREGATIONS.resolve(name)).parameters[field.name].default
            if default is not None and field.name not in ("in_h", "in_w"):  # which --resize gives
                assert f"{default:g}" in field.metadata[UNSET], (field.name, name, default)


def test_stored_values_of_other_types_are_refused_in_one_line() -> None:
    for kind in groups_of(TrainSettings).values():
        for field in dataclasses.fields(kind):
            mappings = [] if field.metadata[ARGUMENTS_OF] else [{"a": 1}]  # keywords may be one
            for value in (*mappings, [[1]], b"x"):
                with pytest.raises(UserError) as caught:
                    build_options(kind, {field.name: value})
                assert str(caught.value).startswith(f"--{field.name} ") and "\n" not in str(caught.value)


def test_arguments_name_their_part() -> None:
    field = arguments("head")
    assert field.metadata[ARGUMENTS_OF] == "head" and field.default is None


def test_what_an_option_needs_is_there_to_be_given() -> None:
    every = [field for kind in (*groups_of(TrainSettings).values(), *groups_of(EvalSettings).values())
             for field in dataclasses.fields(kind)]  # fmt: skip
    by_name, needed = {field.name: field for field in every}, 0
    for field in every:
        for way in filter(None, re.split(r",| or ", field.metadata[NEEDS])):
            name, _, words = way.partition("=")
            other = by_name[name]
            assert name != field.name, field.name
            for word in filter(None, words.split("|")):
                table, choices = table_of(other), other.metadata[CHOICES]
                assert word in (choices or ()) or (table is not None and not table.unknown(word)), (field.name, word)
            needed += 1
    assert needed > 100


def test_lists_of_names_are_what_the_declarations_say() -> None:
    some = (*groups_of(TrainSettings).values(), OutputOptions, SoupOptions, EnsembleOptions)
    assert marked(Mark.TAKEN_OVER, DataOptions) == ("dataset_name", "resize", "val_positive_dist_threshold")
    of_training = {"train_dataset_name", "train_positives_dist_threshold", "train_weights"}
    assert set(marked(Mark.TRAINING, *some)) == of_training
    added = {"adapter", "adapter_ratio", "adapter_scale", "lora_rank", "lora_alpha", "lora_layers"}
    assert set(marked(Mark.FREEZES, *some)) == {"freeze", "freeze_te", "unfreeze_blocks"} | added
    assert set(marked(Mark.BY_MATRIX, *some)) == {"run_dir", "resume", "save_dir", "checkpoints", "output"}
    assert set(marked(Mark.NOT_WRITTEN, *some)) == {"run_dir", "resume"}
    assert set(marked(Mark.THIS_RUN, *some)) == {
        "save_dir", "run_dir", "resume", "own_code", "dry_run", "pairs_out", "wandb",
    }  # fmt: skip
    assert set(marked(Mark.NO_RESULT, *some)) == {
        "save_dir", "run_dir", "resume", "num_workers", "datasets_folder", "wandb", "frozen_folder",
    }  # fmt: skip
    assert set(marked(Mark.NO_DISTANCE, *some)) == {
        "infer_batch_size", "search_backend", "threshold", "compare_queries", "recall_values", "pose_candidates",
        "pose_radius", "efficient_ram_testing",
    }  # fmt: skip
