"""What a training or a test runs with: what was given, else what a checkpoint or another option says, else defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets_vg.catalog import KNOWN
from vgbench.errors import UserError, did_you_mean
from vgbench.models.from_options import check_same_network
from vgbench.models.weights import read_checkpoint
from vgbench.options import option_names
from vgbench.precedence import GivenValues
from vgbench.runs.folder import to_test, to_train_on
from vgbench.runs.networks import method_defaults, options_to_resume, options_to_test
from vgbench.runs.of_sequences import check_sequences
from vgbench.runs.parts import check_parts
from vgbench.runs.resolving import resolve
from vgbench.runs.settings import EvalSettings, Settings, TrainSettings, groups_of
from vgbench.runs.training import own_codes, own_reranker, unit_length
from vgbench.stored import own_names
from vgbench.training.start import start_options

_SAYS_WHAT_IS_RIGHT = ("threshold", "val_positive_dist_threshold", "frame_tolerance", "ground_truth")


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
    known = stored | start_options(given)
    chosen = {**known, **given}
    implied = method_defaults(given) | own_reranker(chosen) | own_codes(chosen) | unit_length(chosen)
    settings = resolve(TrainSettings, given, known, implied)
    check_parts(settings)
    check_sequences(settings)
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
    stored = options_to_test(checkpoint, given)
    chosen = {**stored, **given}
    implied = method_defaults(given) | own_codes(chosen) | field_threshold(chosen, given)
    settings = resolve(EvalSettings, given, stored, implied)
    check_parts(settings)
    check_sequences(settings)
    config = checkpoint.get("network_config")
    if isinstance(config, Mapping):
        check_same_network(given["resume"], config, given, "--resume")
    return settings


def field_threshold(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the distance by which papers judge a dataset, where it is not the usual one and nobody asked for another.

    Args:
        values: all options that are set, by flat name.
        given: those of them that the user gave.
    """
    entry = KNOWN.get(str(values.get("dataset_name")))
    asked = any(given.get(name) is not None for name in _SAYS_WHAT_IS_RIGHT)
    return {} if entry is None or entry.threshold is None or asked else {"threshold": (entry.threshold,)}


def _checked(settings_type: type[Settings], given: Mapping[str, Any]) -> GivenValues:
    """Return a copy of the options, with the code of the user's own that they name; UserError for unknown names."""
    known = [name for group in groups_of(settings_type).values() for name in option_names(group)]
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known)
            raise UserError(f"option {name}: not known.{hint} Expected a name that `vgbench train --help all` lists")
    own = own_names(given)
    values = {**given, "own_code": tuple(sorted(own))} if own else given
    return GivenValues(values, getattr(given, "config", None), getattr(given, "in_file", ()))
