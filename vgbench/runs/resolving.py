"""From what was given and stored to settings: which value counts, whether it fits, and whether it may be trusted."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from vgbench.errors import UserError
from vgbench.flags import build_options
from vgbench.options import Mark, OptionError, check_needs, marked, shown, table_of
from vgbench.precedence import Chosen, Source, choose
from vgbench.runs.settings import Settings, groups_of

SettingsT = TypeVar("SettingsT", bound=Settings)


def resolve(
    settings_type: type[SettingsT],
    given: Mapping[str, Any],
    stored: Mapping[str, Any],
    implied: Mapping[str, Any] | None = None,
) -> SettingsT:
    """Build the settings: what the user gave, else what the checkpoint stored, else what is implied, else the defaults.

    Args:
        settings_type: which command's.
        given: as `read_command_line` returns it.
        stored: of a checkpoint, which may come from anybody.
        implied: what other options bring along.

    Raises:
        OptionError: a value is out of its range, does nothing beside the others, or names what there is not.
    """
    in_file: frozenset[str] = getattr(given, "in_file", frozenset())
    chosen = choose(
        {
            Source.COMMAND_LINE: {name: value for name, value in given.items() if name not in in_file},
            Source.FILE: {name: value for name, value in given.items() if name in in_file},
            Source.CHECKPOINT: _of_other_runs(settings_type, stored),
            Source.IMPLIED: implied or {},
        }
    )
    values = {name: one.value for name, one in chosen.items()}
    try:
        groups = _built(settings_type, values)
        check_needs(groups.values(), given)
        for group in groups.values():
            _check_own_code(group, chosen, given.get("own_code") or ())
    except OptionError as error:
        raise OptionError(error.option, _where(given, chosen.get(error.option)) + str(error)) from error
    except UserError as error:
        _built(settings_type, given)  # what the user gave alone is to blame, if it is
        raise UserError(f"{error} (with the options that the checkpoint brings)" if stored else str(error)) from error
    return settings_type(**groups)


def _built(settings_type: type[Settings], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: build_options(kind, values) for name, kind in groups_of(settings_type).items()}


def _of_other_runs(settings_type: type[Settings], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint stored, without what was of its own run alone: where it wrote, what it resumed."""
    own = marked(Mark.THIS_RUN, *groups_of(settings_type).values())
    return {name: value for name, value in stored.items() if name not in own}


def _check_own_code(group: Any, chosen: Mapping[str, Chosen], own: Collection[str]) -> None:
    """Refuse a `package.module:Name` that a checkpoint brings along: importing it runs it."""
    for field in dataclasses.fields(group):
        table, value = table_of(field), getattr(group, field.name)
        if table is None or value is None or field.name not in chosen or chosen[field.name].trusted:
            continue
        for name in value if isinstance(value, tuple) else (value,):
            if table.is_own(name) and name not in own:
                raise OptionError(
                    field.name,
                    f"names code to import, --{field.name} {shown(value)}. Expected you to name it yourself, if you "
                    f"trust it: --own_code {name}",
                )


def _where(given: Mapping[str, Any], chosen: Chosen | None) -> str:
    """Return the file that a value comes from, to stand before what is wrong with it."""
    if chosen is not None and chosen.source is Source.FILE:
        return f"--config {getattr(given, 'config', '')}: "
    if chosen is not None and chosen.source is Source.CHECKPOINT:
        return f"{given.get('resume') or given.get('start_from') or 'the checkpoint'}: "
    return ""
