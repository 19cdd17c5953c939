"""Whether the parts that options name exist and have the keywords that are given, before hours are spent."""

from __future__ import annotations

import dataclasses
from typing import Any

from vgbench.options import ARGUMENTS_OF, OptionError, table_of
from vgbench.runs.settings import Settings, TrainSettings
from vgbench.training.modes.places_options import PlacesOptions


def check_parts(settings: Settings) -> None:
    """Import what a user named of their own, and check `--<part>_args` against the signatures.

    The names of tables were checked when the settings were made, without importing anything.

    Raises:
        UserError: it cannot be imported, or has no such keywords.
    """
    of_checkpoint = settings.run.resume is not None
    if isinstance(settings, TrainSettings):
        of_checkpoint |= settings.training.start_from is not None
    for group in dataclasses.fields(settings):
        # A checkpoint's network need not be made by names.
        if group.name != "network" or not of_checkpoint:
            _check_group(getattr(settings, group.name))
    if isinstance(settings, TrainSettings) and settings.training.train_mode == "places":
        _check_metric_loss(settings.places)


def _check_group(group: Any) -> None:
    fields = {field.name: field for field in dataclasses.fields(group)}
    for field in fields.values():
        table, named = table_of(field), getattr(group, field.name)
        if table is not None and named is not None:
            for name in _names(named):
                problem = table.unknown(name)
                if problem and name != field.default:
                    raise OptionError(field.name, f"--{field.name} {name}: {problem}")
                if table.is_own(name):
                    table.resolve(name)
        of = field.metadata[ARGUMENTS_OF]
        table = table_of(fields[of]) if of else None
        if table is not None and named is not None:
            table.keywords_of_each(of, _names(getattr(group, of)), named)


def _names(value: Any) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else () if value is None else (value,)


def _check_metric_loss(options: PlacesOptions) -> None:
    from vgbench.training.losses.metric import check_metric_loss  # its library is slow to import

    check_metric_loss(options.loss, options.loss_args or (), options.miner, options.miner_args or ())
