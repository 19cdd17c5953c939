"""Make one network out of several checkpoints; `eval.py --resume` loads it like any other.

python3 -m vgbench.combine soup --checkpoints a.pth b.pth c.pth --output soup.pth
python3 -m vgbench.combine soup --soup greedy --recall 1 --checkpoints a.pth b.pth --output soup.pth
python3 -m vgbench.combine ensemble --checkpoints a.pth b.pth --weights 2 1 --output both.pth
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from vgbench import __version__
from vgbench.data import DataOptions, dataset_root, image_loader, read_split
from vgbench.errors import UserError
from vgbench.models import Network, load_state_dict, rebuild_network
from vgbench.models.ensemble import COMBINATIONS, build_ensemble
from vgbench.models.weights import extract_state_dict, read_checkpoint
from vgbench.randomness import numpy_stream
from vgbench.retrieval import EvalOptions, evaluate
from vgbench.runtime import Runtime, RuntimeOptions, resolve_runtime
from vgbench.training.checkpoint import TAKEN_OVER, save_checkpoint
from vgbench.training.soup import Soup, State, as_it_is, greedy_soup, reestimate_batch_norm, uniform_soup

LOG = logging.getLogger("vgbench")

SOUPS = ("uniform", "greedy")
BATCH_NORMS = ("average", "reestimate")
# Options that say how a network was trained and not what it is.
_OF_TRAINING = ("pretrain", "freeze", "freeze_te", "unfreeze_blocks")
_BN_IMAGES, _BN_BATCH = 1024, 16


@dataclass(frozen=True)
class SoupOptions:
    """What a soup is made of."""

    checkpoints: tuple[Path, ...]
    output: Path
    soup: str = "uniform"
    recall: int = 1
    batch_norm: str = "average"
    infer_batch_size: int = 16


@dataclass(frozen=True)
class EnsembleOptions:
    """What an ensemble is made of."""

    checkpoints: tuple[Path, ...]
    output: Path
    combine: str = "concat"
    weights: tuple[float, ...] | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 (a mistake, told in one line), 130 (interrupted)."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        typed = _parser().parse_args(arguments)
        values = vars(typed)
        _check_files(typed.checkpoints, typed.output)
        first = _read(typed.checkpoints[0])
        data = _data_options(values, first.get("options", {}))
        if typed.command == "soup":
            options = SoupOptions(**_given(values, SoupOptions))
            content = soup(options, data, resolve_runtime(RuntimeOptions(device=typed.device, amp=typed.amp)))
        else:
            content = ensemble(EnsembleOptions(**_given(values, EnsembleOptions)), data.resize)
        # From the first one, so that eval.py needs no flags.
        taken_over = {name: value for name, value in first.get("options", {}).items() if name in TAKEN_OVER}
        taken_over |= {name: values[name] for name in TAKEN_OVER if name in values}
        save_checkpoint(typed.output, {**content, "options": taken_over, "version": __version__})
        LOG.info("%s: written; python3 eval.py --resume=%s", typed.output, typed.output)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def check_options(command: str, words: Sequence[str]) -> None:
    """Refuse what `main` would refuse of a command's options but for the files; raises UserError."""
    _parser().parse_args([command, *words, "--checkpoints", "a.pth", "b.pth", "--output", "c.pth"])


def soup(options: SoupOptions, data: DataOptions, runtime: Runtime) -> dict[str, Any]:
    """Return the content of a soup's checkpoint.

    Raises:
        UserError: a file is missing or of another architecture; greedy, and there is no val split.
    """
    config = _common_config(options.checkpoints)
    network = rebuild_network(config)
    runtime.place(network)

    def load(index: int) -> State:
        path = options.checkpoints[index]
        try:
            load_state_dict(network, _read(path))
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        # Under the network's own names, whatever the file's are.
        return {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}

    finish = _reestimation(network, data, runtime) if options.batch_norm == "reestimate" else as_it_is
    count = len(options.checkpoints)
    made = (
        uniform_soup(count, load, finish)
        if options.soup == "uniform"
        else greedy_soup(count, load, _val_recall(network, options, data, runtime), finish)
    )
    _tell(made, options)
    return {
        "model_state_dict": made.state,
        "network_config": config,
        "soup": {
            "kind": options.soup,
            "batch_norm": options.batch_norm,
            "checkpoints": [str(options.checkpoints[index]) for index in made.chosen],
            "val_recall": made.score,
        },
    }


