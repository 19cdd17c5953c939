"""The gallery of the page: queries with their best predictions, worst failures first, and why they were made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgbench.data import Split
from vgbench.report.outcome import NEVER, Outcome, metres_text
from vgbench.report.picture import heat_picture, jpeg_uri, match_picture, thumbnail_uris
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.local.matches import LocalMatches

TOP = 5
# Twice as large as it is shown, so that it can be enlarged.
THUMBNAIL = (400, 320)
# Of the cards in the gallery, the share kept for hits where there are enough of both.
SHARE_OF_HITS = 1 / 3
# Queries whose matches are drawn: a picture each.
DRAWN = 20


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known beside the predictions: about single queries, and about the training.

    Attributes:
        confidence: float64 [Q], how likely the best match is right, 0 to 1, NaN if unknown; None for none.
        heat: query row -> uint8 [2,h,w], heat maps of the query and its best match.
        matches: what a re-ranker verified, None where there was none.
        where: query row -> the predicted position for a person, where the queries' own is not known.
        positions: float64 [Q,2], the predicted positions for the map then, metres.
        history: records of metrics.jsonl (`history.read_history`), where the run trained.
    """

    confidence: NDArray[np.float64] | None = None
    heat: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    matches: LocalMatches | None = None
    where: dict[int, str] = field(default_factory=dict)
    positions: NDArray[np.float64] | None = None
    history: Iterable[Mapping[str, Any]] = ()

    def inliers(self, query: int, row: int) -> NDArray[np.float32] | None:
        """Return the matches of a query with a database row, float32 [m,4]; None where none were kept."""
        if self.matches is None:
            return None
        rank = np.flatnonzero(self.matches.candidates[query] == row)
        return self.matches.of(query, int(rank[0])) if len(rank) else None


@dataclass(frozen=True)
class Figure:
    """A picture of a card: what kind of picture, the file that it shows or what it says, two words below, its URI."""

    kind: str
    name: str
    caption: str
    detail: str
    uri: str


@dataclass(frozen=True)
class Card:
    """A query in the gallery: its row, "hit", "miss" or "unjudged", what became of it, and its pictures."""

    row: int
    kind: str
    verdict: str
    confidence: str
    name: str
    figures: list[Figure]


def choose_queries(outcome: Outcome, limit: int) -> NDArray[np.int64]:
    """Choose at most `limit` query rows, worst failure first: int64 [<= limit].

    Failures take up to two thirds of the cards from the worst on; hits are spread evenly over the query set.
    """
    order = outcome.worst_first()
    hit = outcome.hit[order]
    misses, hits = order[~hit], order[hit]
    room_for_hits = min(len(hits), max(round(limit * SHARE_OF_HITS), limit - len(misses)))
    misses = misses[: limit - room_for_hits]
    return np.concatenate([misses, np.sort(hits)[spread(len(hits), room_for_hits)]])


def spread(count: int, limit: int) -> NDArray[np.int64]:
    """Choose `limit` of the rows 0..count-1 evenly, int64 [limit]; all where there are fewer."""
    return np.linspace(0, max(count - 1, 0), min(count, limit)).round().astype(np.int64)


def gallery(
    split: Split,
    predictions: Predictions,
    outcome: Outcome | None,
    rows: NDArray[np.int64],
    evidence: Evidence | None = None,
) -> list[Card]:
    """Return the cards of the queries in `rows` (int64 [n]), thumbnails embedded.

    Args:
        outcome: what became of the queries; None where their coordinates are not known.
    """
    evidence = evidence or Evidence()
    shown = predictions.indices[rows, :TOP]
    query_paths = {int(row): split.queries.path(int(row)) for row in rows}
    database_paths = {int(row): split.database.path(int(row)) for row in np.unique(shown)}
    uris = thumbnail_uris(query_paths.values(), THUMBNAIL, upright=split.queries.upright)
    uris |= thumbnail_uris(database_paths.values(), THUMBNAIL, upright=split.database.upright)
    cards = []
    for number, (row, best) in enumerate(zip(rows.tolist(), shown.tolist(), strict=True)):
        query_name = split.queries.relative_path(row)
        figures = [Figure("query", query_name, f"query {row}", "", uris[query_paths[row]])]
        for rank, index in enumerate(best):
            kind, caption = _judged(outcome, row, rank)
            inliers = evidence.inliers(row, index)
            detail = f"d {predictions.distances[row, rank]:.3f}" if inliers is None else f"{len(inliers)} inliers"
            name = split.database.relative_path(index)
            figures.append(Figure(kind, name, caption, detail, uris[database_paths[index]]))
        figures += _why(split, evidence, row, best[0] if best else None, drawn=number < DRAWN)
        verdict, confidence = _verdict(outcome, row, evidence), _confidence(row, evidence)
        cards.append(Card(row, _kind(outcome, row), verdict, confidence, query_name, figures))
    return cards


def _why(split: Split, evidence: Evidence, row: int, best: int | None, *, drawn: bool) -> list[Figure]:
    """Return the second line of a card: where the network looked, and what was verified."""
    figures: list[Figure] = []
    if best is None:
        return figures
    paths = split.queries.path(row), split.database.path(best)
    upright = split.queries.upright, split.database.upright
    if row in evidence.heat:
        of_both = zip(paths, upright, evidence.heat[row], ("the query", "its best match"), strict=True)
        for path, turned, heat, of in of_both:
            uri = jpeg_uri(heat_picture(path, heat, THUMBNAIL, upright=turned))
            says = f"Bright: what makes {of} similar to the other"
            figures.append(Figure("heat", says, "where it looks", "", uri))
    inliers = evidence.inliers(row, best)
    if drawn and inliers is not None and len(inliers):
        uri = jpeg_uri(match_picture(*paths, inliers, (340, 260), upright=upright), 78)
        caption = f"{len(inliers)} inliers with the best match"
        figures.append(Figure("matches", "Matches of local features that fit one geometry", caption, "", uri))
    return figures


def _kind(outcome: Outcome | None, row: int) -> str:
    if outcome is None:
        return "unjudged"
    return "hit" if outcome.hit[row] else "miss"


def _judged(outcome: Outcome | None, row: int, rank: int) -> tuple[str, str]:
    """Return a prediction's class and caption."""
    if outcome is None:
        return "plain", f"{rank + 1}."
    right = bool(outcome.correct[row, rank])
    return "right" if right else "wrong", f"{'✓' if right else '✗'} {metres_text(float(outcome.metres[row, rank]))}"


def _confidence(row: int, evidence: Evidence) -> str:
    if evidence.confidence is None or not math.isfinite(evidence.confidence[row]):
        return ""
    return f"{100 * evidence.confidence[row]:.0f}%"


def _verdict(outcome: Outcome | None, row: int, evidence: Evidence) -> str:
    if outcome is None:
        return evidence.where.get(row, "Placed")
    if outcome.hit[row]:
        return "Hit"
    if not outcome.answerable[row]:
        return "No right answer in the database"
    first = int(outcome.first_hit[row])
    return f"Missed, not in the best {outcome.correct.shape[1]}" if first == NEVER else f"Missed, right at rank {first}"
