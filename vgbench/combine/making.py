"""From a command of `combine` and its options to the checkpoint that it writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vgbench import __version__
from vgbench.combine.ensemble import ensemble
from vgbench.combine.files import check_files, data_options, taken_over
from vgbench.combine.options import EnsembleOptions, SoupOptions, WhitenOptions
from vgbench.combine.soup import soup
from vgbench.combine.whiten import whiten
from vgbench.data import DataOptions
from vgbench.data.augment import AugmentOptions
from vgbench.flags import build_options, plain
from vgbench.models.network_file import read_network_file
from vgbench.models.weights import check_finite
from vgbench.options import check_needs
from vgbench.retrieval import EvalOptions
from vgbench.runtime import Inference, RuntimeOptions, resolve_runtime
from vgbench.stored import own_names
from vgbench.training.checkpoint import TAKEN_OVER, save_checkpoint


def make(command: str, values: Mapping[str, Any]) -> None:
    """Combine checkpoints and write one.

    Args:
        command: "soup", "ensemble" or "whiten".
        values: what the user gave, by flat name; `checkpoints` and `output` among it.

    Raises:
        UserError: a file or an option that cannot be.
    """
    output = values["output"]
    check_files(command, values["checkpoints"], output)
    first = read_network_file(values["checkpoints"][0], own_names(values)).content
    options = taken_over(values["checkpoints"][0], first, values)
    content = _made(command, values, data_options(values, options))
    check_finite(content["model_state_dict"])
    # From the first one, so that eval.py needs no flags.
    options |= {name: values[name] for name in TAKEN_OVER if name in values}
    kept = {name: plain(value) for name, value in options.items()}
    save_checkpoint(output, {**content, "options": kept, "version": __version__})


def _made(command: str, values: Mapping[str, Any], data: DataOptions) -> dict[str, Any]:
    own = own_names(values)
    if command == "ensemble":
        return ensemble(build_options(EnsembleOptions, values), data.resize, own)
    runtime = resolve_runtime(build_options(RuntimeOptions, values))
    if command == "soup":
        return soup(build_options(SoupOptions, values), data, runtime, own)
    options, augmentation = whitening_options(values)
    batch_size = values.get("infer_batch_size", EvalOptions.infer_batch_size)
    inference = Inference(data.resize, batch_size, data.workers, runtime)
    return whiten(values["checkpoints"][0], options, augmentation, data, inference, own)


def whitening_options(values: Mapping[str, Any]) -> tuple[WhitenOptions, AugmentOptions]:
    """Return what a whitening is learned with; raises UserError."""
    options, augmentation = build_options(WhitenOptions, values), build_options(AugmentOptions, values)
    check_needs([options, augmentation], values)
    return options, augmentation
