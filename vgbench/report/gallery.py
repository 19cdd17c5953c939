"""The gallery of the page: queries with their best predictions, worst failures first."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vgbench.report.outcome import NEVER, Outcome, metres_text
from vgbench.report.picture import thumbnail_uris

if TYPE_CHECKING:
    from vgbench.data import Split
    from vgbench.retrieval.predictions import Predictions

TOP = 5
THUMBNAIL = (240, 200)
# Of the places in the gallery, the share kept for hits where there are enough of both.
SHARE_OF_HITS = 1 / 3


def choose_queries(outcome: Outcome, limit: int) -> NDArray[np.int64]:
    """Choose at most `limit` query rows, worst failure first: int64 [<= limit].

    Failures take up to two thirds of the places from the worst on; hits are spread evenly over the query set.
    """
    order = outcome.worst_first()
    hit = outcome.hit[order]
    misses, hits = order[~hit], order[hit]
    room_for_hits = min(len(hits), max(round(limit * SHARE_OF_HITS), limit - len(misses)))
    misses = misses[: limit - room_for_hits]
    spread = np.linspace(0, max(len(hits) - 1, 0), room_for_hits).round().astype(np.int64)
    return np.concatenate([misses, np.sort(hits)[spread]])


def gallery(split: Split, predictions: Predictions, outcome: Outcome, rows: NDArray[np.int64]) -> str:
    """Return the cards of the queries in `rows` (int64) as HTML, thumbnails embedded."""
    shown = predictions.indices[rows, :TOP]
    query_paths = {int(row): split.queries.path(int(row)) for row in rows}
    database_paths = {int(row): split.database.path(int(row)) for row in np.unique(shown)}
    uris = thumbnail_uris([*query_paths.values(), *database_paths.values()], THUMBNAIL)
    cards = []
    for row, best in zip(rows.tolist(), shown.tolist(), strict=True):
        query_name = split.queries.relative_path(row)
        figures = [_figure(uris[query_paths[row]], query_name, "query", f"query {row}", "")]
        for rank, index in enumerate(best):
            right = bool(outcome.correct[row, rank])
            caption = f"{'✓' if right else '✗'} {metres_text(float(outcome.metres[row, rank]))}"
            detail = f"d {predictions.distances[row, rank]:.3f}"
            name = split.database.relative_path(index)
            figures.append(_figure(uris[database_paths[index]], name, "right" if right else "wrong", caption, detail))
        cards.append(_card(outcome, row, query_name, figures))
    return "\n".join(cards)


def _card(outcome: Outcome, row: int, name: str, figures: list[str]) -> str:
    kind = "hit" if outcome.hit[row] else "miss"
    return (
        f'<article class="card {kind}" id="query-{row}"><header><strong>{_verdict(outcome, row)}</strong>'
        f'<span class="name">{escape(name)}</span></header><div class="strip">{"".join(figures)}</div></article>'
    )


def _verdict(outcome: Outcome, row: int) -> str:
    if outcome.hit[row]:
        return "Hit"
    if not outcome.answerable[row]:
        return "No right answer in the database"
    first = int(outcome.first_hit[row])
    return f"Missed, not in the best {outcome.correct.shape[1]}" if first == NEVER else f"Missed, right at rank {first}"


def _figure(uri: str, name: str, kind: str, caption: str, detail: str) -> str:
    small = f"<small>{escape(detail)}</small>" if detail else ""
    return (
        f'<figure class="{kind}" title="{escape(name)}"><img loading="lazy" decoding="async" alt="{escape(caption)}" '
        f'src="{uri}"><figcaption><span>{escape(caption)}</span>{small}</figcaption></figure>'
    )
