"""Option dataclasses: how a part of the library declares what a user can set, with every rule on it, once.

A frozen dataclass derives from `Options`, and its fields are made by `option`. What stands there (range, choices, what
an option needs, what "unset" means) is all there is: the checks, the help and the refusals are derived from it.
`vgbench.flags` turns the fields into flags. The library itself only ever sees the dataclasses.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import itertools
import math
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vgbench.errors import UserError, did_you_mean
from vgbench.registry import Registry

HELP = "help"
CHOICES = "choices"
METAVAR = "metavar"
NEEDS = "needs"
ELSE = "else"
UNSET = "unset"
RANGE = "range"
TOGETHER = "together"
REGISTRY = "registry"
ARGUMENTS_OF = "arguments_of"
COMMON = "common"
MARKS = "marks"
TOPIC = "topic"
STRICT = "strict"

# The default of an option that has to be given.
REQUIRED = dataclasses.MISSING
# No count, size or seed is larger: beyond, libraries written in C wrap around.
LARGEST = 2**63 - 1


class Mark(enum.Flag):
    """What else is true of an option, several with `|`; `marked` gives the names of those of which it is."""

    NONE = 0
    THIS_RUN = enum.auto()
    """Of one run only: never taken from a checkpoint."""
    NOT_WRITTEN = enum.auto()
    """Says which run this is: not written to its config.yaml, which starts others."""
    BY_MATRIX = enum.auto()
    """benchmark.py sets it for each of its jobs, and a matrix cannot."""
    NO_RESULT = enum.auto()
    """Changes how fast or where a run works, or what it writes besides, and none of its numbers."""
    NO_DISTANCE = enum.auto()
    """Changes the speed or the tables of a test, and none of its distances."""
    TAKEN_OVER = enum.auto()
    """A test takes it from the checkpoint, unless it is given."""
    TRAINING = enum.auto()
    """Only training reads it, though a test shares the dataclass."""
    FREEZES = enum.auto()
    """Which of a network is trained: a new run may change it about the network of a checkpoint."""
    LATE = enum.auto()
    """Its name is looked up in its table only where it is used: a checkpoint may say it of a network that is not made
    by names."""


class OptionError(UserError):
    """A value that its option does not take.

    Attributes:
        option: the option's name.
    """

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


@dataclass(frozen=True)
class Rule:
    """What one value must be.

    Attributes:
        holds: whether a value is so.
        words: what is expected, in words; `{number}` stands for "a number" or "a whole number".
        least: smaller values are too small; others that do not hold are out of range.
    """

    holds: Callable[[Any], bool]
    words: str
    least: float = -math.inf


def at_least(low: float, *, below: float = math.inf) -> Rule:
    """A finite number from `low` up, and smaller than `below`."""
    words = f"{{number}} of at least {low:g}" + (f" and below {below:g}" if below < math.inf else "")
    return Rule(lambda value: low <= value < below, words, low)


def above(low: float, *, below: float = math.inf, at_most: float = math.inf) -> Rule:
    """A finite number larger than `low`, smaller than `below`, and `at_most` another."""
    words = f"{{number}} above {low:g}"
    words += f" and below {below:g}" if below < math.inf else f", at most {at_most:g}" if at_most < math.inf else ""
    return Rule(lambda value: low < value < below and value <= at_most, words)


def between(low: float, high: float) -> Rule:
    """A number from `low` to `high`, both included."""
    return Rule(lambda value: low <= value <= high, f"{{number}} from {low:g} to {high:g}")


RISING = Rule(lambda values: all(a < b for a, b in itertools.pairwise(values)), "each above the one before")
IN_ORDER = Rule(lambda values: all(a <= b for a, b in itertools.pairwise(values)), "the larger one second")
DISTINCT = Rule(lambda values: len(set(values)) == len(values), "each of them once")


def option(
    default: Any,
    help: str,
    *,
    range: Rule | tuple[Rule, ...] | None = None,
    together: Rule | None = None,
    choices: Sequence[Any] | None = None,
    registry: str = "",
    metavar: str | None = None,
    needs: str = "",
    without: str = "",
    unset: str = "",
    common: bool | str = False,
    marks: Mark = Mark.NONE,
) -> Any:
    """Declare one option as a dataclass field.

    The field's annotation gives its type: `int`, `float`, `str`, `bool`, `Path`, any of them `| None`, or a tuple of
    one of them (`tuple[int, int]` takes exactly two values, `tuple[int, ...]` one or more).

    Args:
        default: the value when the user says nothing.
        help: one sentence with the unit; the default, `unset` and the choices are added to it.
        range: what a number must be, of a tuple each one; several rules are for the places of a tuple.
        together: what the values of a tuple must be to one another.
        choices: the closed list of allowed values.
        registry: "module:NAME" of the table that a name is looked up in, which takes `package.module:Class` too.
        metavar: the placeholder shown in `--help`.
        needs: without which the option does nothing: another option that is set ("night"), or that is one of some words
            ("optim=sgd|rmsprop"); several, all of them needed, with commas between; " or " where one of two is enough.
        without: what to say where what it needs is not there ("--pca_x {value}: there is no PCA"). Then this is checked
            in every dataclass that is made, and not only where a user gave the option.
        unset: what None means.
        common: whether the short help lists it; "eval" or "train": that of this command alone.
        marks: what programs that hand options on have to know of it.
    """
    metadata = {
        HELP: help, RANGE: range, TOGETHER: together, CHOICES: choices, REGISTRY: registry, METAVAR: metavar,
        NEEDS: needs, ELSE: without, UNSET: unset, COMMON: common, MARKS: marks,
        ARGUMENTS_OF: "", TOPIC: "", STRICT: False,
    }  # fmt: skip
    return dataclasses.field(default=default, metadata=metadata)


def arguments(of: str, help: str = "") -> Any:
    """Declare `--<of>_args`: keywords for what the option `of` names, `name=value` each, a tuple or None."""
    help = help or f"keywords of --{of}'s class, such as of your own package.module:Class"
    field = option(None, help, metavar="NAME=VALUE")
    field.metadata = types.MappingProxyType({**field.metadata, ARGUMENTS_OF: of})
    return field


class Options:
    """Base of every option dataclass: checks what its fields declare as soon as one is made.

    Class arguments, for the fields that the class itself declares:
        needs: as of `option`, in front of a field's own; the option that is needed does not need itself.
        topic: the name of the help page; the class's name without `Options` if there is none.
        strict: check what they need here too, wherever that is an option of the same dataclass; else only what a user
            gave is checked (`check_needs`).

    What concerns several options at once is a method `check_together(self)` of the class that declares them.
    """

    def __init_subclass__(cls, *, needs: str = "", topic: str = "", strict: bool = False, **more: Any) -> None:
        super().__init_subclass__(**more)
        topic = topic or cls.__name__.removesuffix("Options").lower()
        for name, field in vars(cls).items():
            if isinstance(field, dataclasses.Field):
                own = "" if needs.partition("=")[0] == name else needs
                both = ",".join(filter(None, (own, field.metadata[NEEDS])))
                added = {NEEDS: both, TOPIC: topic, STRICT: strict}
                field.metadata = types.MappingProxyType({**field.metadata, **added})

    def __post_init__(self) -> None:
        """Raise OptionError for a value that its declaration does not allow."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        values = {field.name: getattr(self, field.name) for field in fields}
        changed = [field for field in fields if values[field.name] != field.default]
        if not changed:
            return  # the defaults go together
        for field in changed:
            check_value(field, values[field.name])
        for field in changed:
            if field.metadata[STRICT] or field.metadata[ELSE]:
                _check_needs_of(field, values[field.name], values)
        for base in reversed(type(self).__mro__):
            if "check_together" in vars(base):
                vars(base)["check_together"](self)


