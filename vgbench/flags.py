"""Option dataclasses as command-line flags, and flags', YAML's and checkpoints' values as option dataclasses."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vgbench import options as declared
from vgbench.arguments import as_words
from vgbench.options import OptionError, shown, table_of

OptionsT = TypeVar("OptionsT")
_WORDS = {int: "a whole number", float: "a number", bool: "true or false"}
_SHORT = 18  # characters of choices that still stand beside an option's name
_TRUTH = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}


def add_flags(
    parser: argparse._ActionsContainer,
    options_type: type[Any],
    *,
    only: Collection[str] | None = None,
    without: Collection[str] = (),
    required: Collection[str] = (),
    helps: Mapping[str, str] | None = None,
) -> None:
    """Add a flag for the options of a dataclass: for all of them, for some only, or without some.

    Args:
        required: those that have to be given, beside those without a default.
        helps: what some of them mean here, instead of their own help.
    """
    hints = _hints(options_type)  # type: ignore[arg-type]  # classes are hashable
    for field in dataclasses.fields(options_type):
        if field.name not in without and (only is None or field.name in only):
            needed = field.name in required or field.default is dataclasses.MISSING
            help = (helps or {}).get(field.name, "") or field.metadata[declared.HELP]
            _add_flag(parser, field, hints[field.name], help, required=needed)


def build_options(options_type: type[OptionsT], values: Mapping[str, Any]) -> OptionsT:
    """Build an option dataclass from those of the values that are its own, by flat name; the others are passed over.

    Raises:
        OptionError: a value is of another type than its option, or out of its range.
    """
    hints = _hints(options_type)  # type: ignore[arg-type]  # classes are hashable
    fields = [field for field in dataclasses.fields(options_type) if field.name in values]  # type: ignore[arg-type]
    return options_type(**{field.name: _value(field, values[field.name], hints[field.name]) for field in fields})


@functools.cache
def _hints(options_type: type[Any]) -> dict[str, Any]:
    """Return the types of a dataclass's fields: a matrix asks for the same ones hundreds of times."""
    return typing.get_type_hints(options_type)


def plain(value: Any) -> Any:
    """Return an option's value as YAML and checkpoints can hold it."""
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def help_of(field: dataclasses.Field[Any], *, short: bool = False) -> str:
    """Return an option's help: what it is of, what it is, its choices, and what counts when it is not given.

    Args:
        field: of an option dataclass.
        short: name some of a long list of choices, not all, and not what it is of.
    """
    text = field.metadata[declared.HELP]
    if not short and (parts := parts_of(field)):
        text = f"{', '.join(parts)}: {text}"
    table = table_of(field)
    choices = field.metadata[declared.CHOICES]
    if choices is not None and len(_braced(choices)) > _SHORT:
        text += f": {', '.join(map(str, choices))}"
    if table is not None:
        names = table.families() if short else list(table)
        own = "" if table.closed or short else ", or your own package.module:Class"
        text += f": {', '.join(names)}{own}"
    unset, default = field.metadata[declared.UNSET], field.default
    if isinstance(default, bool):
        counts = "default: on" if default else ""
    elif default is None or default is dataclasses.MISSING:
        counts = f"unset: {unset}" if unset else ""
    else:
        counts = f"default: {shown(default)}"
    return f"{text} ({counts})" if counts else text


def parts_of(field: dataclasses.Field[Any]) -> list[str]:
    """Return the parts, such as "boq", without which an option does nothing, by what it `needs`.

    Of several needs it is the last, the narrowest; none where the help page's title is the part.
    """
    ways = [way.partition("=")[2] for way in field.metadata[declared.NEEDS].split(",")[-1].split(" or ")]
    parts = [name for words in ways for name in filter(None, words.split("|"))]
    return [] if parts == [field.metadata[declared.TOPIC]] else parts


def _add_flag(
    parser: argparse._ActionsContainer, field: dataclasses.Field[Any], hint: Any, help: str, *, required: bool
) -> None:
    item, count = item_type(hint)
    settings: dict[str, Any] = {"help": help.replace("%", "%%")}
    if item is bool:
        parser.add_argument(f"--{field.name}", action=argparse.BooleanOptionalAction, **settings)
        return
    settings |= {"type": _reader(field, item), "nargs": count, "metavar": metavar_of(field, hint)}
    parser.add_argument(f"--{field.name}", required=required, **settings)


def metavar_of(field: dataclasses.Field[Any], hint: Any) -> str | tuple[str, ...]:
    """Return the placeholder of an option's value in the help: its choices, where they are few."""
    choices, metavar = field.metadata[declared.CHOICES], field.metadata[declared.METAVAR]
    item, count = item_type(hint)
    if choices is not None and metavar is None and len(_braced(choices)) <= _SHORT:
        return _braced(choices)
    words = (metavar or {int: "N", float: "X", Path: "PATH"}.get(item, "NAME")).split()
    return tuple(words) if isinstance(count, int) and len(words) == count else words[0]


def _braced(choices: Sequence[Any]) -> str:
    return "{" + ",".join(map(str, choices)) + "}"


def item_type(hint: Any) -> tuple[type, int | str | None]:
    """Split an annotation into the type of one value and argparse's `nargs`."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        [hint] = [part for part in typing.get_args(hint) if part is not type(None)]
    if typing.get_origin(hint) is tuple:
        items = typing.get_args(hint)
        return items[0], "+" if items[-1] is Ellipsis else len(items)
    return hint, None


def _reader(field: dataclasses.Field[Any], item: type) -> Callable[[str], Any]:
    """Return what argparse turns a word into a value with."""
    return lambda text: _one(field, text, item)


def _value(field: dataclasses.Field[Any], value: Any, hint: Any) -> Any:
    """Give a value from a file or a checkpoint the type that its dataclass declares."""
    item, count = item_type(hint)
    if value is None:
        return None
    if count is None:
        return _one(field, value, item)
    if isinstance(value, Mapping) and field.metadata[declared.ARGUMENTS_OF]:
        value = as_words(value)
        if not value:
            return None
    if isinstance(value, str):
        value = (value,)  # as an earlier version stored it, or Python's user wrote
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise OptionError(
            field.name,
            f"--{field.name} {shown(value)}: one value. Expected a list of {_said(item).removeprefix('a ')}s",
        )
    if isinstance(count, int) and len(value) != count:
        raise OptionError(field.name, f"--{field.name} {shown(value)}: {len(value)} values. Expected {count}")
    return tuple(_one(field, part, item) for part in value)


def _one(field: dataclasses.Field[Any], value: Any, item: type) -> Any:
    """Return one value as the type `item`; raises OptionError where it cannot be one."""
    try:
        if item is bool:
            return value if isinstance(value, bool) else _TRUTH[str(value).lower()]
        if isinstance(value, bool | Mapping | list | tuple | bytes):
            raise ValueError
        if item is int and isinstance(value, float) and not value.is_integer():
            raise ValueError
        # Digits that nobody types stand for an attack or a mistake, and take quadratic time.
        if item in (int, float) and len(str(value)) > 400:
            raise ValueError
        return item(value)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        expected = _said(item)
        raise OptionError(
            field.name, f"--{field.name} {shown(value)}: is not {expected}. Expected {expected}"
        ) from error


def _said(item: type) -> str:
    return _WORDS.get(item, "a word")
