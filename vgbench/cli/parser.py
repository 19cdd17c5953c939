"""Every option of train.py and eval.py as flags and YAML keys; vgbench.runs.settings composes their dataclasses.

A value comes from the first of: the command line, `--config file.yaml`, the checkpoint that `--resume` names, the
default. What nobody declared is refused, on the command line and in the YAML file alike.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from vgbench.errors import UserError
from vgbench.flags import add_flags
from vgbench.runs.settings import EvalSettings, Settings, TrainSettings, flat, groups_of, resolve

__all__ = ["EvalSettings", "Settings", "TrainSettings", "flat", "read_command_line", "resolve"]


def read_command_line(
    settings_type: type[Settings], description: str, argv: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return the options that the user set, on the command line or in `--config`, by flat name.

    Raises:
        UserError: an option, a value or a YAML key that no room declared.
    """
    parser = _build_parser(settings_type, description)
    typed = vars(parser.parse_args(argv))
    config = typed.pop("config", None)
    return (_read_config(Path(config), parser) if config else {}) | typed


class _OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose complaints are one line that names a remedy."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            flag = unknown.split()[0].split("=")[0]
            close = difflib.get_close_matches(flag, self._option_string_actions, n=1)
            message = f"unknown option {flag}" + (f"; did you mean {close[0]}?" if close else "")
        raise UserError(f"{message} (python3 {self.prog} --help lists every option)")


def _build_parser(settings_type: type[Settings], description: str) -> argparse.ArgumentParser:
    parser = _OneLineParser(
        description=description,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE.yaml", help="read options from a YAML file; flags typed here win")
    for name, group_type in groups_of(settings_type).items():
        add_flags(parser.add_argument_group(name, (group_type.__doc__ or "").strip().splitlines()[0]), group_type)
    return parser


def _read_config(path: Path, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Read a YAML file of options by handing it to the parser as flags, so that both obey the same rules."""
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"--config {path}: cannot be read as YAML ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"--config {path}: expected `option: value` lines, found {type(content).__name__}")
    try:
        wanted = {key: value for key, value in content.items() if value is not None}
        arguments = [word for key, value in wanted.items() for word in _as_flags(str(key), value, parser)]
        return vars(parser.parse_args(arguments))
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
    if isinstance(value, dict) or (isinstance(value, list) and action is not None and action.nargs is None):
        raise UserError(f"{key}: expected one value, found {value}")
    if isinstance(value, list):
        return [flag, *map(str, value)]
    return [f"{flag}={value}"]
