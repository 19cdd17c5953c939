"""Make one network out of checkpoints; `eval.py --resume` loads it like any other.

python3 -m vgbench.combine soup --checkpoints a.pth b.pth c.pth --output soup.pth
python3 -m vgbench.combine soup --soup greedy --recall 1 --checkpoints a.pth b.pth --output soup.pth
python3 -m vgbench.combine ensemble --checkpoints a.pth b.pth --weights 2 1 --output both.pth
python3 -m vgbench.combine whiten --checkpoints a.pth --night 1 --output whitened.pth
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from vgbench import __version__
from vgbench.cli.commands import parse
from vgbench.cli.exits import ended
from vgbench.combine.commands import combine_command
from vgbench.combine.ensemble import ensemble
from vgbench.combine.files import check_files, data_options, read_network_file, taken_over
from vgbench.combine.options import EnsembleOptions, SoupOptions, WhitenOptions
from vgbench.combine.soup import soup
from vgbench.combine.whiten import whiten
from vgbench.data import DataOptions
from vgbench.data.augment import AugmentOptions
from vgbench.flags import build_options, plain
from vgbench.invocation import command
from vgbench.models.weights import check_finite
from vgbench.options import check_needs
from vgbench.retrieval import EvalOptions
from vgbench.runtime import Inference, RuntimeOptions, resolve_runtime
from vgbench.stored import own_names
from vgbench.training.checkpoint import TAKEN_OVER, save_checkpoint

LOG = logging.getLogger(__name__)
_PROGRAM = "python3 -m vgbench.combine"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 (a mistake, told in one line), 130 (interrupted)."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    return ended(lambda: _combine(arguments), "nothing was written")


def _combine(arguments: Sequence[str] | None) -> None:
    given = parse(combine_command(_PROGRAM, __doc__ or ""), arguments)
    values, output = given.values, given.values["output"]
    check_files(given.command, values["checkpoints"], output)
    first = read_network_file(values["checkpoints"][0], own_names(values))
    options = taken_over(values["checkpoints"][0], first, values)
    content = _made(given.command, values, data_options(values, options))
    check_finite(content["model_state_dict"])
    # From the first one, so that eval.py needs no flags.
    options |= {name: values[name] for name in TAKEN_OVER if name in values}
    kept = {name: plain(value) for name, value in options.items()}
    save_checkpoint(output, {**content, "options": kept, "version": __version__})
    LOG.info("%s: written; %s --resume=%s", output, command("eval"), shlex.quote(str(output)))


def check_options(command: str, words: Sequence[str]) -> None:
    """Refuse what `main` would refuse of a command's options but for the files; raises UserError."""
    words = [command, *words, "--checkpoints", "a.pth", "--output", "b.pth"]
    values = parse(combine_command(_PROGRAM, ""), words).values
    data_options(values, {})
    if command == "whiten":
        _whitening_options(values)
    else:
        build_options(SoupOptions if command == "soup" else EnsembleOptions, values)


def _made(command: str, values: Mapping[str, Any], data: DataOptions) -> dict[str, Any]:
    own = own_names(values)
    if command == "ensemble":
        return ensemble(build_options(EnsembleOptions, values), data.resize, own)
    runtime = resolve_runtime(build_options(RuntimeOptions, values))
    if command == "soup":
        return soup(build_options(SoupOptions, values), data, runtime, own)
    options, augmentation = _whitening_options(values)
    batch_size = values.get("infer_batch_size", EvalOptions.infer_batch_size)
    inference = Inference(data.resize, batch_size, data.num_workers, runtime)
    return whiten(values["checkpoints"][0], options, augmentation, data, inference, own)


def _whitening_options(values: Mapping[str, Any]) -> tuple[WhitenOptions, AugmentOptions]:
    options, augmentation = build_options(WhitenOptions, values), build_options(AugmentOptions, values)
    check_needs([options, augmentation], values)
    return options, augmentation