def ensemble(options: EnsembleOptions, size: tuple[int, int]) -> dict[str, Any]:
    """Return the content of an ensemble's checkpoint.

    Args:
        size: height and width of the images that it will see, which has to suit all members.

    Raises:
        UserError: a file is missing or does not say which network it holds; a member refuses the size.
    """
    members = []
    for path in options.checkpoints:
        content = _read(path)
        try:
            member = rebuild_network(content["network_config"], content).eval()
            with torch.inference_mode():
                member(torch.zeros(1, 3, *size, dtype=torch.uint8))
        except (UserError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{path}: cannot be a member at {size[0]}x{size[1]} ({reason}). Expected one size that suits all "
                "members; give --resize"
            ) from error
        stored = content.get("options", {}).get("resize")
        if stored is not None and tuple(stored) != tuple(size):
            LOG.warning("%s was trained at %dx%d and will see images of %dx%d", path, *stored, *size)
        members.append(member)
    network = build_ensemble(members, options.combine, options.weights)
    LOG.info("%s of %s: %d dimensions", options.combine, ", ".join(m.name for m in members), network.descriptors_dim)
    return {"model_state_dict": network.state_dict(), "network_config": network.config}


def _val_recall(
    network: Network, options: SoupOptions, data: DataOptions, runtime: Runtime
) -> Callable[[State], float]:
    """Return state dict -> R@N on val, percent."""
    val = read_split(dataset_root(data), "val")
    near = float(data.val_positive_dist_threshold)
    settings = EvalOptions(infer_batch_size=options.infer_batch_size, recall_values=(options.recall,))

    def score(state: State) -> float:
        network.load_state_dict(state)
        with tempfile.TemporaryDirectory() as folder:
            found = evaluate(
                network, val, settings, size=data.resize, num_workers=data.num_workers, runtime=runtime,
                folder=Path(folder), thresholds=(near,),
            )  # fmt: skip
        return found.recalls[near][options.recall]

    return score


def _reestimation(network: Network, data: DataOptions, runtime: Runtime) -> Callable[[State], State]:
    """Return state dict -> the same with BatchNorm's statistics of images of the train split."""
    database = read_split(dataset_root(data), "train").database
    rows = numpy_stream(0, "soup").permutation(len(database))[:_BN_IMAGES].astype(np.int64)

    def images() -> Iterator[Tensor]:
        loader = image_loader(database, rows, size=data.resize, batch_size=_BN_BATCH, num_workers=data.num_workers)
        return (runtime.to_device(batch) for batch, _ in loader)

    def finish(state: State) -> State:
        network.load_state_dict(state)
        if reestimate_batch_norm(network, images()) == 0:
            raise UserError("--batch_norm reestimate: this network has no BatchNorm layers. Expected average")
        return {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}

    return finish


def _tell(made: Soup, options: SoupOptions) -> None:
    for index, score in enumerate(made.scores):
        kept = "in the soup" if index in made.chosen else "left out"
        LOG.info("%s: R@%d %.2f, %s", options.checkpoints[index], options.recall, score, kept)
    if made.score is not None:
        LOG.info("soup of %d: val R@%d %.2f", len(made.chosen), options.recall, made.score)


def _check_files(checkpoints: Sequence[Path], output: Path) -> None:
    if len(checkpoints) < 2:
        raise UserError(f"--checkpoints {checkpoints[0]}: one file. Expected two or more to combine")
    if output.resolve() in [path.resolve() for path in checkpoints]:
        raise UserError(f"--output {output}: is one of the checkpoints. Expected another file")
    if not output.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}. Expected one; make it first")


