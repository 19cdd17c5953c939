"""What a finished test leaves to look at and to go on with: the page, panels, pairs, predicted positions."""

from __future__ import annotations

import functools
import hashlib
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgbench.data import Neighbours, Split
from vgbench.data.utm import latitude_longitude, zones
from vgbench.errors import UserError
from vgbench.files import check_writable, written_whole
from vgbench.models import Network
from vgbench.models.sequences.network import SequenceNetwork
from vgbench.report.exports import MSLS, check_names, write_pairs
from vgbench.report.gallery import Evidence
from vgbench.report.options import ReportOptions
from vgbench.report.outcome import metres_text
from vgbench.report.page import gallery_rows, write_report
from vgbench.report.picture import prediction_panel
from vgbench.report.positions import Placed, write_positions
from vgbench.report.saliency import heat_maps
from vgbench.retrieval import Evaluation
from vgbench.retrieval.metrics.findings import Findings
from vgbench.retrieval.rerank.local.matches import LocalMatches
from vgbench.runtime import Runtime

LOG = logging.getLogger(__name__)

PANELS = "preds"
_HEAT_SHARE = 0.1  # of what describing, searching and re-ranking took: heat maps, where --heat_seconds does not say


@dataclass(frozen=True, eq=False)
class Tested:
    """A finished test.

    Attributes:
        network: what was tested.
        size: height and width in pixels that it saw.
        runtime: where it runs.
        split: the images.
        found: predictions and recalls.
        findings: what they say.
        results: what results.json holds.
        history: records of metrics.jsonl, where the run trained.
    """

    network: Network
    size: tuple[int, int]
    runtime: Runtime
    split: Split
    found: Evaluation
    findings: Findings
    results: Mapping[str, Any]
    history: Iterable[Mapping[str, Any]] = ()

    @functools.cached_property
    def placed(self) -> Placed:
        """Where the queries were taken."""
        return Placed(self.split, self.found.predictions, self.findings)

    @property
    def positives(self) -> Neighbours | None:
        """Those within the threshold that counts; None where the queries have no coordinates."""
        return next(iter(self.found.neighbours.values()), None)


def check_report(options: ReportOptions, predictions: int, split: Split) -> None:
    """Raise UserError, before a test costs time, where `--pairs_out` cannot be written as it is asked for.

    Args:
        predictions: how many a query there will be.
    """
    if options.pairs_out is None:
        return
    if (options.pairs_num or 1) > predictions:
        raise UserError(
            f"--pairs_num {options.pairs_num}: there are {predictions} predictions per query. Expected at most that; "
            f"ask for more by --recall_values 1 5 {options.pairs_num}"
        )
    if options.pairs_format != MSLS:
        check_names(options.pairs_out, split, options.pairs_format)
    check_writable(options.pairs_out)


def write_outputs(folder: Path, tested: Tested, options: ReportOptions, cache: Path) -> Path:
    """Write everything that the options ask for into a run's folder and return the page's path.

    Args:
        cache: the folder of descriptors, where heat maps are kept too.

    Raises:
        UserError: a file cannot be written.
    """
    split, predictions = tested.split, tested.found.predictions
    table, *maps = write_positions(folder, tested.placed)
    LOG.info("predicted positions: %s%s", table, "".join(f", {path.suffix}" for path in maps))
    rows = gallery_rows(split, predictions, tested.positives, options.report_queries)
    evidence = Evidence(
        confidence=tested.findings.confidence,
        heat=_heat(tested, rows[: options.heat_maps], options.heat_seconds, cache),
        matches=_matches(tested.found),
        where={} if tested.positives is not None else _where(tested, rows),
        positions=None if tested.positives is not None else tested.findings.poses.best,
        history=tested.history,
    )
    report = write_report(
        folder / "report.html", tested.results, split, predictions, tested.positives,
        max_queries=options.report_queries, evidence=evidence,
    )  # fmt: skip
    if options.pairs_out is not None:
        count = write_pairs(options.pairs_out, split, predictions, options.pairs_format, options.pairs_num)
        LOG.info("%d pairs: %s", count, options.pairs_out)
    _write_panels(folder / PANELS, tested, options.save_preds)
    return report


