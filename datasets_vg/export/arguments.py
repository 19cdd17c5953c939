"""`python3 -m datasets_vg export` on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets_vg.choices import TRANSFERS
from vgbench.errors import UserError

FORMATS = ("gsv_cities",)
_OF_CELLS = {"M": 15.0, "N": 3, "alpha": 60.0, "L": 2, "groups": 1}


def add_arguments(
    exported: argparse.ArgumentParser, number: Callable[[str], float], count: Callable[[int], Any]
) -> None:
    """Add what says how places are made and where they are written; `number` and `count` read positive numbers."""
    exported.add_argument("--format", choices=FORMATS, required=True, help="whose layout: Dataframes/*.csv and Images/")
    exported.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="written anew")
    exported.add_argument("--split", default="train", help="of which images, database and queries (default: train)")
    exported.add_argument("--city", metavar="NAME", help="what its images are called by (default: the dataset's name)")
    exported.add_argument(
        "--radius", type=number, metavar="METRES",
        help="places are images this near to one that is drawn as their centre, and 25 m from those of others "
        "(default: cells, as CosPlace has them)",
    )  # fmt: skip
    cells = exported.add_argument_group("places by cells (CosPlace)")
    cells.add_argument("--M", type=number, help="side of a cell, metres (default: 15)")
    cells.add_argument("--alpha", type=number, help="width of a bin of headings, degrees (default: 60)")
    cells.add_argument("--N", type=count(1), help="of cells, every N-th a direction is in a group (default: 3)")
    cells.add_argument("--L", type=count(1), help="of bins, every L-th is in a group (default: 2)")
    cells.add_argument(
        "--groups", type=count(1),
        help="groups to write, the largest first; places of one are apart, those of several may touch (default: 1)",
    )  # fmt: skip
    exported.add_argument("--min_images", type=count(2), default=4, help="places with fewer are left out (default: 4)")
    kept = exported.add_mutually_exclusive_group()
    for name, told in (("link", "are linked to (default)"), ("copy", "are copied")):
        assert name in TRANSFERS
        kept.add_argument(f"--{name}", dest="transfer", action="store_const", const=name, help=f"images {told}")


def export(options: argparse.Namespace, root: Path) -> str:
    """Write the dataset at `root` as the options say; returns what was written, in words."""
    from datasets_vg.export.gsv_cities import Cells, write

    given = {name: getattr(options, name) for name in _OF_CELLS if getattr(options, name) is not None}
    if options.radius is not None and given:
        name = next(iter(given))
        raise UserError(
            f"--{name} {given[name]:g}: is of places by cells, and there is --radius. Leave one of them out"
        )
    cells = Cells(**{**_OF_CELLS, **given})
    return write(
        root, options.output, split=options.split, city=options.city or root.resolve().name,
        how=cells if options.radius is None else options.radius, at_least=options.min_images,
        copy=options.transfer == "copy",
    )  # fmt: skip
