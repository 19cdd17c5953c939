"""What a command takes: option dataclasses, made into one parser and one help for all commands.

A command declares a `Command`, and `parse` does the rest: flags, `--config file.yaml`, `--help`, mistakes told in one
line. What comes out is what the user gave, by flat name; `flags.build_options` makes dataclasses of it.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from vgbench import invocation
from vgbench.arguments import as_words
from vgbench.errors import UserError, did_you_mean
from vgbench.flags import add_flags
from vgbench.plain_yaml import read_yaml


@dataclass(frozen=True)
class Group:
    """Some of a command's options.

    Attributes:
        options: the dataclass.
        only, without: some of its options; all of them if both are None.
        required: which of them have to be given, beside those without a default.
        helps: what some of them mean here, instead of their own help.
    """

    options: type[Any]
    only: Collection[str] | None = None
    without: Collection[str] = ()
    required: Collection[str] = ()
    helps: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Command:
    """A command, or one of the commands within it.

    Attributes:
        program: as the user calls it, "python3 train.py" or "vgbench datasets verify".
        description: what it does; after an empty line, examples.
        groups: its options.
        commands: the commands within it, by name; then it has no options of its own.
        short: where its `--help` lists the common options alone, its name: "train" or "eval".
    """

    program: str
    description: str
    groups: Sequence[Group] = ()
    commands: Mapping[str, Command] = field(default_factory=dict)
    short: str = ""


@dataclass(frozen=True)
class Given:
    """What the user gave.

    Attributes:
        command: its name within the command, "" where there are none.
        typed: options of the command line by flat name.
        from_file: options of `--config`.
        config: that file.
    """

    command: str
    typed: Mapping[str, Any]
    from_file: Mapping[str, Any] = field(default_factory=dict)
    config: Path | None = None

    @property
    def values(self) -> dict[str, Any]:
        """What counts: the command line, else the file."""
        return {**self.from_file, **self.typed}


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose complaints are one line that names a remedy.

    Attributes:
        more: where to read on, said at the end of every complaint.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, **settings})
        self.more = f"See {self.prog} --help"

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self._clearer(message)} ({self.more})")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As ArgumentParser does; a misspelt option is told before the one that is missing because of it."""
        words = list(sys.argv[1:] if args is None else args)
        if self._subparsers is None and not {"-h", "--help"} & set(words):
            self._refuse_unknown(words)
        return super().parse_known_args(words, namespace)

    def _refuse_unknown(self, words: Sequence[str]) -> None:
        for word in itertools.takewhile(lambda word: word != "--", words):
            known = word.partition("=")[0] in self._option_string_actions
            if word.startswith("--") and not known and " " not in word:
                self.error(f"unrecognized arguments: {word}")

    def _clearer(self, message: str) -> str:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown == message:
            return self._with_near_choice(message)
        word = unknown.split()[0] if unknown.split() else ""
        if not word:
            return "an empty word stands between the options. Expected none (a blank after the \\ that ends a line?)"
        if not word.startswith("-"):
            return f"{word}: stands without an option. Expected --option value"
        flag = word.split("=")[0]
        return f"unknown option {flag}" + did_you_mean(flag, self._option_string_actions).replace(" Did", "; did", 1)

    def _with_near_choice(self, message: str) -> str:
        message = message.removeprefix("argument ")  # argparse says "argument --x: expected ..."
        found = re.fullmatch(r"(\S+): invalid choice: '(.*)' \(choose from (.*)\)", message, flags=re.DOTALL)
        if not found:
            return message
        name, value, known = found.groups()
        choices = [word.strip(" '") for word in known.split(",")]
        return f"{name} {value}: not known.{did_you_mean(value, choices)} Expected one of {', '.join(choices)}"


