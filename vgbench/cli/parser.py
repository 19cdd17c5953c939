"""Every option of train.py and eval.py as flags and YAML keys; vgbench.runs.settings composes their dataclasses.

A value comes from the first of: the command line, `--config file.yaml`, the checkpoint that `--resume` names, what
another option implies, the default (`vgbench.precedence`). What nobody declared is refused, on the command line and in
the YAML file alike.
"""

from __future__ import annotations

from collections.abc import Sequence

from vgbench.cli.commands import Command, Group, parse
from vgbench.invocation import command
from vgbench.precedence import GivenValues
from vgbench.runs.resolving import resolve
from vgbench.runs.settings import EvalSettings, Settings, TrainSettings, flat, groups_of

__all__ = ["EvalSettings", "Settings", "TrainSettings", "flat", "read_command_line", "resolve"]


def read_command_line(
    settings_type: type[Settings], description: str, argv: Sequence[str] | None = None
) -> GivenValues:
    """Return the options that the user set, on the command line or in `--config`, by flat name.

    Args:
        settings_type: which command's.
        description: of the command, for its help; after an empty line, examples.
        argv: the words after the command; those of this process if None.

    Raises:
        UserError: an option, a value or a YAML key that nobody declared.
    """
    groups = tuple(Group(kind) for kind in groups_of(settings_type).values())
    name = "train" if issubclass(settings_type, TrainSettings) else "eval"
    given = parse(Command(command(name), description, groups, short=name), argv)
    in_file = given.from_file.keys() - given.typed.keys()
    return GivenValues(given.values, given.config, in_file)
