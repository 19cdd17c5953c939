"""What a matrix file may say beside plain runs: `extends`, `variables`, `grid` and `seeds`; all become plain runs.

    extends: base.yaml                      # its keys, of which this file's win; its runs come first. Of a list of
                                            # files, the later ones win
    variables: {data: pitts30k, size: [320, 320]}
    defaults: {all: {resize: $size}}        # `$name` is the whole value, `${name}` a part of a text
    grid:
      - name: "{aggregation} {loss}"        # unset: the values, with spaces between
        over:                               # every combination of these
          train.aggregation: [gem, netvlad]
          train.loss: {ms: {loss: MultiSimilarity, miner: MultiSimilarity}, circle: {loss: Circle}}
        exclude: [{aggregation: netvlad, loss: circle}]
        include: [{aggregation: cosplace, loss: ms}]
        seeds: [0, 1, 2]                    # of a run or a grid; its row is their mean and deviation
        train: {dataset_name: $data}        # what all of them share
        eval: {}

An axis is called `train.<option>`, `eval.<option>` or `<ensemble|soup|whiten>.<option>`; `exclude` and `include` name
it by its last part. A value is what the option takes, or a label with the options that it stands for.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vgbench.errors import UserError, did_you_mean

Content = dict[str, Any]
SECTIONS = ("train", "eval", "ensemble", "soup", "whiten")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
_MOST_RUNS = 10_000
_OF_TRAINING = ("train", "start_from", "distill_from", "seeds")
_OF_ONE_RUN = ("of", "start_from", "distill_from")


def expand(path: Path, read: Callable[[Path], Any]) -> Any:
    """Return the content of a matrix file as plain `defaults`, `tests`, `published` and `runs`.

    A run that was made of seeds has `row`, the name that its seeds share, beside its own `name`.

    Args:
        read: path of a YAML file -> its content.

    Raises:
        UserError: files that extend each other in a circle, unknown variables, or a grid that cannot be expanded.
    """
    content = _extended(path, read, ())
    if not isinstance(content, dict):
        return content  # the reader of plain matrices says what is wrong with it
    variables = content.pop("variables", None) or {}
    if not isinstance(variables, Mapping):
        raise UserError(f"{path}: variables: expected `name: value`, found {type(variables).__name__}")
    known: Content = {}
    for name, value in variables.items():  # one may name those above it
        known[name] = _filled(value, known, f"{path}: variables")
    content = _filled(content, known, str(path))
    runs, grid = content.get("runs") or [], content.pop("grid", None) or []
    if not isinstance(runs, list):
        return content
    blocks = [grid] if isinstance(grid, Mapping) else grid
    if not isinstance(blocks, list):
        raise UserError(f"{path}: grid: expected `over: ...`, or a list of such blocks, found {type(grid).__name__}")
    for number, block in enumerate(blocks, start=1):
        runs = runs + list(_combinations(f"{path}: grid {number}", block))
    if runs:
        content["runs"] = _with_seeds(str(path), runs)
    return content


def _extended(path: Path, read: Callable[[Path], Any], seen: tuple[Path, ...]) -> Any:
    """Return a file's content on top of what it extends."""
    if "\0" in str(path):
        raise UserError(f"{path}: extends: holds a zero byte. Expected the name of one YAML file")
    here = path.resolve()
    if here in seen:
        raise UserError(f"{path}: extends itself, through {' -> '.join(one.name for one in seen)}. Expected no circle")
    content = read(path)
    content = {"runs": content} if isinstance(content, list) else content
    if not isinstance(content, dict):
        return content
    names = content.pop("extends", None)
    layers: list[Content] = []
    for name in names if isinstance(names, list) else [] if names is None else [names]:
        if not isinstance(name, str):
            raise UserError(
                f"{path}: extends: expected the name of a YAML file, or a list, found {type(name).__name__}"
            )
        base = _extended(path.parent / name, read, (*seen, here))
        if not isinstance(base, dict):
            raise UserError(f"{path.parent / name}: expected `runs: ...`, found {type(base).__name__}")
        layers.append(base)
    return functools.reduce(_on_top, [*layers, content])


