"""Hold-outs of a train split: every image tested once, nothing near a test trained on, and images that can be read."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datasets_vg.__main__ import main
from datasets_vg.holdout import regions, write_holdouts
from vgbench.data import read_split
from vgbench.errors import UserError


@pytest.fixture
def town(tmp_path: Path) -> Path:
    """Two streets, of 40 database images and 12 queries each, 300 m apart."""
    root = tmp_path / "town"
    for street, north in enumerate((0, 300)):
        for part, step in (("database", 5), ("queries", 17)):
            for east in range(0, 200, step):
                for split in ("train", "val"):
                    folder = root / "images" / split / part
                    folder.mkdir(parents=True, exist_ok=True)
                    name = f"@{500000 + east}@{4000000 + north}@33@T@@@@@@@@{street}@@.jpg"
                    Image.new("RGB", (8, 8), (east, 0, 0)).save(folder / name)
    return root


def test_every_image_is_tested_once_and_none_near_it_is_trained_on(town: Path) -> None:
    said = write_holdouts(town, 4, 25.0)
    assert len(said.splitlines()) == 4
    whole, tested = read_split(town, "train"), []
    for number in range(1, 5):
        root = town.with_name(f"town_holdout{number}")
        train, test, val = (read_split(root, split) for split in ("train", "test", "val"))
        held = np.concatenate([test.database.utm, test.queries.utm])
        for table in (train.database, train.queries):
            apart = np.linalg.norm(table.utm[:, None] - held[None], axis=2).min(1)
            assert len(table) and apart.min() > 25
        everything = np.concatenate([whole.database.utm, whole.queries.utm])
        far = np.linalg.norm(everything[:, None] - held[None], axis=2).min(1) > 25
        assert far.sum() == len(train.database) + len(train.queries), "what is far enough is trained on"
        tested += [test.queries.relative_path(row) for row in range(len(test.queries))]
        assert len(val.queries) == 24
        assert Image.open(test.queries.path(0)).size == (8, 8)
    assert sorted(tested) == sorted(whole.queries.relative_paths())


def test_two_parts_are_the_two_streets(town: Path) -> None:
    write_holdouts(town, 2, 25.0)
    for number in (1, 2):
        test = read_split(town.with_name(f"town_holdout{number}"), "test")
        assert len(np.unique(np.concatenate([test.database.utm[:, 1], test.queries.utm[:, 1]]))) == 1


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6), st.integers(0, 99))
def test_parts_are_of_like_numbers_of_queries(parts: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = regions(rng.uniform(0, 1000, (200, 2)), rng.uniform(0, 1000, (64, 2)), parts)
    counts = np.bincount(found["queries"], minlength=parts)
    assert len(counts) == parts and counts.min() >= 64 // (2 * parts) and counts.max() <= 2 * -(-64 // parts)
    assert len(found["database"]) == 200 and set(found["database"]) == set(range(parts))


def test_what_cannot_be_held_out_is_refused_in_one_line(town: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"part 1 of 2 leaves train without database and queries"):
        write_holdouts(town, 2, 1000.0)
    assert not list(town.parent.glob("*.partial"))
    assert main(["holdout", str(town), "--parts", "2"]) == 0
    assert "town_holdout2: train 40 + 12, test 40 + 12 images" in capsys.readouterr().out
    assert main(["holdout", str(town), "--parts", "2"]) == 2
    assert "town_holdout1: is there already" in capsys.readouterr().err
