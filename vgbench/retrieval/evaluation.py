"""Testing a network on one split: describe, search, count. Training's validation and eval.py both call this."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vgbench import parallel
from vgbench.data.positives import Neighbours, within_text
from vgbench.data.protocol import Split
from vgbench.data.table import ImageTable
from vgbench.errors import UserError
from vgbench.files import check_space, is_file
from vgbench.models.hashing import hashing_of
from vgbench.models.network import Infer, Network
from vgbench.models.sequences.network import SequenceNetwork
from vgbench.retrieval.adaptive.stage import Outcome, Reranking, check_stage, run
from vgbench.retrieval.beforehand import Forecast, check_beforehand
from vgbench.retrieval.extraction.crops import Views, views_of
from vgbench.retrieval.extraction.extract import (
    Count,
    StoredForm,
    extract,
    extraction_fingerprint,
    form_of,
    weights_hash,
)
from vgbench.retrieval.extraction.store import DTYPES, Descriptors, stored_fingerprint
from vgbench.retrieval.extraction.windows import check_unit
from vgbench.retrieval.extraction.writer import begun_bytes
from vgbench.retrieval.metrics.recall import recall_table
from vgbench.retrieval.options import EvalOptions, thresholds_in_order
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.base import RerankContext
from vgbench.retrieval.rerank.chain import RerankStep
from vgbench.retrieval.searching.comparison import Searched, compare
from vgbench.retrieval.searching.exact import ExactSearch, exact_search, make_searcher, searcher_type
from vgbench.retrieval.searching.pca import pca_of, pca_part, projected
from vgbench.runtime import Inference

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """What testing found.

    Attributes:
        predictions: the best max(recall_values) database rows per query, after re-ranking (at least rerank_topk then).
        recalls: threshold in metres -> N -> percent; empty where the queries have no coordinates.
        neighbours: threshold in metres -> each query's positives; likewise.
        threshold: the one that counts, metres.
        queries_without_positives: how many queries nothing can localise at the first threshold; they count as misses.
        seconds: stage -> wall-clock seconds ("extract_database", "extract_queries", "search", "metrics", and "rerank"
            where there are re-rankers).
        images_per_s: images described a second; 0 when every descriptor was reused.
        descriptors_dim: D.
        fingerprint: of the database's and the queries' descriptors, for `Predictions.save`.
        rerank: what each re-ranker did, in order.
        compression: what compression and approximate search lost against exact search (`comparison.compare`), empty
            where there was none.
    """

    predictions: Predictions
    recalls: dict[float, dict[int, float]]
    neighbours: dict[float, Neighbours]
    threshold: float
    queries_without_positives: int
    seconds: dict[str, float]
    images_per_s: float
    descriptors_dim: int
    fingerprint: str
    rerank: tuple[RerankStep, ...] = ()
    compression: dict[str, Any] = field(default_factory=dict)
    judged: Outcome | None = None


@dataclass
class _Clock:
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start


def evaluate(
    network: Network,
    split: Split,
    options: EvalOptions,
    inference: Inference,
    folder: Path,
    *,
    thresholds: Sequence[float] = (25.0,),
    reranking: Reranking | None = None,
) -> Evaluation:
    """Describe a split's database and queries, find each query's nearest images, re-rank them and count recalls.

    Queries without coordinates (UTM NaN) get predictions and no recalls.

    Args:
        inference: one size of all images, batches, processes and precision.
        folder: where descriptor files go, and where matching ones of an earlier run are reused from.
        thresholds: metres, used where `options.threshold` is unset; the first is the one that counts, and comes first
            in the results where `options.threshold` has it too.
        reranking: how sure the search is, and the chain of re-rankers; None for neither.

    Raises:
        UserError: an empty table, an unreadable image, a backend that is absent, a file that cannot be written, or a
            re-ranker that cannot run.
    """
    thresholds = split.truth.thresholds(thresholds_in_order(options.threshold, thresholds))
    views, weights, images = checked(network, split, options, inference, reranking)
    clock = _Clock()
    forecast = _forecast(network, split, options, views, images)
    described = _Extraction(network, options, inference, folder, split, weights, forecast)
    parallel.on_main(lambda: described.check_space(views, images))
    count = reranking.predictions_needed(options.recall_values) if reranking else max(options.recall_values)
    with contextlib.ExitStack() as files:
        found = _find(described, images, views, count, clock, files)
        database, predictions = found.database, found.predictions
        with clock.stage("metrics"):
            judged = thresholds if split.located or not split.truth.located else ()
            neighbours = {t: split.truth.positives(split.queries, split.database, t) for t in judged}
        compression = _compared(described, found, views, thresholds[0] if judged else None, clock, files)
        outcome = Outcome(predictions)
        if reranking:
            # Several crops of each query are read and averaged for re-rankers alone.
            each = views[1].averaged(found.queries) if reranking.options.is_used else found.queries
            context = RerankContext(
                split, database, each, network, reranking.options, inference, folder,
                exact_search(options, inference.runtime),
            )  # fmt: skip
            with clock.stage("rerank") if reranking.options.is_used else contextlib.nullcontext():
                outcome = run(predictions, context, reranking, neighbours, options.recall_values)
    predictions = outcome.predictions
    recalls = recall_table(predictions.indices, neighbours, options.recall_values)
    return Evaluation(
        predictions=predictions,
        recalls=recalls,
        neighbours=neighbours,
        threshold=thresholds[0],
        queries_without_positives=_without_positives(split, neighbours),
        seconds=clock.seconds,
        images_per_s=found.images_per_s,
        descriptors_dim=database.shape[1],
        fingerprint=f"{database.fingerprint}-{found.queries.fingerprint}",
        rerank=outcome.steps,
        compression=compression,
        judged=outcome,
    )


def checked(
    network: Network, split: Split, options: EvalOptions, inference: Inference, reranking: Reranking | None
) -> tuple[tuple[Views, Views], str, ImageTable | None]:
    """Refuse what `evaluate` can refuse before it describes an image.

    Returns:
        The views of database images and of queries, the hash of the network's weights, and the images that a PCA is
        fitted to, None where there is none to fit.

    Raises:
        UserError: as `check_beforehand`, and where a re-ranker cannot run.
    """
    views = views_of(options, network, inference.fixed_size)
    check_unit(network, split.database)
    if isinstance(network, SequenceNetwork) and not all(one.plain for one in views):
        raise UserError("--test_method, --scales: are of images, the network describes sequences. Expected neither")
    weights = weights_hash(network)
    images = check_beforehand(network, split, options, inference, views, weights)
    if reranking:
        check_stage(network, reranking.options, inference.runtime)
    return views, weights, images


@dataclass(frozen=True)
class _Found:
    """What the search saw and gave: descriptors as searched and as extracted, predictions, bytes, images per second."""

    database: Descriptors
    queries: Descriptors
    original: tuple[Descriptors, Descriptors]
    predictions: Predictions
    bytes_per_image: float
    images_per_s: float


def _find(
    described: _Extraction,
    pca_table: ImageTable | None,
    views: tuple[Views, Views],
    count: int,
    clock: _Clock,
    files: contextlib.ExitStack,
) -> _Found:
    """Extract, reduce and search; the files stay open until `files` closes them."""
    split, options, folder, runtime = described.split, described.options, described.folder, described.runtime
    with clock.stage("extract_database"):
        database = files.enter_context(described.run(split.database, "database", views[0]))
    with clock.stage("extract_queries"):
        queries = files.enter_context(described.run(split.queries, split.queries.root.name, views[1]))
    images_per_s = described.images / (clock.seconds["extract_database"] + clock.seconds["extract_queries"])
    original = database, queries
    if options.is_reduced:
        with clock.stage("pca"):
            pca = pca_of(
                options, pca_table, lambda t, n: described.run(t, n, views[0]), folder, runtime, described.weights
            )
            database, queries = map(files.enter_context, projected(pca, original, options, folder, runtime))
    described.all_described()
    exact = searcher_type(options) is ExactSearch
    with contextlib.nullcontext() if exact else clock.stage("index"):
        searcher = make_searcher(database, options, runtime, described.learned)
    with clock.stage("search"):
        predictions = views[1].method.merge(searcher.search(queries, count))
    return _Found(database, queries, original, predictions, searcher.bytes_per_image, images_per_s)


def _compared(
    described: _Extraction,
    found: _Found,
    views: tuple[Views, Views],
    threshold: float | None,
    clock: _Clock,
    files: contextlib.ExitStack,
) -> dict[str, Any]:
    """Return what `compare` finds, with recalls where there is a threshold; nothing where nothing is lossy."""
    if not described.options.is_lossy:
        return {}
    with clock.stage("compare"):
        original = None if threshold is None else described.full_precision(files, found.original, views)
        ms_per_query = 1000 * clock.seconds["search"] / len(described.split.queries)
        searched = Searched(found.predictions, found.original[0].shape[1], found.bytes_per_image, ms_per_query)
        options, runtime = described.options, described.runtime
        return compare(original, searched, described.split, views[1], options, runtime, threshold or 0.0)


def _without_positives(split: Split, neighbours: Mapping[float, Neighbours]) -> int:
    """Count the queries that nothing can localise at the first threshold, and say so."""
    for threshold, near in neighbours.items():
        lonely = len(near.without())
        if lonely:
            LOG.warning(
                "%s: %d of %d queries have no positive (%s); they count as misses",
                split.queries.root, lonely, len(split.queries), within_text(threshold, split.truth.label),
            )  # fmt: skip
        return lonely
    return 0


def _forecast(
    network: Network, split: Split, options: EvalOptions, views: tuple[Views, Views], pca: ImageTable | None
) -> Forecast:
    """What there is to describe: the database, the queries, and the images that a PCA is fitted to."""
    tables = [(split.database, views[0]), (split.queries, views[1])] + ([] if pca is None else [(pca, views[0])])
    size = sum(_bytes(network, table, one, options) for table, one in tables)
    return Forecast(sum(len(table) for table, _ in tables), size)


def _bytes(network: Network, table: ImageTable, views: Views, options: EvalOptions) -> int:
    """How much the descriptors of a table take."""
    each = DTYPES[options.descriptors_dtype].itemsize * int(network.descriptors_dim)
    return len(table) * views.described * views.dim(each)


class _Extraction:
    """Extraction of a split's two tables with one network, counting the images that were really described."""

    def __init__(
        self,
        network: Network,
        options: EvalOptions,
        inference: Inference,
        folder: Path,
        split: Split,
        weights: str,
        forecast: Forecast,
    ) -> None:
        self.images = 0
        self._network, self.options = network, options
        self._inference = dataclasses.replace(inference, form=self._shared_form)
        self._form: Infer | None = None
        self.runtime = inference.runtime
        self.folder, self.split = folder, split
        self.weights, self._forecast = weights, forecast

    def _shared_form(self) -> Infer:
        """Make the network's inference form for the first table, and keep it for the others: half a second each."""
        if self._form is None:
            self._form = form_of(self._network, self.runtime)
        return self._form

    def all_described(self) -> None:
        """Let go of the network's inference form, which is as large as the network."""
        self._form = None

    @property
    def learned(self) -> dict[str, Any] | None:
        """What the network has learned of codes."""
        branch = hashing_of(self._network)
        return None if branch is None else branch.thresholds()

    def check_space(self, views: tuple[Views, Views], pca: ImageTable | None) -> None:
        """Raise UserError where the descriptors of all tables, beside what is there of them, will not fit."""
        options, split = self.options, self.split
        tables = [(split.database, "database", views[0]), (split.queries, split.queries.root.name, views[1])]
        need = 0
        for table, part, one in [*tables, *([] if pca is None else [(pca, pca_part(pca), views[0])])]:
            path = self._place(table, part, one, options.descriptors_dtype)[0]
            if not is_file(path):
                need += max(0, _bytes(self._network, table, one, options) - begun_bytes(path))
                if options.pca_dim is not None and table is not pca:
                    need += DTYPES[options.descriptors_dtype].itemsize * options.pca_dim * len(table) * one.described
        half = "halve it by --descriptors_dtype float16" if options.descriptors_dtype == "float32" else ""
        check_space(self.folder, need, half)

    def run(self, table: ImageTable, part: str, views: Views) -> Descriptors:
        """Return the descriptors of a table, made now or by an earlier run."""
        path, fingerprint = self._place(table, part, views, self.options.descriptors_dtype)
        with tqdm(total=len(table), desc=path.stem, unit="img", disable=None, leave=False) as bar:

            def count(images: int) -> None:
                self.images += images
                if line := self._forecast.described(images):
                    LOG.info("%s", line)
                bar.update(images)

            def skip(images: int) -> None:
                self._forecast.skipped(images)
                bar.update(images)

            return extract(
                self._network,
                table,
                path,
                dataclasses.replace(self._inference, size=views.largest),
                form=StoredForm(self.options.descriptors_dtype, views),
                count=Count(count, skip),
                fingerprint=fingerprint,
            )

    def full_precision(
        self, files: contextlib.ExitStack, stored: tuple[Descriptors, Descriptors], views: tuple[Views, Views]
    ) -> tuple[Descriptors, Descriptors] | None:
        """Return the split's descriptors in float32 where an earlier run left them, else as they are stored.

        None where float16 is all that there is and nothing else was done to it: there is nothing to compare with.
        """
        if self.options.descriptors_dtype == "float32":
            return stored
        parts = (self.split.database, "database"), (self.split.queries, self.split.queries.root.name)
        places = [self._place(*part, one, "float32") for part, one in zip(parts, views, strict=True)]
        if all(stored_fingerprint(path) == fingerprint for path, fingerprint in places):
            database, queries = (files.enter_context(Descriptors(path)) for path, _ in places)
            return database, queries
        return stored if self.options.searches_otherwise else None

    def _place(self, table: ImageTable, part: str, views: Views, dtype: str) -> tuple[Path, str]:
        """Return the file of a table's descriptors, and their fingerprint."""
        inference = dataclasses.replace(self._inference, size=views.largest)
        fingerprint = extraction_fingerprint(self._network, table, inference, StoredForm(dtype, views), self.weights)
        # Named by what is in it: other sizes and weights stand beside it, each found again.
        name = f"{self.split.root.name}_{self.split.name}_{part}-{fingerprint[:12]}.h5"
        return self.folder / name, fingerprint