def _on_top(base: Content, content: Content) -> Content:
    """Return a base with the keys, runs and grids of a file that extends it."""
    merged: Content = _merged(base, content)
    variables = [one["variables"] for one in (base, content) if isinstance(one.get("variables"), Mapping)]
    if len(variables) == 2:
        merged["variables"] = {**variables[0], **variables[1]}  # each is one value, a mapping too
    for key in ("runs", "grid"):
        both = [base.get(key) or [], content.get(key) or []]
        lists = [[one] if isinstance(one, Mapping) else one for one in both]
        if any(both):
            merged[key] = _runs_on_top(*lists) if key == "runs" else lists[0] + lists[1]
    return merged


def _runs_on_top(base: list[Any], own: list[Any]) -> list[Any]:
    """Put runs after a base's; a run of a name that the base has takes its position."""
    names = {run["name"]: run for run in own if isinstance(run, Mapping) and "name" in run}
    replaced = [names.pop(run["name"], run) if isinstance(run, Mapping) and "name" in run else run for run in base]
    return replaced + [run for run in own if not isinstance(run, Mapping) or run.get("name", "") in {"", *names}]


def _merged(base: Any, own: Any) -> Any:
    """Mappings are joined key by key; of anything else the own wins."""
    if isinstance(base, Mapping) and isinstance(own, Mapping):
        return {**base, **{key: _merged(base[key], value) if key in base else value for key, value in own.items()}}
    return own


def _filled(value: Any, variables: Mapping[str, Any], where: str) -> Any:
    """Put the values of variables where texts name them."""
    if isinstance(value, dict):
        return {key: _filled(one, variables, where) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, variables, where) for one in value]
    if not isinstance(value, str):
        return value
    whole = _VARIABLE.fullmatch(value)
    if whole is not None:
        return _variable(whole, variables, where)
    return _VARIABLE.sub(lambda found: _short(_variable(found, variables, where)) if found[2] else found[0], value)


def _variable(found: re.Match[str], variables: Mapping[str, Any], where: str) -> Any:
    name = found[1] or found[2]
    if name not in variables:
        raise UserError(
            f"{where}: {found[0]}: no such variable.{did_you_mean(name, list(variables))} "
            f"Expected one of `variables:`, which has {', '.join(map(str, variables)) or 'none'}"
        )
    return variables[name]


@dataclass(frozen=True)
class _Choice:
    """One value of an axis: what names call it, and the options that it sets, by section."""

    label: str
    sets: Mapping[str, Any]
    section: str


def _combinations(where: str, block: Any) -> Iterator[Content]:
    """Yield the runs of one block of a grid."""
    if not isinstance(block, Mapping) or not isinstance(block.get("over"), Mapping) or not block["over"]:
        raise UserError(f"{where}: expected `over: {{train.<option>: [value, value]}}`")
    axes = {_axis_name(where, axis, block["over"]): _choices(where, axis, block) for axis in block["over"]}
    count = 1
    for choices in axes.values():
        count *= len(choices)
    if count > _MOST_RUNS:
        raise UserError(f"{where}: {count} combinations. Expected at most {_MOST_RUNS}")
    taken = [dict(zip(axes, one, strict=True)) for one in itertools.product(*axes.values())]
    left_out = [_selection(f"{where}: exclude", one, axes) for one in _list(where, block, "exclude")]
    taken = [one for one in taken if not any(_fits(one, rule) for rule in left_out)]
    taken += [_included(f"{where}: include", one, axes) for one in _list(where, block, "include")]
    if not taken:
        raise UserError(f"{where}: `exclude` leaves no combination. Expected at least one")
    trained: list[Content] = []
    for combination in taken:
        run = _run_of(where, block, combination)
        same = next((one for one in trained if "train" in run and one["train"] == run["train"]), None)
        if same is None:
            trained += [run] if "train" in run else []
            yield run
        else:  # only the tests differ: trained once
            tested = {key: value for key, value in run.items() if key not in _OF_TRAINING}
            yield tested | {"of": same["name"]}


