"""Every result below a folder of runs."""

from __future__ import annotations

import datetime
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vgbench.report.labels import dataset_label, main_threshold
from vgbench.report.tables.costs import COSTS

LOG = logging.getLogger(__name__)
RESULTS = "results.json"


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
    """

    run: str
    network: str
    dataset: str
    recalls: dict[int, float]
    costs: dict[str, float]
    date: str
    report: str


def read_entries(folder: Path) -> list[Entry]:
    """Return every result below a folder, in order of dataset and falling R@1; what cannot be read is left out."""
    found = [entry for path in _results(folder) if (entry := _entry(folder, path)) is not None]
    return sorted(found, key=lambda one: (one.dataset, -one.recalls.get(1, 0.0), one.run))


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
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        LOG.warning("%s: left out, it cannot be read as results (%s)", path, error)
        return None


def _network(content: dict[str, Any]) -> str:
    config = content.get("network") or {}
    name = str(config.get("method") or " + ".join(str(config[k]) for k in ("backbone", "aggregation") if k in config))
    steps = [str(step["name"]) for step in content.get("rerank") or ()]
    compressed = (content.get("compression") or {}).get("what")
    return " + ".join([name or "unknown", *([str(compressed)] if compressed else []), *steps])
