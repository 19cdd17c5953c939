"""Every result below a folder of runs."""

from __future__ import annotations

import datetime
import json
import logging
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vgbench.models.sequences.options import over_frames
from vgbench.report.labels import dataset_label, main_threshold
from vgbench.report.tables.costs import COSTS

LOG = logging.getLogger(__name__)
RESULTS = "results.json"
# Set for every run, and no part of what it measures.
_OF_THE_RUN = frozenset(
    ("run_dir", "save_dir", "resume", "datasets_folder", "dataset_name", "queries_folder", "num_workers", "heat_maps",
     "infer_batch_size", "own_code", "device")
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One test of one network.

    Attributes:
        run: its folder, relative to the folder of all.
        network: what it is made of, with re-rankers and compression.
        dataset: the dataset and protocol.
        recalls: N -> percent.
        costs: name out of COSTS -> value; unknown ones are left out.
        date: when it was written, YYYY-MM-DD.
        report: the page of the run, relative to the folder of all; '' where it has none.
        told_apart: what tells it from others of the same network and dataset, '' where there are none: the options in
            which they differ, and its folder where these are the same.
        options: all that it ran with, as text.
        given: the names of those that were set and can change the numbers.
    """

    run: str
    network: str
    dataset: str
    recalls: dict[int, float]
    costs: dict[str, float]
    date: str
    report: str
    told_apart: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    given: frozenset[str] = frozenset()


def read_entries(folder: Path) -> list[Entry]:
    """Return every result below a folder, in order of dataset and falling R@1; what cannot be read is left out."""
    found = [entry for path in _results(folder) if (entry := _entry(folder, path)) is not None]
    return sorted(_told_apart(found), key=lambda one: (one.dataset, -one.recalls.get(1, 0.0), one.run))


def _told_apart(entries: Sequence[Entry]) -> list[Entry]:
    """Say of those with one text for their network, on one dataset, in what they differ."""
    alike: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for one in entries:
        alike[one.dataset, one.network].append(one)
    return [
        replace(one, told_apart=text) for some in alike.values() for one, text in zip(some, _texts(some), strict=True)
    ]


def _texts(some: Sequence[Entry]) -> list[str]:
    if len(some) == 1:
        return [""]
    names = sorted({name for one in some for name in one.given if all(name in other.options for other in some)})
    differ = [name for name in names if len({one.options[name] for one in some}) > 1]
    texts = [", ".join(f"{name} {one.options[name]}" for name in differ if one.options[name]) for one in some]
    shared = set.intersection(*(set(one.run.split("/")) for one in some))
    folders = ["/".join(part for part in one.run.split("/") if part not in shared) or one.run for one in some]
    return [
        text if texts.count(text) == 1 else f"{text}, {folder}".removeprefix(", ")
        for text, folder in zip(texts, folders, strict=True)
    ]


def _results(folder: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder):
        folders.sort()
        if RESULTS in files:
            yield Path(where) / RESULTS


def _entry(folder: Path, path: Path) -> Entry | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        recalls = content["recalls"][main_threshold(content)]
        report = path.with_name("report.html")
        return Entry(
            run=path.parent.relative_to(folder).as_posix(),
            network=_network(content),
            dataset=dataset_label(content),
            recalls={int(value): float(percent) for value, percent in recalls.items()},
            costs={name: cost for name, (measure, _) in COSTS.items() if (cost := measure(content)) is not None},
            date=datetime.date.fromtimestamp(path.stat().st_mtime).isoformat(),
            report=report.relative_to(folder).as_posix() if report.is_file() else "",
            options={name: _short(value) for name, value in (content.get("options") or {}).items()},
            given=frozenset(content.get("options_set") or ()) - _OF_THE_RUN,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        LOG.warning("%s: left out, it cannot be read as results (%s)", path, error)
        return None


def _network(content: dict[str, Any]) -> str:
    config = content.get("network") or {}
    name = str(config.get("method") or " + ".join(str(config[k]) for k in ("backbone", "aggregation") if k in config))
    steps = [str(step["name"]) for step in content.get("rerank") or ()]
    compressed = (content.get("compression") or {}).get("what")
    return " + ".join([(name or "unknown") + over_frames(config), *([str(compressed)] if compressed else []), *steps])


def _short(value: Any) -> str:
    if value is None:
        return ""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