def _axis_name(where: str, axis: Any, axes: Mapping[Any, Any]) -> str:
    section, _, option = str(axis).partition(".")
    if section not in SECTIONS or not option.isidentifier():
        raise UserError(
            f"{where}: over: {axis}: is no axis. Expected <section>.<option>, with a section of {', '.join(SECTIONS)}"
        )
    same = [other for other in axes if str(other).partition(".")[2] == option]
    return option if len(same) == 1 else str(axis)


def _choices(where: str, axis: str, block: Mapping[str, Any]) -> list[_Choice]:
    section, _, option = axis.partition(".")
    values = block["over"][axis]
    if isinstance(values, Mapping):
        for label, sets in values.items():
            if not isinstance(sets, Mapping):
                raise UserError(f"{where}: over: {axis}: {label}: expected `label: {{option: value}}`")
        return [_Choice(str(label), dict(sets), section) for label, sets in values.items()]
    if not isinstance(values, list) or not values:
        raise UserError(f"{where}: over: {axis}: expected a list of values, or `label: {{option: value}}`")
    return [_Choice(_short(value), {option: value}, section) for value in values]


def _list(where: str, block: Mapping[str, Any], key: str) -> list[Any]:
    found = block.get(key) or []
    if not isinstance(found, list):
        raise UserError(f"{where}: {key}: expected a list of `{{axis: value}}`, found {type(found).__name__}")
    return found


def _selection(where: str, rule: Any, axes: Mapping[str, Sequence[_Choice]]) -> dict[str, str]:
    """Return axis -> label of an `exclude` or `include`, checked."""
    if not isinstance(rule, Mapping) or not rule:
        raise UserError(f"{where}: expected `{{axis: value}}`")
    found = {}
    for axis, value in rule.items():
        if axis not in axes:
            raise UserError(f"{where}: {axis}: no such axis.{did_you_mean(str(axis), list(axes))} "
                            f"Expected one of {', '.join(axes)}")  # fmt: skip
        found[str(axis)] = _short(value)
    return found


def _fits(combination: Mapping[str, _Choice], rule: Mapping[str, str]) -> bool:
    return all(combination[axis].label == label for axis, label in rule.items())


def _included(where: str, one: Any, axes: Mapping[str, Sequence[_Choice]]) -> dict[str, _Choice]:
    """Return a combination that the product does not hold; a value outside of its axis is set as it is."""
    labels = _selection(where, one, axes)
    missing = [axis for axis in axes if axis not in labels]
    if missing:
        raise UserError(f"{where}: {missing[0]} is missing. Expected a value for each of {', '.join(axes)}")
    found = {}
    for axis, choices in axes.items():
        known = next((choice for choice in choices if choice.label == labels[axis]), None)
        section, option = choices[0].section, axis.rpartition(".")[2]
        found[axis] = known or _Choice(labels[axis], {option: one[axis]}, section)
    return found


def _run_of(where: str, block: Mapping[str, Any], combination: Mapping[str, _Choice]) -> Content:
    labels = {axis.rpartition(".")[2]: choice.label for axis, choice in combination.items()}
    template = block.get("name")
    try:
        name = " ".join(labels.values()) if template is None else str(template).format(**labels)
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        raise UserError(
            f"{where}: name {template!r}: cannot be filled ({error}). "
            f"Expected words and {{axis}} of {', '.join(labels)}"
        ) from error
    run = {key: value for key, value in block.items() if key not in ("over", "include", "exclude", "name")}
    for choice in combination.values():
        run[choice.section] = _joined(where, run.get(choice.section), choice)
    return {"name": name, **run}