def findings_lines(facts: Mapping[str, Any]) -> list[str]:
    """Return what a log says of `Findings.facts`: two lines on positions, one on trust; none where nothing is known."""
    if "pose" not in facts:
        said = [f"confidence learned from {facts['confidence']['learned_from']}"] if "confidence" in facts else []
        return said + _by_gps(facts.get("gps") or {})
    pose, accept = facts["pose"], facts["accept"]
    lines = [
        f"position by {text}: " + ", ".join(f"{q}% within {metres_text(m)}" for q, m in pose[name].items())
        for name, text in (("best", "the best match"), ("weighted", f"the best {pose['candidates']} that agree"))
    ]
    trust = ", ".join(f"{accept[name]['recall_at_100_precision']:.1f} by {name}" for name in ("distance", "ratio"))
    lines.append(f"R@100P: {trust}")
    if "confidence" in facts:
        error = facts["confidence"]["expected_calibration_error"]
        lines[-1] += f"; confidence off by {error:.1f} points, learned from {facts['confidence']['learned_from']}"
    return lines


def uncertainty_lines(facts: Mapping[str, Any]) -> list[str]:
    """Return the line of a log on how well each estimator tells right matches from wrong ones; none where unknown."""
    areas = [f"{name} {one['auprc']:.1f}" for name, one in (facts.get("estimators") or {}).items()]
    return [f"AUPRC of the search's best match: {', '.join(areas)}"] if areas else []


def _by_gps(gps: Mapping[str, Any]) -> list[str]:
    """Return the line on photographs that say themselves where they were taken."""
    if not gps:
        return []
    off = ", ".join(f"{q}% within {metres_text(m)}" for q, m in gps["best"].items())
    return [f"{gps['with_gps']} of {gps['photographs']} photographs carry GPS: position by the best match: {off}"]


def panel_name(row: int, query: str) -> str:
    """Return the file name of a query's panel: its row, and its own name without what a file name cannot hold."""
    words = re.sub(r"[^\w@.+-]+", "_", query.rpartition(".")[0] or query, flags=re.ASCII).strip("_")
    return f"{row:05}_{words[-150:]}.jpg"


def _write_panels(folder: Path, tested: Tested, count: int) -> None:
    split, predictions = tested.split, tested.found.predictions
    count = min(count, len(predictions))
    if not count:
        return
    for row in range(count):
        panel = prediction_panel(split, predictions, tested.positives, row)
        with written_whole(folder / panel_name(row, split.queries.relative_path(row))) as partial:
            panel.save(partial, "JPEG", quality=88)
    LOG.info("%d panels: %s", count, folder)


def _heat(tested: Tested, rows: NDArray[np.int64], seconds: float | None, cache: Path) -> dict[int, NDArray[np.uint8]]:
    """Return query row -> heat maps of the query and its best match, of as many as the time allows.

    Args:
        seconds: as `--heat_seconds`: 0 for no limit, None for a share of what the test took.
    """
    pairs = np.stack([rows, tested.found.predictions.indices[rows, 0]], axis=1)
    facts = f"{tested.found.fingerprint} {tested.size}"
    name = f"{tested.split.root.name}_{tested.split.queries.root.name}_heat"
    kept = cache / f"{name}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}.npz"
    network = tested.network.of_frames if isinstance(tested.network, SequenceNetwork) else tested.network
    allowed = _HEAT_SHARE * sum(tested.found.seconds.values()) if seconds is None else seconds or float("inf")
    found = heat_maps(network, tested.split, pairs, tested.size, tested.runtime, kept, seconds=allowed)
    if len(found) < len(rows):
        LOG.info(
            "heat maps of %d of %d queries in %.2g s%s; the next report goes on, --heat_seconds 0 makes all",
            len(found), len(rows), allowed, ", a tenth of what the test took" if seconds is None else "",
        )  # fmt: skip
    return found


def _matches(found: Evaluation) -> LocalMatches | None:
    """Return the verified matches of the last re-ranker that kept some; None where they cannot be read again."""
    paths = [step.files["local_matches"] for step in found.rerank if "local_matches" in step.files]
    try:
        return LocalMatches.load(paths[-1]) if paths else None
    except UserError as error:
        LOG.warning("%s; the report is drawn without them", error)
        return None


def _where(tested: Tested, rows: NDArray[np.int64]) -> dict[int, str]:
    """Write the predicted positions of some queries for a person."""
    utm = tested.findings.poses.best[rows]
    zone = zones(tested.split.database, tested.found.predictions.indices[rows, 0])
    degrees = latitude_longitude(utm, zone)
    return {
        int(row): f"{lat:.5f}, {lon:.5f}" if np.isfinite(lat) else f"UTM {east:.0f} {north:.0f}"
        for row, (lat, lon), (east, north) in zip(rows, degrees, utm, strict=True)
    }
