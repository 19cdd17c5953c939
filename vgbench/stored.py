"""What a file says of options and names, checked like a user's before anything is made of it.

A checkpoint may come from anybody. It can name what the tables of this project name, and nothing else: code of a user's
own runs only where the user typed its name in this very call. Where a run is written is never read from a file.
"""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from vgbench import options as declared
from vgbench.errors import UserError
from vgbench.flags import item_type

# A network of timm by the name that it has there: no file, no hub.
_OF_TIMM = re.compile(r"timm:[\w.-]+")
_MOST_WORDS = 10_000
_LONGEST = 1000
_LARGEST = 2**31


def own_names(given: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of a user's own code, package.module:Name, among options that the user set in this call."""
    words: list[Any] = []
    for value in given.values():
        words += value if isinstance(value, (list, tuple)) else [value]
    return frozenset(word for word in words if isinstance(word, str) and names_own_code(word))


def names_own_code(text: str) -> bool:
    """Whether a text would be taken for code outside the tables; an argument, name=value, would not."""
    return ":" in text.partition("=")[0] and not _OF_TIMM.fullmatch(text)


def check_name(flag: str, name: str, own: Collection[str]) -> None:
    """Raise UserError if a file asks for code that the user did not ask for.

    Args:
        flag: of the option that the file sets.
        own: what the user typed, as `own_names`.
    """
    if names_own_code(name) and name not in own:
        raise UserError(
            f"--{flag} {name!r}: is code outside this project, which a file cannot ask for. Expected a name of the "
            f"tables; if you know and trust that code, type it too: --own_code {name}"
        )


def options_of_file(
    source: Path | str, stored: Any, groups: Iterable[type[Any]], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the options of a file that are declared, each of its declared type; what nobody declared is passed over.

    Args:
        source: the file, for messages.
        stored: what it holds: a mapping of flat names to plain values.
        groups: the option dataclasses.
        given: what the user set in this call, which the file cannot change.

    Raises:
        UserError: it is no mapping, a value is not of its option's type, or it names code outside the tables.
    """
    if not isinstance(stored, Mapping):
        raise UserError(f"{source}: its options are a {type(stored).__name__}. Expected a checkpoint of train.py")
    own = own_names(given)
    checked: dict[str, Any] = {}
    for group in groups:
        hints, this_run = typing.get_type_hints(group), declared.marked(declared.Mark.THIS_RUN, group)
        for field in dataclasses.fields(group):
            # Where a run writes, what it starts from and whose code it may run: the user says that, never a file.
            if field.name in stored and field.name not in given and field.name not in this_run:
                try:
                    checked[field.name] = checked_value(
                        field.name, stored[field.name], hints[field.name], own, field.metadata.get(declared.CHOICES)
                    )
                except UserError as error:
                    raise UserError(f"{source}: {error}") from error
    return checked


def checked_value(
    flag: str, value: Any, hint: Any, own: Collection[str] = (), choices: Collection[str] | None = None
) -> Any:
    """Return a stored value if it is of a declared type; raises UserError if it is not, or names code as `check_name`.

    Args:
        flag: the option's name.
        hint: `int`, `float`, `str`, `bool`, `Path`, any of them `| None`, or a tuple of one of them.
    """
    if value is None and type(None) in typing.get_args(hint):
        return None
    item, count = item_type(hint)
    if count == "+" and isinstance(value, str):
        value = (value,)  # as an earlier version stored an option that then had one value
    if count is None:
        _check_item(flag, value, item, own, choices)
        return value
    if not isinstance(value, (list, tuple)) or len(value) > _MOST_WORDS or count not in ("+", len(value)) or not value:
        raise UserError(f"--{flag} {_short(value)}: not its values. Expected {_counted(count)} of {item.__name__}")
    for word in value:
        _check_item(flag, word, item, own, choices)
    return tuple(value)


def _check_item(flag: str, value: Any, item: type, own: Collection[str], choices: Collection[str] | None) -> None:
    kinds = {int: (int,), float: (int, float), str: (str,), Path: (str, Path), bool: (bool,)}[item]
    if not isinstance(value, kinds) or (isinstance(value, bool) and item is not bool):
        raise UserError(f"--{flag} {_short(value)}: is a {type(value).__name__}. Expected {item.__name__}")
    if (isinstance(value, float) and math.isnan(value)) or (isinstance(value, int) and abs(value) > _LARGEST):
        raise UserError(f"--{flag} {_short(value)}: out of range. Expected a number that a run can use")
    if choices is not None and value not in choices:
        raise UserError(f"--{flag} {_short(value)}: not known. Expected one of {', '.join(choices)}")
    if isinstance(value, str) and item is str:
        check_name(flag, value, own)
    if isinstance(value, (str, Path)) and ("\0" in str(value) or len(str(value)) > _LONGEST):
        raise UserError(f"--{flag} {_short(value)}: holds a zero byte, or is too long. Expected a word or a path")


def _counted(count: int | str) -> str:
    return "one or more" if count == "+" else str(count)


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # a number of too many digits, or what nests too deep
        return f"(a {type(value).__name__})"
    return text if len(text) <= 60 else text[:57] + "..."