def _joined(where: str, shared: Any, choice: _Choice) -> Any:
    if isinstance(shared, list) and choice.section == "eval":
        return [_joined(where, one, choice) for one in shared]
    if shared is not None and not isinstance(shared, Mapping):
        raise UserError(f"{where}: {choice.section}: expected `option: value`, found {type(shared).__name__}")
    return {**(shared or {}), **choice.sets}


def _with_seeds(where: str, runs: list[Any]) -> list[Any]:
    """Make a run of each seed; what takes a run with seeds is made once for each of them."""
    seeds_of: dict[str, list[int]] = {}
    out: list[Any] = []
    for number, run in enumerate(runs, start=1):
        if not isinstance(run, Mapping):
            out.append(run)
            continue
        label = f"{where}: run {number} ({run.get('name')})"
        taken = _takes(run)
        seeds = _seeds(label, run.get("seeds"))
        plain = {key: value for key, value in run.items() if key != "seeds"}
        inherited = [seeds_of[name] for name in taken if name in seeds_of]
        if seeds and inherited:
            raise UserError(f"{label}: seeds: {taken[0]} has seeds already, which are taken over. Take these out")
        if any(one != inherited[0] for one in inherited):
            raise UserError(f"{label}: takes runs of different seeds. Expected the same `seeds:` in each")
        every = seeds or (inherited[0] if inherited else [])
        if not every:
            out.append(plain)
            continue
        seeds_of[str(run.get("name"))] = every
        out += [_of_seed(plain, seed, own=bool(seeds), seeded=seeds_of) for seed in every]
    return out


def _takes(run: Mapping[str, Any]) -> list[str]:
    """Return the names of the runs whose networks a run takes."""
    found = [str(run[key]) for key in _OF_ONE_RUN if key in run]
    for section in ("ensemble", "soup", "whiten"):
        inside = run.get(section)
        if isinstance(inside, Mapping) and isinstance(inside.get("runs"), list):
            found += [str(one) for one in inside["runs"]]
    return found


def _seeds(where: str, seeds: Any) -> list[int]:
    if seeds is None:
        return []
    whole = isinstance(seeds, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in seeds)
    if not whole or not seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"{where}: seeds: expected a list of different whole numbers, such as [0, 1, 2]")
    return list(seeds)


def _of_seed(run: Mapping[str, Any], seed: int, *, own: bool, seeded: Mapping[str, list[int]]) -> Content:
    """Return the run of one seed, which takes what it needs of that seed."""
    named = {"name": seed_name(str(run.get("name")), seed), "row": str(run.get("name")), "seed": seed}
    out = {**run, **named}
    for key in _OF_ONE_RUN:
        if key in out and str(out[key]) in seeded:
            out[key] = seed_name(str(out[key]), seed)
    for section in ("ensemble", "soup", "whiten"):
        inside = out.get(section)
        if isinstance(inside, Mapping) and isinstance(inside.get("runs"), list):
            runs = [seed_name(str(one), seed) if str(one) in seeded else one for one in inside["runs"]]
            out[section] = {**inside, "runs": runs}
    if "train" in out:
        out["train"] = {**(out["train"] or {}), "seed": seed}
    elif own and isinstance(out.get("eval"), list):
        out["eval"] = [{**(one or {}), "seed": seed} if isinstance(one or {}, Mapping) else one for one in out["eval"]]
    elif own and "eval" in out:
        out["eval"] = {**(out["eval"] or {}), "seed": seed}
    return out


def seed_name(run: str, seed: int) -> str:
    """Return the name of a run's part with one seed."""
    return f"{run} seed={seed}"


def _short(value: Any) -> str:
    """Write a value as names have it: 0.1, adam, 320x320."""
    if isinstance(value, list | tuple):
        return "x".join(map(_short, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
