"""A small city of generated photographs with nasty file names, and predictions whose outcome is known by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vgbench.data import Neighbours, Split, neighbours_within, read_split
from vgbench.retrieval.metrics.recall import recall_table
from vgbench.retrieval.predictions import Predictions

NASTY = """<img src=x onerror=alert(1)> "quoted" & 'single' $title ${style}"""


@dataclass(frozen=True)
class City:
    """A split with 12 database images 10 m apart and 6 queries beside them, and its predictions."""

    split: Split
    predictions: Predictions
    neighbours: Neighbours
    results: dict[str, Any]


def save_image(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 48), (shade, 128, 255 - shade)).save(path)


@pytest.fixture
def city(tmp_path: Path) -> City:
    root = tmp_path / "city"
    for place in range(12):
        name = f"@{500000 + 10 * place:010.2f}@{4000000:010.2f}@@@@@@@@@@@@{NASTY if place == 3 else ''}@.jpg"
        save_image(root / "images/test/database" / name, 20 * place)
    # Queries 0-4 stand at places 0, 3, 6, 9, 11; query 5 is a kilometre away and has no right answer.
    for query, east in enumerate((0, 30, 60, 90, 110, 1100)):
        note = NASTY if query == 1 else ""
        name = f"@{500000 + east:010.2f}@{4000001:010.2f}@@@@@@@@@@{2000 + query}@@{note}@.jpg"
        save_image(root / "images/test/queries" / name, 10 * query)
    split = read_split(root, "test")
    # Right at rank 1; right at rank 1; right at rank 3; never; never, and farther off; never (nothing to find).
    indices = np.array([[0, 1, 11], [4, 3, 9], [11, 10, 6], [0, 1, 2], [0, 1, 2], [11, 10, 9]], dtype=np.int64)
    distances = np.tile(np.array([0.25, 0.5, 0.75], dtype=np.float32), (6, 1))
    tables = {t: neighbours_within(split.queries.utm, split.database.utm, t) for t in (15.0, 5.0)}
    recalls = recall_table(indices, tables, (1, 2, 3))
    results = {
        "dataset": "city",
        "split": "test",
        "queries_folder": "queries",
        "network": {"backbone": "resnet18conv4", "aggregation": "gem"},
        "descriptors_dim": 256,
        "recalls": {f"{t:g}": {str(n): r for n, r in row.items()} for t, row in recalls.items()},
        "queries": 6,
        "database": 12,
        "queries_without_positives": 1,
        "seconds": {"search": 0.5},
        "images_per_second": 123.4,
        "options": {"lr": 1e-5, "resize": [48, 64], "fc_output_dim": None, "note": NASTY},
        "version": "0.1.0+test",
    }
    return City(split, Predictions(indices, distances), tables[15.0], results)
