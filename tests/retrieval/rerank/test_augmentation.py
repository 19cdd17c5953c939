"""The augmented database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from plain_expansion import averaged, nearest

from vgbench.retrieval import Predictions
from vgbench.retrieval.rerank import augmentation
from vgbench.retrieval.rerank.augmentation import DatabaseAugmentation

Make = Callable[..., Any]


Found = Callable[..., Predictions]


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_augmented_database_is_searched_and_kept(
    make_context: Make, found: Found, alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(augmentation, "_BYTES", 4 * 12 * 5 * 7)
    context = make_context(dba_k=3, dba_alpha=alpha)
    done = DatabaseAugmentation()(found(context, 10), context)
    after = done.predictions
    queries, database = context.queries.read().numpy(), context.database.read().numpy()
    augmented = averaged(database, database[nearest(database, database, 4)[0][:, 1:]], alpha)
    np.testing.assert_allclose(after.distances, nearest(queries, augmented, 10)[1], atol=1e-5)
    # With alpha 0 images that are each other's neighbours become equal, and which of them comes first is rounding.
    np.testing.assert_allclose(
        np.linalg.norm(queries[:, None] - augmented[after.indices], axis=2), after.distances, atol=1e-5
    )
    assert done.bytes_per_image == 12 * 4
    [kept] = context.cache.glob("*.h5")
    written = kept.stat().st_mtime_ns
    np.testing.assert_array_equal(
        DatabaseAugmentation()(found(context, 10), context).predictions.indices, after.indices
    )
    assert kept.stat().st_mtime_ns == written