def option_names(options_type: type[Any]) -> tuple[str, ...]:
    """Return the names of a dataclass's options."""
    return tuple(field.name for field in dataclasses.fields(options_type))


def marked(marks: Mark, *options_types: type[Any]) -> tuple[str, ...]:
    """Return the names of the options of some dataclasses that have any of the marks, each once."""
    fields = [field for one in options_types for field in dataclasses.fields(one)]
    return tuple(dict.fromkeys(field.name for field in fields if marks & field.metadata[MARKS]))


def changed_options(options: Any) -> dict[str, Any]:
    """Return the options of a dataclass that are not at their defaults, by name."""
    values = {field: getattr(options, field.name) for field in dataclasses.fields(options)}
    return {field.name: value for field, value in values.items() if value != field.default}


def table_of(field: dataclasses.Field[Any]) -> Registry | None:
    """Return the table that an option's names are looked up in, where it has one."""
    module, _, name = field.metadata.get(REGISTRY, "").partition(":")
    return getattr(importlib.import_module(module), name) if module else None


def check_value(field: dataclasses.Field[Any], value: Any) -> None:
    """Raise OptionError where a value is not what its option's declaration allows; None is checked for nothing."""
    if value is None:
        return
    several = isinstance(value, tuple | list)
    values = list(value) if several else [value]
    if several and not values:
        raise OptionError(field.name, f"--{field.name}: no values. Expected one or more")
    rules = field.metadata.get(RANGE)
    for place, one in enumerate(values):
        rule = rules[place] if isinstance(rules, tuple) else rules
        problem = _problem(field, rule, one)
        if problem:
            raise OptionError(field.name, f"--{field.name} {shown(value)}: {problem}")
    together = field.metadata.get(TOGETHER)
    if together is not None and not together.holds(values):
        raise OptionError(field.name, f"--{field.name} {shown(value)}: out of order. Expected {together.words}")


