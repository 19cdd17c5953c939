"""Make one network out of checkpoints; `eval.py --resume` loads it like any other.

python3 -m vgbench.combine soup --checkpoints a.pth b.pth c.pth --output soup.pth
python3 -m vgbench.combine soup --soup greedy --recall 1 --checkpoints a.pth b.pth --output soup.pth
python3 -m vgbench.combine ensemble --checkpoints a.pth b.pth --weights 2 1 --output both.pth
python3 -m vgbench.combine whiten --checkpoints a.pth --night 1 --output whitened.pth
"""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from vgbench import __version__
from vgbench.cli.exits import ended
from vgbench.combine.ensemble import EnsembleOptions, ensemble
from vgbench.combine.files import check_files, data_options, read_network_file, taken_over
from vgbench.combine.soup import BATCH_NORMS, BN_IMAGES, SOUPS, SoupOptions, soup
from vgbench.combine.whiten import NOT_OF_QUERIES, WhitenOptions, whiten
from vgbench.data import DataOptions
from vgbench.data.augment import AugmentOptions
from vgbench.errors import UserError
from vgbench.flags import add_flags, build_options, plain
from vgbench.invocation import command
from vgbench.models.ensemble import COMBINATIONS
from vgbench.models.weights import check_finite
from vgbench.options import check_needs
from vgbench.retrieval import EvalOptions
from vgbench.runtime import Inference, RuntimeOptions, resolve_runtime
from vgbench.stored import own_names
from vgbench.training.checkpoint import TAKEN_OVER, save_checkpoint

LOG = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 (a mistake, told in one line), 130 (interrupted)."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    return ended(lambda: _combine(arguments), "nothing was written")


def _combine(arguments: Sequence[str] | None) -> None:
    typed = _parser().parse_args(arguments)
    values = vars(typed)
    check_files(typed.command, typed.checkpoints, typed.output)
    first = read_network_file(typed.checkpoints[0], own_names(values))
    options = taken_over(typed.checkpoints[0], first, values)
    content = _made(typed.command, values, data_options(values, options))
    check_finite(content["model_state_dict"])
    # From the first one, so that eval.py needs no flags.
    options |= {name: values[name] for name in TAKEN_OVER if name in values}
    kept = {name: plain(value) for name, value in options.items()}
    save_checkpoint(typed.output, {**content, "options": kept, "version": __version__})
    LOG.info("%s: written; %s --resume=%s", typed.output, command("eval"), shlex.quote(str(typed.output)))


def check_options(command: str, words: Sequence[str]) -> None:
    """Refuse what `main` would refuse of a command's options but for the files; raises UserError."""
    values = vars(_parser().parse_args([command, *words, "--checkpoints", "a.pth", "--output", "b.pth"]))
    data_options(values, {})
    if command == "whiten":
        _whitening_options(values)


def _made(command: str, values: Mapping[str, Any], data: DataOptions) -> dict[str, Any]:
    own = own_names(values)
    if command == "ensemble":
        return ensemble(build_options(EnsembleOptions, values), data.resize, own)
    runtime = resolve_runtime(RuntimeOptions(device=values["device"], amp=values["amp"]))
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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}. See {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    """Return the parser; what is not typed is absent from what it returns, but for the machine's options."""
    title, _, examples = (__doc__ or "").partition("\n\n")
    parser = _Parser(
        prog="python3 -m vgbench.combine", description=title, epilog=f"examples:\n{examples}", allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")

    def command(name: str, help: str, files: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = commands.add_parser(
            name, help=help, description=help, argument_default=argparse.SUPPRESS, allow_abbrev=False
        )
        add = made.add_argument
        add("--checkpoints", type=Path, nargs="+", required=True, metavar="FILE", help=files)
        add("--output", type=Path, required=True, metavar="FILE", help="the checkpoint to write")
        add(
            "--own_code",
            nargs="+",
            metavar="NAME",
            help="code of your own, package.module:Class, that the files may use",
        )
        add("--resize", type=int, nargs=2, metavar=("H", "W"), help="of images, pixels (default: the first file's)")
        return made

    several = "two or more, of train.py or of combine"
    _add_soup(command("soup", "average the weights of networks of one architecture", several))
    _add_ensemble(command("ensemble", "put the descriptors of any networks together", several))
    _add_whiten(
        command("whiten", "add a linear layer to a network, learned from pairs of one place", "one, of either of them")
    )
    return parser


def _add_soup(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--soup", choices=SOUPS, help="all checkpoints, or those that lift val's recall, best first (default: uniform)")
    add("--recall", type=_count, metavar="N", help="greedy goes by val R@N (default: 1)")
    add("--batch_norm", choices=BATCH_NORMS,
        help=f"average BatchNorm's statistics too, which fits networks that are near each other, or reestimate them on "
             f"{BN_IMAGES} images of the train split (default: average)")  # fmt: skip
    add("--val_positive_dist_threshold", type=float, metavar="X", help="of a right prediction, metres")
    _add_images(parser, "val or train split")


def _add_ensemble(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--combine", choices=COMBINATIONS, help="side by side, or averaged (default: concat)")
    parser.add_argument("--weights", type=float, nargs="+", metavar="X", help="of each checkpoint (default: equal)")


def _add_whiten(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--train_positives_dist_threshold", type=float, metavar="X", help="of a pair, metres (default: 10)")
    add_flags(parser, WhitenOptions)
    _add_images(parser, "train split")
    group = parser.add_argument_group("augmentation", "Each query is seen once more, varied like this; 0 is off.")
    add_flags(group, AugmentOptions, without=NOT_OF_QUERIES)


def _add_images(parser: argparse.ArgumentParser, split: str) -> None:
    add = parser.add_argument
    add("--dataset_name", metavar="NAME", help=f"whose {split} (default: the first checkpoint's)")
    add("--datasets_folder", type=Path, metavar="FOLDER", help="default: $DATASETS_FOLDER or ./datasets")
    add("--num_workers", type=int, metavar="N", help="processes that decode images (default: 8)")
    add("--infer_batch_size", type=_count, metavar="N", help="images in one inference batch (default: 16)")
    add("--device", default="auto", choices=("auto", "cuda", "cpu"), help="default: a GPU if there is one")
    add("--amp", default="auto", choices=("auto", "bf16", "fp16", "off"), help="mixed precision")


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


_count.__name__ = "whole number from 1"
