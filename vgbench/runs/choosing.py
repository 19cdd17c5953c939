"""What a training or a test runs with: what was given, else what a checkpoint or another option says, else defaults."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vgbench.errors import UserError
from vgbench.models.options import check_same_network
from vgbench.models.weights import read_checkpoint
from vgbench.runs.folder import to_test, to_train_on
from vgbench.runs.networks import method_defaults, options_to_resume, options_to_test
from vgbench.runs.settings import EvalSettings, Settings, TrainSettings, groups_of, resolve
from vgbench.runs.training import own_reranker
from vgbench.stored import own_names
from vgbench.training.start import start_options


def train_settings(given: Mapping[str, Any]) -> TrainSettings:
    """Return what `train` runs with.

    Args:
        given: options by the names of train.py's flags; `resume` may name a checkpoint or the folder of a run.

    Raises:
        UserError: no such option, a value out of its range, or one that does nothing beside the others.
    """
    given = _checked(TrainSettings, given)
    if given.get("resume") is not None:
        given["resume"] = to_train_on(Path(given["resume"]))
    stored = options_to_resume(given)
    known = stored | method_defaults(given) | start_options(given)
    settings = resolve(TrainSettings, given, known | own_reranker({**known, **given}))
    if stored and settings.training.dry_run:
        raise UserError(f"--dry_run: {settings.run.resume} is a whole run. Expected no --resume of one; leave it out")
    return settings


def eval_settings(given: Mapping[str, Any]) -> EvalSettings:
    """Return what `evaluate` runs with; arguments and errors as of `train_settings`, with the flags of eval.py."""
    given = _checked(EvalSettings, given)
    checkpoint: Mapping[str, Any] = {}
    if given.get("resume") is not None:
        given["resume"] = to_test(Path(given["resume"]))
        checkpoint = read_checkpoint(given["resume"])
    settings = resolve(EvalSettings, given, options_to_test(checkpoint, given) | method_defaults(given))
    config = checkpoint.get("network_config")
    if isinstance(config, Mapping):
        check_same_network(given["resume"], config, given, "--resume")
    return settings


def _checked(settings_type: type[Settings], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the options, with the code of the user's own that they name; UserError for unknown names."""
    known = [name for group in groups_of(settings_type).values() for name in _names(group)]
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise UserError(f"option {name}: not known.{hint} Expected a name that `vgbench train --help` lists")
    own = own_names(given)
    return {**given, "own_code": tuple(sorted(own))} if own else dict(given)


def _names(group: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(group)]