def check_needs(groups: Iterable[Any], given: Collection[str]) -> None:
    """Refuse options that the user gave and that do nothing beside the others.

    Args:
        groups: instances of option dataclasses, all that there are.
        given: names of the options that the user gave; those of other dataclasses are passed over.

    Raises:
        OptionError: an option is not at its default and lacks what it needs.
    """
    fields = {field.name: (field, group) for group in groups for field in dataclasses.fields(group)}
    values = {name: getattr(group, name) for name, (_, group) in fields.items()}
    for name in given:
        if name in fields and values[name] != fields[name][0].default:
            _check_needs_of(fields[name][0], values[name], values)


def shown(value: Any) -> str:
    """Return a value as a command line says it, cut where it is very long."""
    text = " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _problem(field: dataclasses.Field[Any], rule: Rule | None, value: Any) -> str:
    """Return what is wrong with one value, and what is expected; "" where nothing is."""
    choices, table = field.metadata.get(CHOICES), table_of(field)
    if choices is not None:
        known = list(map(str, choices))
        hint = did_you_mean(str(value), known)
        return "" if value in choices else f"not known.{hint} Expected one of {', '.join(known)}"
    if table is not None:
        return "" if Mark.LATE in field.metadata.get(MARKS, Mark.NONE) else table.unknown(str(value))
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST:
        return f"too large. Expected a whole number of at most {LARGEST}"
    if rule is None:
        if isinstance(value, float) and not math.isfinite(value):
            return "out of range. Expected a finite number"
        return ""
    words = rule.words.format(number="a whole number" if "int" in str(field.type) else "a number")
    try:
        problem = "too small" if value < rule.least else "out of range"
        return "" if rule.holds(value) else f"{problem}. Expected {words}"
    except (TypeError, ValueError, OverflowError):
        return f"not a number. Expected {words}"


def _check_needs_of(field: dataclasses.Field[Any], value: Any, values: Mapping[str, Any]) -> None:
    for need in filter(None, field.metadata[NEEDS].split(",")):
        ways = [way.partition("=")[::2] for way in need.split(" or ")]
        # What is not there is of another command, which shares its options with this one.
        if all(name in values and not _is_met(values[name], words) for name, words in ways):
            raise OptionError(field.name, _does_nothing(field, value, ways, values))


def _does_nothing(
    field: dataclasses.Field[Any], value: Any, ways: list[tuple[str, str]], values: Mapping[str, Any]
) -> str:
    expected = " or ".join(f"--{name} {words.replace('|', ' or ')}".rstrip() for name, words in ways)
    if field.metadata[ELSE]:
        return f"{field.metadata[ELSE].format(value=shown(value))}. Expected {expected} beside it; leave it out"
    name, words = ways[0]
    now = f"--{name} {shown(values[name])}" if words and values[name] else f"no --{name}"
    given = f"--{field.name} {shown(value)}"
    return f"{given}: does nothing with {now}. Expected {expected} beside it; add that or leave this out"


def _is_met(found: Any, words: str) -> bool:
    values = found if isinstance(found, tuple) else (found,)
    if not words:
        return any(value not in (None, False, 0, "none", "") for value in values)
    # What a user brings along may use every option.
    return any(value in words.split("|") or ":" in str(value) for value in values)
