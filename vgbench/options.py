"""Option dataclasses: how a room declares what a user can set.

Each room owns small frozen dataclasses whose fields are made by `option`; `flags` turns them into flat
command-line flags, and `parser.py` into YAML keys too. The library itself only ever sees the dataclasses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from vgbench.errors import UserError

HELP = "help"
CHOICES = "choices"
METAVAR = "metavar"
NEEDS = "needs"


def option(
    default: Any, help: str, *, choices: Sequence[str] | None = None, metavar: str | None = None, needs: str = ""
) -> Any:
    """Declare one option as a dataclass field.

    The field's annotation gives its type: `int`, `float`, `str`, `bool`, `Path`, any of them `| None`, or a tuple of
    one of them (`tuple[int, int]` takes exactly two values, `tuple[int, ...]` one or more).

    Args:
        default: the value when the user says nothing.
        help: one sentence with the unit; the default is appended by the parser.
        choices: the closed list of allowed words. Leave it out where a registry resolves the name, since registries
            accept `package.module:Name` too and name their entries in their own error.
        metavar: the placeholder shown in `--help`.
        needs: without which the option does nothing: another option that is set ("night"), or that is one of some words
            ("optim=sgd|rmsprop"); several, all of them needed, with commas between.
    """
    metadata = {HELP: help, CHOICES: choices, METAVAR: metavar, NEEDS: needs}
    return dataclasses.field(default=default, metadata=metadata)


def check_needs(groups: Iterable[Any], given: Collection[str]) -> None:
    """Refuse options that the user gave and that do nothing beside the others.

    Args:
        groups: instances of option dataclasses, all that there are.
        given: names of the options that the user gave; those of other dataclasses are passed over.

    Raises:
        UserError: an option is not at its default and lacks what it needs.
    """
    fields = {
        field.name: (field, getattr(group, field.name)) for group in groups for field in dataclasses.fields(group)
    }
    for name in given:
        field, value = fields.get(name, (None, None))
        if field is None or value == field.default:
            continue
        for need in filter(None, field.metadata[NEEDS].split(",")):
            needed, _, words = need.partition("=")
            if needed in fields:  # else it is of another door, which shares its options with this one
                _check_need(f"--{name} {_shown(value)}", needed, words.split("|") if words else [], fields[needed][1])


def _check_need(given: str, needed: str, words: list[str], found: Any) -> None:
    if _is_met(found, words):
        return
    now = f"--{needed} {_shown(found)}" if words and found else f"no --{needed}"
    expected = " ".join([f"--{needed}", " or ".join(words)]).rstrip()
    raise UserError(f"{given}: does nothing with {now}. Expected {expected} beside it; add that or leave this out")


def _is_met(found: Any, words: list[str]) -> bool:
    values = found if isinstance(found, tuple) else (found,)
    if not words:
        return any(values)
    # What a user brings along may use every option.
    return any(value in words or ":" in str(value) for value in values)


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def check_at_least(options: object, least: int, *names: str) -> None:
    """Raise UserError for the first of some options that is a number below `least`; those that are unset pass."""
    for name in names:
        value = getattr(options, name)
        if value is not None and value < least:
            raise UserError(f"--{name} {value}: too small. Expected a whole number of at least {least}")


def check_above_zero(options: object, *names: str) -> None:
    """Raise UserError for the first of some options that is no finite number above 0; those that are unset pass."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"--{name} {value}: out of range. Expected a number above 0")


def check_from_zero(options: object, *names: str) -> None:
    """Raise UserError for the first of some options that is no finite number from 0 up; those that are unset pass."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not 0 <= value < float("inf"):
            raise UserError(f"--{name} {value}: out of range. Expected a finite number of at least 0")
