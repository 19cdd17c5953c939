"""`python3 -m datasets_vg msls`: the challenge's prediction files on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from datasets_vg.challenge.choices import ALL, CITIES, QUERY_TYPES
from vgbench.errors import UserError


def add_commands(msls: argparse.ArgumentParser) -> None:
    """Add `join` and `score` to a parser."""
    commands = msls.add_subparsers(required=True, metavar="COMMAND")
    joined = commands.add_parser("join", help="prediction files of the cities -> the one file that the challenge takes")
    joined.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help=".zip, what the server takes; or .csv, .txt"
    )
    joined.add_argument(
        "--by_type", action="store_true",
        help="a file for each of the six types of queries (summer2winter, ...) instead: FILE_<type>; needs --raw",
    )  # fmt: skip
    joined.set_defaults(run=_join)
    scored = commands.add_parser("score", help="recall and mean average precision, city by city")
    scored.add_argument(
        "--query_type", nargs="+", choices=(ALL, *QUERY_TYPES), default=[ALL], metavar="TYPE",
        help=f"a table for each: {ALL} (default), {', '.join(QUERY_TYPES)}",
    )  # fmt: skip
    scored.add_argument(
        "--radius",
        type=float,
        default=25.0,
        help="a database image within this distance of a query is a positive, metres (default: 25)",
    )
    scored.set_defaults(run=_score)
    for command in (joined, scored):
        command.add_argument(
            "files",
            nargs="+",
            type=Path,
            help="prediction files, as eval.py --pairs_out FILE --pairs_format msls writes them",
        )
        command.add_argument(
            "--raw", type=Path, metavar="FOLDER", required=command is scored,
            help="MSLS's metadata with the ground truth: test_meta/<city>/{database,query}/postprocessed.csv",
        )  # fmt: skip
        command.add_argument(
            "--cities", nargs="+", metavar="CITY", default=list(CITIES),
            help=f"the cities whose predictions have to be there (default: {' '.join(CITIES)})",
        )  # fmt: skip
        command.set_defaults(datasets_folder=None)


def _join(options: argparse.Namespace, datasets_folder: Path) -> int:
    from datasets_vg.challenge.predictions import check_ending, read_predictions, write_predictions
    from datasets_vg.challenge.scoring import read_truth, unanswered

    del datasets_folder
    output: Path = options.output
    check_ending(output)
    if options.by_type and options.raw is None:
        raise UserError("--by_type: needs --raw FOLDER, whose subtask_index.csv say which queries are of a type")
    ranked = read_predictions(options.files)
    if options.raw is not None:
        truths = [read_truth(options.raw, city) for city in options.cities]
        for truth in truths:
            if lost := unanswered(ranked, truth):
                raise UserError(
                    f"{truth.city}: no predictions for {len(lost)} of its {len(truth.positives)} queries, such as "
                    f"{lost[0]}. Expected the files of all cities: {' '.join(options.cities)} (--cities)"
                )
    if not options.by_type:
        print(f"{output}: {write_predictions(output, ranked)} queries")
        return 0
    for query_type in QUERY_TYPES:
        of_type = [query for city in options.cities for query in read_truth(options.raw, city, query_type).positives]
        own = output.with_name(f"{output.stem}_{query_type}{output.suffix}")
        print(f"{own}: {write_predictions(own, ranked, [query for query in of_type if query in ranked])} queries")
    return 0


def _score(options: argparse.Namespace, datasets_folder: Path) -> int:
    from datasets_vg.challenge.predictions import read_predictions
    from datasets_vg.challenge.scoring import read_truth, score, score_table

    del datasets_folder
    if not 0 < options.radius < float("inf"):
        raise UserError(f"--radius {options.radius:g}: Expected metres, more than 0")
    ranked = read_predictions(options.files)
    depth = len(next(iter(ranked.values())))
    for query_type in options.query_type:
        truths = [read_truth(options.raw, city, query_type, options.radius) for city in options.cities]
        strange = set(ranked).difference(*(truth.known for truth in truths))
        if strange:
            print(f"{len(strange)} queries are of none of the cities and do not count, such as {min(strange)}")
        print(f"{query_type}, within {options.radius:g} m:")
        print(score_table([score(ranked, truth) for truth in truths], depth))
    return 0
