"""`python3 -m perf --reference CHECKOUT`: its options."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from perf.beside.rows import AGGREGATIONS, KINDS, Scale, rows_of
from perf.beside.run import compare
from vgbench.data.loader import worker_count


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    group = parser.add_argument_group("beside the Deep VG Benchmark")
    scale = Scale()
    group.add_argument("--reference", type=Path, help="a checkout of it, of which a copy is edited")
    group.add_argument("--alone", action="store_true", help="the same rows of ours, without a checkout")
    group.add_argument("--rows", nargs="+", choices=KINDS, default=list(KINDS), help="these (default: all)")
    group.add_argument("--repeats", type=int, default=3, help="runs of each side, in turn (default: 3)")
    group.add_argument("--sizes", nargs="+", type=size_of, default=[(320, 320), (480, 640)], metavar="HxW",
                       help="what images are resized to (default: 320x320 480x640)")  # fmt: skip
    group.add_argument("--dims", nargs="+", type=int, choices=AGGREGATIONS, default=list(AGGREGATIONS),
                       help="dimensions: 256 by GeM, 16384 by NetVLAD (default: both)")  # fmt: skip
    group.add_argument("--images", type=int, default=scale.images, help=f"in the database (default: {scale.images})")
    group.add_argument("--small", type=int, default=scale.small,
                       help=f"in the database of the evaluation of small ones (default: {scale.small})")  # fmt: skip
    group.add_argument("--triplets", type=int, default=scale.triplets, help=f"an epoch (default: {scale.triplets})")
    group.add_argument(
        "--workers", type=int, default=worker_count(8, 8), help="that decode (default: cores, at most 8)"
    )
    group.add_argument("--out", type=Path, default=Path("logs/perf"),
                       help="folder of runs.json and table.md; its runs are kept (default: logs/perf)")  # fmt: skip


def size_of(text: str) -> tuple[int, int]:
    """Read HxW."""
    height, _, width = text.partition("x")
    try:
        return int(height), int(width)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: expected height x width, 320x320 say") from None


def main(arguments: argparse.Namespace) -> None:
    """Measure and print the table."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    scale = Scale(arguments.images, arguments.small, arguments.triplets, arguments.workers, device)
    rows = rows_of(arguments.rows, arguments.sizes, arguments.dims)
    print(compare(arguments.reference, rows, scale, arguments.repeats, arguments.out))
