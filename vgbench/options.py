"""Option dataclasses: how a room declares what a user can set.

Each room owns small frozen dataclasses whose fields are made by `option`; `parser.py` turns them into flat
command-line flags and YAML keys. The library itself only ever sees the dataclasses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from vgbench.errors import UserError

HELP = "help"
CHOICES = "choices"
METAVAR = "metavar"


def option(default: Any, help: str, *, choices: Sequence[str] | None = None, metavar: str | None = None) -> Any:
    """Declare one option as a dataclass field.

    The field's annotation gives its type: `int`, `float`, `str`, `bool`, `Path`, any of them `| None`, or a tuple of
    one of them (`tuple[int, int]` takes exactly two values, `tuple[int, ...]` one or more).

    Args:
        default: the value when the user says nothing.
        help: one sentence with the unit; the default is appended by the parser.
        choices: the closed list of allowed words. Leave it out where a registry resolves the name, since registries
            accept `package.module:Name` too and name their entries in their own error.
        metavar: the placeholder shown in `--help`.
    """
    return dataclasses.field(default=default, metadata={HELP: help, CHOICES: choices, METAVAR: metavar})


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