def _read(path: Path) -> dict[str, Any]:
    """Read a checkpoint that says which network it holds."""
    content = read_checkpoint(path)
    if not isinstance(content.get("network_config"), Mapping):
        raise UserError(
            f"{path}: does not say which network it holds. Expected a checkpoint that train.py or combine wrote"
        )
    extract_state_dict(content)
    return content


def _common_config(paths: Sequence[Path]) -> dict[str, Any]:
    """Return the one configuration of all checkpoints, but for how they were trained; raises UserError."""
    configs = [dict(_read(path)["network_config"]) for path in paths]
    first = configs[0]
    for path, config in zip(paths[1:], configs[1:], strict=True):
        for name in sorted({*first, *config} - {*_OF_TRAINING}):
            if first.get(name) != config.get(name):
                raise UserError(
                    f"{path}: has --{name} {config.get(name)}, {paths[0]} {first.get(name)}. Expected checkpoints of "
                    "one architecture; use `combine ensemble` for several"
                )
    return first


def _data_options(values: Mapping[str, Any], stored: Mapping[str, Any]) -> DataOptions:
    """What was typed, else what the first checkpoint stored, else the defaults."""
    known = {name: stored[name] for name in TAKEN_OVER if stored.get(name) is not None}
    known |= {name: values[name] for name in (*TAKEN_OVER, "datasets_folder", "num_workers") if name in values}
    if "resize" in known:
        known["resize"] = tuple(int(side) for side in known["resize"])
    return DataOptions(**known)


def _given(values: Mapping[str, Any], kind: type[SoupOptions] | type[EnsembleOptions]) -> dict[str, Any]:
    """Return the values that a dataclass has a field for, lists as tuples."""
    found = {name: value for name, value in values.items() if name in kind.__dataclass_fields__}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}. See {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    """Return the parser; what is not typed is absent from what it returns, but for the machine's options."""
    title, _, examples = (__doc__ or "").partition("\n\n")
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    add = common.add_argument
    add("--checkpoints", type=Path, nargs="+", required=True, metavar="FILE", help="of train.py or of combine")
    add("--output", type=Path, required=True, metavar="FILE", help="the checkpoint to write")
    add("--resize", type=int, nargs=2, metavar=("H", "W"), help="of the images, pixels (default: the first one's)")
    parser = _Parser(
        prog="python3 -m vgbench.combine", description=title, epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    made = commands.add_parser("soup", parents=[common], help="average the weights", argument_default=argparse.SUPPRESS)
    add = made.add_argument
    add("--soup", choices=SOUPS, help="all checkpoints, or those that lift val's recall, best first (default: uniform)")
    add("--recall", type=_count, metavar="N", help="greedy goes by val R@N (default: 1)")
    add("--batch_norm", choices=BATCH_NORMS,
        help=f"average BatchNorm's statistics too, which fits networks that are near each other, or reestimate them on "
             f"{_BN_IMAGES} images of the train split (default: average)")  # fmt: skip
    add("--dataset_name", help="whose val or train split (default: the first checkpoint's)")
    add("--datasets_folder", type=Path, metavar="FOLDER", help="default: $DATASETS_FOLDER or ./datasets")
    add("--val_positive_dist_threshold", type=float, metavar="X", help="of a right prediction, metres")
    add("--num_workers", type=int, metavar="N", help="processes that decode images (default: 8)")
    add("--infer_batch_size", type=_count, metavar="N", help="images in one inference batch (default: 16)")
    add("--device", default="auto", choices=("auto", "cuda", "cpu"), help="default: a GPU if there is one")
    add("--amp", default="auto", choices=("auto", "bf16", "fp16", "off"), help="mixed precision")
    both = commands.add_parser(
        "ensemble", parents=[common], help="put descriptors together", argument_default=argparse.SUPPRESS
    )
    both.add_argument("--combine", choices=COMBINATIONS, help="side by side, or averaged (default: concat)")
    both.add_argument("--weights", type=float, nargs="+", metavar="X", help="of each checkpoint (default: equal)")
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


_count.__name__ = "whole number from 1"

if __name__ == "__main__":
    sys.exit(main())
