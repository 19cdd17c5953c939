from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vgbench.data import ImageTable, Split, Triplets, read_folder, triplet_loader
from vgbench.data.decode import decode_image
from vgbench.data.translated import TranslatedViews, build_views
from vgbench.data.unlabelled import read_unlabelled
from vgbench.errors import UserError


@pytest.fixture
def tables(dataset: Path) -> tuple[ImageTable, ImageTable]:
    return read_folder(dataset / "images/test/queries"), read_folder(dataset / "images/test/database")


@pytest.fixture
def translated(dataset: Path, tmp_path: Path, write_image: Callable[..., Path]) -> Path:
    """Versions of all queries, as PNG, and of the first half of the database, as JPEG."""
    folder = tmp_path / "night"
    for kind, keep, extension in (("queries", 5, ".png"), ("database", 6, ".jpg")):
        for i, path in enumerate(sorted((dataset / "images/test" / kind).iterdir())[:keep]):
            write_image(folder / kind / path.with_suffix(extension).name, seed=1000 + i)
    return folder


def test_the_probability_is_kept_and_places_decide(tables: tuple[ImageTable, ImageTable], translated: Path) -> None:
    queries, database = tables
    views = TranslatedViews(translated, 0.3, seed=0)
    chosen = np.array([[views.path_of(queries, row, (0, 0, step)) != queries.path(row) for row in range(5)]
                       for step in range(400)])  # fmt: skip
    assert 0.26 < chosen.mean() < 0.34
    assert (np.abs(chosen.mean(0) - 0.3) < 0.09).all() and len({tuple(row) for row in chosen.tolist()}) > 10
    again = [views.path_of(queries, row, (0, 0, 7)) != queries.path(row) for row in range(5)]
    assert again == chosen[7].tolist()
    other = TranslatedViews(translated, 0.3, seed=1)
    assert [[other.path_of(queries, row, (0, 0, step)) != queries.path(row) for row in range(5)]
            for step in range(400)] != chosen.tolist()  # fmt: skip
    paths = [TranslatedViews(translated, 1.0, 0).path_of(database, row, ()) for row in range(12)]
    assert [path.is_relative_to(translated) for path in paths] == [True] * 6 + [False] * 6
    assert [path.stem for path in paths] == [database.path(row).stem for row in range(12)]
    assert all(TranslatedViews(translated, 0.0, 0).path_of(queries, row, ()) == queries.path(row) for row in range(5))


def test_one_folder_serves_tables_of_queries_and_of_all_images(dataset: Path, translated: Path) -> None:
    everything = read_folder(dataset / "images/test")
    views = build_views(translated, 1.0, 0, everything)
    assert views is not None
    found = [views.path_of(everything, row, ()) for row in range(len(everything))]
    assert sum(path.is_relative_to(translated) for path in found) == 11
    for row, path in enumerate(found):
        assert (path.parent.name, path.stem) == (everything.path(row).parent.name, everything.path(row).stem)


def test_a_folder_that_does_not_fit_is_named(tables: tuple[ImageTable, ImageTable], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--translated_folder .*nowhere.*test/queries"):
        build_views(tmp_path / "nowhere", 0.5, 0, *tables)
    (tmp_path / "flat").mkdir()
    shutil.copy(tables[0].path(0), tmp_path / "flat" / "another name.jpg")
    with pytest.raises(UserError, match=r"flat: no file is a version of a training image.*test/queries.*test/database"):
        build_views(tmp_path / "flat", 0.5, 0, *tables)
    assert build_views(None, 0.5, 0, *tables) is None
    assert build_views(tmp_path / "flat", 0.0, 0, *tables) is None


def test_triplets_take_translated_pictures(
    dataset: Path, tables: tuple[ImageTable, ImageTable], translated: Path
) -> None:
    queries, database = tables
    split = Split("test", dataset, database, queries)
    triplets = Triplets(np.array([0, 1, 2, 0]), np.array([0, 1, 2, 0]), np.array([[5, 11], [7, 8], [0, 1], [3, 4]]))

    def images(probability: float, workers: int = 0, place: tuple[int, ...] = (0, 0)) -> list[torch.Tensor]:
        views = TranslatedViews(translated, probability, 0)
        loader = triplet_loader(
            split, triplets, size=(12, 16), batch_size=2, num_workers=workers, views=views.at(*place)
        )
        return [batch.images for batch in loader]

    plain = [b.images for b in triplet_loader(split, triplets, size=(12, 16), batch_size=2, num_workers=0)]
    assert all(torch.equal(a, b) for a, b in zip(plain, images(0.0), strict=True))
    first = images(1.0)[0]  # queries 0, 1; database 0, 1, 5, 7, 8, 11
    by_name = {kind: sorted((translated / kind).iterdir()) for kind in ("queries", "database")}
    expected = by_name["queries"][:2] + [by_name["database"][i] for i in (0, 1, 5)]
    for image, path in zip(first[:5], expected, strict=True):
        assert torch.equal(image, decode_image(path, (12, 16)))
    assert torch.equal(first[5:], plain[0][5:])
    some, forked, elsewhere = images(0.5), images(0.5, workers=2), images(0.5, place=(0, 1))
    assert all(torch.equal(a, b) for a, b in zip(some, forked, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(some, elsewhere, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(some, plain, strict=True))


def test_unlabelled_folders_of_any_layout(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    names = ["b.png", "a/1.JPG", "a/2 3.jpeg", "c/d/e.jpg"]
    for i, name in enumerate(names):
        write_image(tmp_path / "photos" / name, seed=i)
    (tmp_path / "photos" / ".hidden.jpg").write_bytes(b"")
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no")
    table = read_unlabelled(tmp_path / "photos", "--grl_folder")
    assert list(table.relative_paths()) == ["a/1.JPG", "a/2 3.jpeg", "b.png", "c/d/e.jpg"]
    assert np.isnan(table.utm).all()
    assert list(read_unlabelled(tmp_path / "photos", "--grl_folder", most=2).relative_paths()) == [
        "a/1.JPG",
        "c/d/e.jpg",
    ]
    with pytest.raises(UserError, match=r"--grl_folder .*/none: no such folder"):
        read_unlabelled(tmp_path / "none", "--grl_folder")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"--grl_folder .*/empty: no images"):
        read_unlabelled(tmp_path / "empty", "--grl_folder")
