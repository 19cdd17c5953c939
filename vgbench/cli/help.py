"""`--help`: what people use on one screen; `--help all`, `--help <topic>` and `--help <option>` the rest."""

from __future__ import annotations

import argparse
import dataclasses
import re
import shutil
import textwrap
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vgbench.cli.commands import Command, Group
from vgbench.errors import UserError, did_you_mean
from vgbench.flags import help_of, metavar_of
from vgbench.options import COMMON, REGISTRY, TOPIC, table_of

Field = dataclasses.Field[Any]
_NAMES = 30  # columns of the names; the text stands right of them


class HelpAction(argparse.Action):
    """`--help [TOPIC]`: prints a page and ends."""

    def __init__(self, option_strings: Sequence[str], dest: str, command: Command, **more: Any) -> None:
        super().__init__(option_strings, dest, nargs="?", default=argparse.SUPPRESS, metavar="TOPIC")
        self.command = command

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        print(page(self.command, str(values or "")))
        parser.exit()


def page(command: Command, topic: str = "") -> str:
    """Return a page of help.

    Args:
        topic: "" for what people use, "all", a topic, an option, or a word of options' help, such as "salad".

    Raises:
        UserError: there is no such topic.
    """
    fields = list(_fields(command))
    topics = list(dict.fromkeys(field.metadata[TOPIC] for _, field, _ in fields))
    topic = topic.lstrip("-")
    by_name = {field.name: (group, field, hint) for group, field, hint in fields}
    details = [_details(*by_name[topic])] if topic in by_name else []
    if topic in topics:
        details.append(_section(topic, [one for one in fields if one[1].metadata[TOPIC] == topic]))
    if details:
        return "\n\n".join(details)
    mentioning = [one for one in fields if topic in re.split(r"[^\w]+", help_of(one[1]))]
    if topic not in ("", "all") and mentioning:
        return _section(topic, mentioning)
    if topic not in ("", "all"):
        known = ["all", *topics, *by_name]
        raise UserError(
            f"--help {topic}: no such topic.{did_you_mean(topic, known)} Expected all, {', '.join(topics)}, or the "
            "name of an option"
        )
    short = bool(command.short) and topic == ""
    chosen = [one for one in fields if one[1].metadata[COMMON] in (True, command.short) or not short]
    text = [command.description.strip(), ""]
    text.append(_line("--config FILE.yaml", "options from a YAML file; those typed here count first", _width()))
    text += [] if short else [""]
    for name in topics:
        some = [one for one in chosen if one[1].metadata[TOPIC] == name]
        if some:
            text += [_section("" if short else name, some, short=short)] + ([] if short else [""])
    if short:
        rest = len(fields) - len(chosen)
        more = (
            "Where names are listed, your own package.module:Class is one too; --<option>_args NAME=VALUE ... sets its "
            f"keywords. {rest} more options: --help all, --help <option>, or --help <topic> of: {', '.join(topics)}."
        )
        text += textwrap.wrap(more, _width())
    return "\n".join(text)


def commands_help(command: Command) -> str:
    """Return the help of a command that has commands within it."""
    title, _, examples = command.description.strip().partition("\n\n")
    width = max(map(len, command.commands)) + 2
    lines = [f"  {name:<{width}}{one.description.strip().splitlines()[0]}" for name, one in command.commands.items()]
    shown = ["", "examples:", examples] if examples else []
    return "\n".join([title, "", "commands:", *lines, *shown, "", f"{command.program} COMMAND --help says more."])


def _fields(command: Command) -> Iterator[tuple[Group, Field, Any]]:
    for group in command.groups:
        hints = typing.get_type_hints(group.options)
        for field in dataclasses.fields(group.options):
            if field.name not in group.without and (group.only is None or field.name in group.only):
                yield group, field, hints[field.name]


def _section(topic: str, fields: Sequence[tuple[Group, Field, Any]], *, short: bool = False) -> str:
    width = _width()
    lines = [f"{topic}:"] if topic else []
    for group, field, hint in fields:
        text = group.helps.get(field.name) or help_of(field, short=short)
        required = field.default is dataclasses.MISSING or field.name in group.required
        lines.append(_line(_flag(field, hint, short=short), text + (" (required)" if required else ""), width))
    return "\n".join(lines)


def _flag(field: Field, hint: Any, *, short: bool = False) -> str:
    """Return an option as it is typed: `--resize H W`."""
    name = f"--{field.name}"
    if hint is bool:
        return f"{name}, --no-{field.name}" if field.default is True else name
    metavar = metavar_of(field, hint)
    if isinstance(metavar, tuple):
        return f"{name} {' '.join(metavar)}"
    several = " ..." if typing.get_origin(hint) is tuple or "tuple" in str(hint) else ""
    return f"{name} {metavar}{several}"


def _line(names: str, text: str, width: int) -> str:
    indent = " " * _NAMES
    lines = textwrap.wrap(text, max(width - _NAMES, 30), break_long_words=False, break_on_hyphens=False) or [""]
    head = f"  {names}"
    if len(head) + 1 < _NAMES:
        return "\n".join([f"{head:<{_NAMES}}{lines[0]}", *(indent + line for line in lines[1:])])
    return "\n".join([head, *(indent + line for line in lines)])


def _details(group: Group, field: Field, hint: Any) -> str:
    """Return everything about one option: also what it needs, and the names of its table one per line."""
    lines = [_line(_flag(field, hint), group.helps.get(field.name) or help_of(field, short=True), _width())]
    needs = [need for need in field.metadata["needs"].split(",") if need]
    if needs:
        said = [f"--{need.replace('=', ' ').replace('|', ' or ')}" for need in needs]
        lines.append(f"    has an effect only with {' and '.join(said)}")
    table = table_of(field) if field.metadata[REGISTRY] else None
    names = list(table) if table is not None else _library_names(field.name)
    if names:
        lines += ["", *textwrap.wrap(", ".join(names), _width(), initial_indent="    ", subsequent_indent="    ")]
    return "\n".join(lines)


def _library_names(option: str) -> list[str]:
    """Return the names that another library, or a table that loads networks, gives to an option."""
    if option not in _LIBRARIES:
        return []
    return _LIBRARIES[option]()


def _losses() -> list[str]:
    from vgbench.training.losses.metric import loss_names

    return loss_names()


def _miners() -> list[str]:
    from vgbench.training.losses.metric import miner_names

    return miner_names()


def _methods() -> list[str]:
    from vgbench.models.releases import RELEASES

    return list(RELEASES)


_LIBRARIES: dict[str, Callable[[], list[str]]] = {"loss": _losses, "miner": _miners, "method": _methods}


def _width() -> int:
    return max(60, min(shutil.get_terminal_size((110, 40)).columns, 120))
