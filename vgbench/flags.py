"""Option dataclasses as command-line flags, and flags' and YAML's values as option dataclasses."""

from __future__ import annotations

import argparse
import dataclasses
import types
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from vgbench import options as declared

OptionsT = TypeVar("OptionsT")


def add_flags(parser: argparse._ActionsContainer, options_type: type[Any], without: Collection[str] = ()) -> None:
    """Add a flag for every option of a dataclass, but for some."""
    hints = typing.get_type_hints(options_type)
    for field in dataclasses.fields(options_type):
        if field.name not in without:
            _add_flag(parser, field, hints[field.name])


def build_options(options_type: type[OptionsT], values: Mapping[str, Any]) -> OptionsT:
    """Build an option dataclass from those of the values that are its own, by flat name; the others are passed over.

    Raises:
        UserError: a value is out of its range.
    """
    hints = typing.get_type_hints(options_type)
    known = {field.name for field in dataclasses.fields(options_type)}  # type: ignore[arg-type]
    return options_type(**{name: _coerced(value, hints[name]) for name, value in values.items() if name in known})


def plain(value: Any) -> Any:
    """Return an option's value as YAML and checkpoints can hold it."""
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _add_flag(parser: argparse._ActionsContainer, field: dataclasses.Field[Any], hint: Any) -> None:
    default = field.default
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
    help_text = f"{field.metadata[declared.HELP]} (default: {shown})".replace("%", "%%")
    item, count = item_type(hint)
    if item is bool:
        parser.add_argument(f"--{field.name}", action=argparse.BooleanOptionalAction, help=help_text)
        return
    metavar = field.metadata[declared.METAVAR] or {int: "N", float: "X", Path: "PATH"}.get(item, "NAME")
    choices = field.metadata[declared.CHOICES]
    parser.add_argument(
        f"--{field.name}",
        type=item,
        nargs=count,
        choices=choices,
        metavar=None if choices else metavar,
        help=help_text,
    )


def item_type(hint: Any) -> tuple[type, int | str | None]:
    """Split an option's annotation into the type of one value and argparse's `nargs`."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        [hint] = [part for part in typing.get_args(hint) if part is not type(None)]
    if typing.get_origin(hint) is tuple:
        items = typing.get_args(hint)
        return items[0], "+" if items[-1] is Ellipsis else len(items)
    return hint, None


def _coerced(value: Any, hint: Any) -> Any:
    """Give a value from YAML or a checkpoint the type that its dataclass declares."""
    item, count = item_type(hint)
    if value is None:
        return None
    if count is not None:
        value = (value,) if isinstance(value, str) else value  # as an earlier version stored it, or Python's user wrote
        return tuple(item(part) for part in value)
    return item(value)
