"""Datasets for visual geo-localization in the folder protocol (docs/datasets.md): make, check, describe and map them.

python3 -m datasets_vg list
python3 -m datasets_vg prepare synthetic_city
python3 -m datasets_vg prepare synthetic_city --images 100000 --datasets_folder /data
python3 -m datasets_vg prepare st_lucia
python3 -m datasets_vg prepare pitts30k --raw ~/downloads/pittsburgh
python3 -m datasets_vg prepare sf_xl --part val
python3 -m datasets_vg prepare folder --raw ~/Pictures/my_town --name my_town
python3 -m datasets_vg verify synthetic_city
python3 -m datasets_vg stats synthetic_city
python3 -m datasets_vg map synthetic_city --output city.svg
python3 -m datasets_vg export pitts30k --format gsv_cities --output datasets/pitts30k_places
python3 -m datasets_vg holdout pitts30k --parts 4
python3 -m datasets_vg msls score challenge.zip --raw ~/downloads/msls
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from datasets_vg.catalog import MADE
from datasets_vg.challenge import arguments as challenge
from datasets_vg.choices import DEFAULT_IMAGES, HEADINGS, TRANSFERS
from datasets_vg.export import arguments as exporting
from datasets_vg.own import arguments as own_pictures
from vgbench.cli.commands import OneLineParser, described
from vgbench.cli.exits import AGAIN, ended
from vgbench.data.options import DataOptions, dataset_root
from vgbench.errors import UserError

OWN_OPTIONS = {"seed": "synthetic_city", "images": "synthetic_city", "scale": "synthetic_city", "headings": "sf_xl"}
"""Options of `prepare` that a single preparer has, and of which set."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 (verify found faults), 2 (a mistake), 130 (interrupted)."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    return ended(lambda: _run(arguments), AGAIN)


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    folder: Path = dataset_root(DataOptions(datasets_folder=options.datasets_folder, dataset_name="x")).parent
    status: int = options.run(options, folder)
    return status


def _prepare(options: argparse.Namespace, datasets_folder: Path) -> int:
    _refuse_idle(options)
    if options.name == own_pictures.NAME:
        print(own_pictures.prepare_from(options, datasets_folder, options.transfer or "link"))
        return 0
    own_pictures.refuse_own(options)
    from datasets_vg.prepare import prepare
    from datasets_vg.prepare.base import Request

    own = {name: getattr(options, name) for name in OWN_OPTIONS if getattr(options, name) is not None}
    request = Request(
        options.name, datasets_folder, options.raw, tuple(options.part or ()), options.transfer or "link", options.jobs,
        options.keep_downloads, own,
    )  # fmt: skip
    print(prepare(request))
    return 0


def _refuse_idle(options: argparse.Namespace) -> None:
    """Raise UserError for an option that would change nothing."""
    idle = {
        "--part": options.part and options.name == own_pictures.NAME,
        "--jobs": options.jobs and options.name == own_pictures.NAME,
        "--keep_downloads": options.keep_downloads and (options.raw is not None or options.name in MADE),
        f"--{options.transfer}": options.transfer and options.raw is None,
    }
    for flag, given in idle.items():
        if given:
            beside = " --raw" if options.raw is not None else ""
            raise UserError(f"{flag}: changes nothing in prepare {options.name}{beside}. Leave it out")
    for name, owner in OWN_OPTIONS.items():
        if getattr(options, name) is not None and options.name != owner:
            raise UserError(f"--{name}: is of `prepare {owner}`, not of `prepare {options.name}`. Leave it out")


def _list(options: argparse.Namespace, datasets_folder: Path) -> int:
    from datasets_vg.listing import list_datasets

    del options
    print(list_datasets(datasets_folder))
    return 0


def _verify(options: argparse.Namespace, datasets_folder: Path) -> int:
    from datasets_vg.verify import Checks, verify

    faults = verify(
        _root(options.dataset, datasets_folder), Checks(options.radius, options.jobs or 0, not options.names_only)
    )
    return 1 if faults else 0


def _stats(options: argparse.Namespace, datasets_folder: Path) -> int:
    from datasets_vg.describe import stats_table

    print(stats_table(_root(options.dataset, datasets_folder), options.radius))
    return 0


def _map(options: argparse.Namespace, datasets_folder: Path) -> int:
    from datasets_vg.citymap import write_map

    root = _root(options.dataset, datasets_folder)
    print(write_map(root, options.output or Path(f"{root.name}_map.svg")))
    return 0


def _export(options: argparse.Namespace, datasets_folder: Path) -> int:
    print(exporting.export(options, _root(options.dataset, datasets_folder)))
    return 0


def _holdout(options: argparse.Namespace, datasets_folder: Path) -> int:
    from datasets_vg.holdout import write_holdouts

    print(write_holdouts(_root(options.dataset, datasets_folder), options.parts, options.buffer))
    return 0


