"""dba: each database descriptor is averaged with its neighbours', and the database is searched again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from pathlib import Path

import numpy as np

from vgbench.retrieval.extraction.store import Descriptors, is_reusable
from vgbench.retrieval.extraction.writer import DescriptorWriter, writing_alone
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.base import RerankContext, Reranked, Reranker
from vgbench.retrieval.rerank.described import require_a_descriptor_a_query, weighted_mean
from vgbench.retrieval.rerank.neighbour_lists import NeighbourLists

_BYTES = 64 * 2**20


class DatabaseAugmentation(Reranker):
    """Database-side feature augmentation (Arandjelović and Zisserman, 2012; Gordo et al., 2017).

    The `--dba_k` nearest neighbours of a database descriptor are added with the power `--dba_alpha` of their cosine as
    weight. The augmented descriptors are kept for the next run, and later re-rankers see them.
    """

    def __call__(self, predictions: Predictions, context: RerankContext) -> Reranked:
        require_a_descriptor_a_query("dba", predictions, context)
        start = time.perf_counter()
        database = Descriptors(self._augmented(context))
        preparing = time.perf_counter() - start
        return Reranked(
            context.search(database, context.queries, predictions.indices.shape[1]),
            bytes_per_image=float(database.row_bytes),
            preparing_s=preparing,
            context=dataclasses.replace(context, database=database),
        )

    @staticmethod
    def _augmented(context: RerankContext) -> Path:
        """Return the file of augmented descriptors, made now where there is none."""
        options, database = context.options, context.database
        facts = {"of": database.fingerprint, "k": options.dba_k, "alpha": options.dba_alpha, "layout": 1}
        fingerprint = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        path = context.cache / f"{context.split.root.name}_{context.split.name}_dba-{fingerprint[:12]}.h5"
        with writing_alone(path):
            dtype = str(database.dtype).removeprefix("torch.")
            if database.fingerprint and is_reusable(path, fingerprint, *database.shape, dtype):
                return path
            lists = NeighbourLists(database, None, options.dba_k + 1, context.search)
            step = max(1, _BYTES // (4 * database.shape[1] * (options.dba_k + 2)))
            with DescriptorWriter(path, *database.shape, dtype, fingerprint) as writer:
                while writer.rows_done < len(database):
                    rows = np.arange(writer.rows_done, min(writer.rows_done + step, len(database)))
                    near = lists.of(rows)[:, 1:]
                    others = database.rows(near.reshape(-1)).float().view(*near.shape, database.shape[1])
                    writer.write(weighted_mean(database.rows(rows).float(), others, options.dba_alpha))
        return path