def described(name: str, text: str) -> OneLineParser:
    """Return a parser for a command that adds its options itself.

    Args:
        name: of the command, "export".
        text: what it does; after an empty line, examples as they are typed in a clone.
    """
    title, _, examples = invocation.as_called(name, text).strip().partition("\n\n")
    return OneLineParser(
        prog=invocation.command(name), description=title, epilog=f"examples:\n{examples}" if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip


def parse(command: Command, arguments: Sequence[str] | None = None) -> Given:
    """Read a command line, and the file of options that it names.

    Args:
        command: what may stand there.
        arguments: the words after the command; those of this process if None.

    Raises:
        UserError: an option, a value or a YAML key that nobody declared.
        SystemExit: after `--help`.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if command.commands:
        return _parse_within(command, words)
    _check_words(words)
    parser = make_parser(command)
    typed = vars(parser.parse_args(words))
    config = typed.pop("config", None)
    if config is None:
        return Given("", typed)
    return Given("", typed, _read_config(config, parser), config)


def make_parser(command: Command) -> argparse.ArgumentParser:
    """Return the parser of a command without commands; what is not given is absent from what it returns."""
    from vgbench.cli.help import HelpAction  # which itself makes parsers

    parser = OneLineParser(prog=command.program, argument_default=argparse.SUPPRESS, add_help=False)
    parser.more = f"{command.program} --help all lists every option"
    parser.add_argument("-h", "--help", action=HelpAction, command=command)
    parser.add_argument("--config", type=Path, metavar="FILE.yaml")
    for group in command.groups:
        add_flags(
            parser, group.options, only=group.only, without=group.without, required=group.required, helps=group.helps
        )
    return parser


def _parse_within(command: Command, words: list[str]) -> Given:
    from vgbench.cli.help import commands_help

    name, rest = (words[0], words[1:]) if words else ("", [])
    if name in ("-h", "--help", "help"):
        print(commands_help(command))
        raise SystemExit(0)
    if name not in command.commands:
        what = f"{command.program} {name}: no such command.{did_you_mean(name, command.commands)}"
        if not name:
            what = f"{command.program}: a command is missing."
        raise UserError(f"{what} Expected one of {', '.join(command.commands)}; see {command.program} --help")
    given = parse(command.commands[name], rest)
    return Given(name, given.typed, given.from_file, given.config)


def _check_words(words: Sequence[str]) -> None:
    for word in words:
        flag, equals, value = word.partition("=")
        if flag.startswith("--") and equals and value == "--":  # which argparse takes for the end of the options
            raise UserError(f"{flag} {value}: is no value. Expected {flag} VALUE")


def _read_config(path: Path, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Read a YAML file of options by handing it to the parser as flags, so that both obey the same rules."""
    try:
        content = read_yaml(path) or {}
    except UserError as error:
        raise UserError(f"--config {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"--config {path}: expected `option: value` lines, found {type(content).__name__}")
    try:
        wanted = {str(key): value for key, value in content.items() if value is not None}
        words = [word for key, value in wanted.items() for word in _as_flags(key, value, parser)]
        _check_words(words)
        required = [action for action in parser._actions if action.required]
        for action in required:  # on the command line, if not here
            action.required = False
        found = vars(parser.parse_args(words))
        for action in required:
            action.required = True
        return found
    except UserError as error:
        raise UserError(f"--config {path}: {error}") from error


def _as_flags(key: str, value: Any, parser: argparse.ArgumentParser) -> list[str]:
    flag = f"--{key}"
    action = parser._option_string_actions.get(flag)
    if key in ("config", "help"):
        raise UserError(f"{key}: cannot stand in a file of options")
    if isinstance(value, bool) and isinstance(action, argparse.BooleanOptionalAction):
        return [flag if value else f"--no-{key}"]
    if isinstance(value, bool):  # YAML reads a bare on or off so
        return [f"{flag}={'on' if value else 'off'}"]
    if isinstance(value, dict) and key.endswith("_args"):
        value = as_words(value)
        if not value:
            return []
    several = isinstance(value, list)
    if isinstance(value, dict | set) or (several and action is not None and action.nargs is None):
        raise UserError(f"{key}: expected one value, found {value}")
    if several and not all(isinstance(one, str | int | float | bool) for one in value):
        raise UserError(f"{key}: expected a list of words or numbers, found {value}")
    return [flag, *map(str, value)] if several else [f"{flag}={value}"]