def _root(dataset: str, datasets_folder: Path) -> Path:
    """Return the folder of a dataset given by name or by path."""
    is_path = "/" in dataset and not (datasets_folder / dataset).is_dir()
    return Path(dataset) if is_path or Path(dataset, "images").is_dir() else datasets_folder / dataset


def _parser() -> argparse.ArgumentParser:
    common = OneLineParser(add_help=False)
    common.add_argument(
        "--datasets_folder", type=Path, default=None, metavar="FOLDER",
        help="where datasets lie (default: $DATASETS_FOLDER or ./datasets)",
    )  # fmt: skip
    parser = described("datasets", __doc__ or "")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _add_prepare(commands, common)

    shown = commands.add_parser("list", parents=[common], help="all known datasets, and which of them are here")
    shown.set_defaults(run=_list)

    checked = commands.add_parser("verify", parents=[common], help="read every name and image; exit status 1 on faults")
    checked.add_argument(
        "--jobs", type=_count(1), default=None, help="processes that read images (default: only this one)"
    )
    checked.set_defaults(run=_verify)
    checked.add_argument("--names_only", action="store_true", help="read the names and decode no image")
    measured = commands.add_parser("stats", parents=[common], help="counts, area, positives: a markdown table")
    measured.set_defaults(run=_stats)
    for command in (checked, measured):
        command.add_argument(
            "--radius",
            type=_positive,
            default=25.0,
            help="a database image within this distance of a query is a positive, metres (default: 25)",
        )
    mapped = commands.add_parser("map", parents=[common], help="draw database and queries of every split")
    mapped.add_argument("--output", type=Path, default=None, help="SVG file (default: ./<dataset>_map.svg)")
    mapped.set_defaults(run=_map)
    exported = commands.add_parser(
        "export", parents=[common], help="write a split as places in another project's layout, GSV-Cities' for one"
    )
    exporting.add_arguments(exported, _positive, _count)
    exported.set_defaults(run=_export)
    held = commands.add_parser(
        "holdout", parents=[common], help="parts of a train split as tests of their own, to choose by without the test"
    )
    held.add_argument("--parts", type=_count(2), default=4, help="of the train split's region (default: 4)")
    held.add_argument(
        "--buffer", type=_positive, default=25.0, metavar="METRES",
        help="images this near to the part that is held out are not trained on (default: 25)",
    )  # fmt: skip
    held.set_defaults(run=_holdout)
    challenge.add_commands(
        commands.add_parser("msls", help="the MSLS challenge: join prediction files, and score them")
    )
    for command in (checked, measured, mapped, exported, held):
        command.add_argument("dataset", metavar="NAME_OR_FOLDER", help="a dataset's name, or the path of its folder")
    return parser


def _add_prepare(commands: argparse._SubParsersAction[OneLineParser], common: OneLineParser) -> None:
    made = commands.add_parser(
        "prepare", parents=[common], help="fetch, format or make a dataset; repeated, it goes on where it stopped",
    )  # fmt: skip
    made.add_argument("name", help="name of a dataset, one of `list`; or folder, for your own pictures")
    made.add_argument(
        "--raw", type=Path, metavar="FOLDER",
        help="make it from these files and fetch none: raw files or archives as published, or a tree that "
        "VPR-datasets-downloader, datasets_vg or a course made",
    )  # fmt: skip
    made.add_argument("--part", nargs="+", metavar="PART", help="only these parts of the dataset; `list` names them")
    kept = made.add_mutually_exclusive_group()
    for name, told in zip(TRANSFERS, ("are linked to (default)", "are copied", "are moved"), strict=True):
        kept.add_argument(f"--{name}", dest="transfer", action="store_const", const=name, help=f"raw images {told}")
    made.add_argument("--keep_downloads", action="store_true", help="leave fetched archives in <name>.partial/raw")
    made.add_argument(
        "--jobs",
        type=_count(1),
        default=None,
        help="processes, or threads, that work at a time (default: one per core)",
    )
    city = made.add_argument_group("the synthetic city")
    city.add_argument("--seed", type=_count(0), help="the seed of every random choice (default: 0)")
    size = city.add_mutually_exclusive_group()
    size.add_argument("--images", type=_count(1), help=f"about how many images (default: {DEFAULT_IMAGES})")
    size.add_argument("--scale", type=_positive, help="how many times the default number of images (default: 1)")
    made.add_argument_group("sf_xl --part panoramas").add_argument(
        "--headings", choices=HEADINGS,
        help="which way the headings of panoramas turn (default: auto, found out from the streets that they lie in)",
    )  # fmt: skip
    own_pictures.add_arguments(made)
    made.set_defaults(run=_prepare)


class _count:  # noqa: N801  (argparse shows the name)
    def __init__(self, least: int) -> None:
        self.least, self.__name__ = least, f"whole number from {least}"

    def __call__(self, text: str) -> int:
        value = int(text)
        if value < self.least:
            raise ValueError
        return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


_positive.__name__ = "positive number"

if __name__ == "__main__":
    sys.exit(main())
