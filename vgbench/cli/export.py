"""Write a network with its preprocessing for other programs: pixels uint8 [B,3,H,W] in, descriptors float32 [B,D] out.

python3 -m vgbench export --resume logs/default/<run> --output network.onnx
python3 -m vgbench export --resume best_model.pth --resize 320 320 --output network.pt2
python3 -m vgbench export --method megaloc --output megaloc.ts
python3 -m vgbench export --resume best_model.pth --any_size --unit --output network.onnx
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from vgbench import __version__
from vgbench.cli.commands import described
from vgbench.cli.exits import run_script
from vgbench.errors import UserError
from vgbench.export.suffixes import SUFFIXES
from vgbench.files import check_writable, write_text

LOG = logging.getLogger("vgbench")


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What is exported, and how."""

    source: str
    weights: Path | None
    output: Path
    format: str
    resize: tuple[int, int] | None
    any_size: bool
    unit: bool


def main(arguments: Sequence[str] | None = None) -> None:
    """Write one file, and what it is beside it (FILE.json)."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    options = _options(_parser().parse_args(arguments))
    check_writable(options.output)
    # With torch, which is slow to import: help and mistakes do not wait for it.
    from vgbench.api.network import load_network
    from vgbench.export import Deployable, export_network
    from vgbench.models.hashing import hashing_of

    loaded = load_network(options.source, size=options.resize, device="cpu", amp="off", weights=options.weights)
    size = loaded.inference.fixed_size
    module = Deployable(loaded.network, size if options.any_size else None, unit=options.unit).eval()
    difference = export_network(module, size, options.format, options.output)
    facts = {
        "network": loaded.network.name,
        "input": {"name": "images", "dtype": "uint8", "layout": "batch, RGB, height, width"}
        | {"height": "any" if options.any_size else size[0], "width": "any" if options.any_size else size[1]},
        "resized_inside_to": list(size) if options.any_size else None,
        "output": {"name": "descriptors", "dtype": "float32", "dimensions": loaded.descriptors_dim},
        "unit_length": options.unit,
        "format": options.format,
        "largest_difference": difference,
        "version": __version__,
    }
    branch = hashing_of(loaded.network)
    if branch is not None:
        LOG.info(
            "%s: descriptors alone, float32; the network's codes of %d bits are made of these by vgbench.Index(codes=) "
            "and eval.py --quantise hash", options.output, branch.bits,
        )  # fmt: skip
    write_text(options.output.with_name(options.output.name + ".json"), json.dumps(facts, indent=2) + "\n")
    compared = "not compared" if difference is None else f"differs by at most {difference:.1e} from PyTorch"
    LOG.info("%s: %s, %.1f MB, %s", options.output, loaded.network.name, options.output.stat().st_size / 1e6, compared)


def _parser() -> argparse.ArgumentParser:
    parser = described("export", __doc__ or "")
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--resume", metavar="FILE", help="a checkpoint of train or combine, or the folder of a run")
    which.add_argument("--method", metavar="NAME", help="a network as its authors released it, such as megaloc")
    add("--weights", type=Path, metavar="FILE",
        help="a file at hand with the weights of --method, so that nothing is fetched")  # fmt: skip
    add("--output", type=Path, required=True, metavar="FILE", help="the file to write; FILE.json says what it is")
    add("--format", choices=tuple(SUFFIXES), help="default: by the suffix of --output: .onnx, .ts, .pt2")
    add("--resize", type=int, nargs=2, metavar=("H", "W"),
        help="height and width of the images, pixels (default: what the network was trained with)")  # fmt: skip
    add("--any_size", action="store_true", help="take images of any size, and resize them inside of the file")
    add("--unit", action="store_true", help="divide each descriptor by its length, so that a dot product is a cosine")
    return parser


def _options(typed: argparse.Namespace) -> ExportOptions:
    by_suffix = {suffix: name for name, suffix in SUFFIXES.items()}
    chosen = typed.format or by_suffix.get(typed.output.suffix)
    if chosen is None:
        raise UserError(f"--output {typed.output}: no known suffix. Expected {', '.join(by_suffix)}; or give --format")
    if typed.resize is not None and min(typed.resize) < 1:
        raise UserError(f"--resize {typed.resize[0]} {typed.resize[1]}: expected height and width, 1 pixel or more")
    if typed.weights is not None and typed.method is None:
        raise UserError(
            f"--weights {typed.weights}: stands beside --resume, which brings weights. Expected one of them"
        )
    return ExportOptions(
        source=typed.resume or typed.method,
        weights=typed.weights,
        output=typed.output,
        format=chosen,
        resize=tuple(typed.resize) if typed.resize else None,
        any_size=typed.any_size,
        unit=typed.unit,
    )


if __name__ == "__main__":
    run_script(main)
