"""Testing by several ranks: all describe and search, one does what is not shared out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from vgbench import parallel
from vgbench.data.protocol import Split
from vgbench.models.network import Network
from vgbench.retrieval.evaluate import Evaluation, evaluate
from vgbench.retrieval.options import EvalOptions
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.runtime import Runtime


def evaluate_together(
    network: Network,
    split: Split,
    options: EvalOptions,
    *,
    size: tuple[int, int],
    num_workers: int,
    runtime: Runtime,
    folder: Path,
    thresholds: Sequence[float] = (25.0,),
    reranking: RerankOptions | None = None,
) -> Evaluation:
    """Return what `evaluate` returns, on every rank.

    Descriptors and exact search are shared out. Reduced or coded descriptors, approximate search and re-ranking are
    rank 0's alone, on the descriptors that all have made.
    """

    def run(options: EvalOptions, chain: RerankOptions | None) -> Evaluation:
        return evaluate(
            network, split, options, size=size, num_workers=num_workers, runtime=runtime, folder=folder,
            thresholds=thresholds, reranking=chain,
        )  # fmt: skip

    plain = dataclasses.replace(options, index="exact", quantise="none", pca_dim=None, pca_file=None)
    if parallel.world() == 1 or (options == plain and not (reranking and reranking.names)):
        return run(options, reranking)
    described = run(plain, None)
    found = parallel.on_main(lambda: run(options, reranking))
    seconds = {stage: value for stage, value in described.seconds.items() if stage.startswith("extract")}
    return dataclasses.replace(found, seconds=found.seconds | seconds, images_per_s=described.images_per_s)
