"""Export to GSV-Cities' layout: read again by our own reader, and places that are what CosPlace says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datasets_vg.__main__ import main
from datasets_vg.export.gsv_cities import APART, Cells, cell_places, radius_places, write
from vgbench.data import ImageTable, read_folder
from vgbench.data.classes import cosplace_groups
from vgbench.data.options import DataOptions
from vgbench.data.places import read_known_places
from vgbench.data.protocol import ImageName, format_name
from vgbench.data.table import TableBuilder
from vgbench.errors import UserError


def town(root: Path, *, zone: bool = True, ending: str = ".jpg") -> Path:
    """A street of 12 spots of 4 images, 15 m apart; a few without heading or date."""
    for number in range(48):
        spot, turn = divmod(number, 4)
        east, north = 395000.0 + 15 * spot + turn, 4991000.0 + 2 * turn
        name = format_name(
            ImageName(
                utm_east=east, utm_north=north, zone_number=32 if zone else None, zone_letter="T" if zone else "",
                heading=None if number == 5 else 10.5 + turn, timestamp="" if number == 6 else "20190605",
            )
        )  # fmt: skip
        folder = root / "images" / "train" / ("queries" if turn == 3 else "database")
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / name.replace(".jpg", ending), "PNG")
    return root


@pytest.mark.parametrize("copy", ["--copy", "--link"])
@pytest.mark.parametrize("how", [["--N", "2", "--M", "20"], ["--radius", "9"]])
def test_what_is_written_is_read_again(
    tmp_path: Path, how: list[str], copy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = town(tmp_path / "my town"), tmp_path / "places"
    assert main(["export", str(root), "--format", "gsv_cities", "--output", str(out), copy, *how]) == 0
    said = capsys.readouterr().out
    known = read_known_places(DataOptions(num_workers=0), out, ())
    assert known is not None
    table = read_folder(root / "images" / "train")
    cells = Cells(M=20.0, N=2, alpha=60.0, L=2, groups=1)
    labels = radius_places(table, 9.0, 4) if "--radius" in how else cell_places(table, cells, 4)
    kept = np.flatnonzero(labels >= 0)
    assert f"{labels.max() + 1} places, {len(kept)} of 48 images" in said and labels.max() >= 2
    # Which is which is told by the pixels.
    told = {Image.open(table.path(int(row))).getpixel((0, 0)): int(row) for row in kept}
    rows = np.array([told[Image.open(known.table.path(row)).getpixel((0, 0))] for row in range(len(known.table))])
    assert sorted(rows) == sorted(kept)
    assert np.allclose(known.table.utm, table.utm[rows], atol=0.01)
    assert np.array_equal(known.labels[:, None] == known.labels, labels[rows][:, None] == labels[rows])
    heading = np.nan_to_num(table.heading[rows])
    assert np.abs(known.table.heading - heading).max() <= 0.5
    assert {known.table.timestamp(row) for row in range(len(rows))} <= {"201906", "000000"}
    assert all(known.table.path(row).is_symlink() == (copy == "--link") for row in range(len(rows)))


def table_of(points: list[tuple[float, float, float]]) -> ImageTable:
    builder = TableBuilder()
    for number, (east, north, heading) in enumerate(points):
        builder.add(f"{number:04d}.jpg", east, north, heading, "")
    return builder.build(Path("nowhere"))


POINTS = st.lists(
    st.tuples(st.integers(0, 120), st.integers(0, 120), st.integers(0, 359)).map(lambda p: tuple(map(float, p))),
    min_size=1, max_size=60,
)  # fmt: skip


@settings(max_examples=25)
@given(points=POINTS, at_least=st.integers(2, 4))
def test_cells_are_the_largest_group_of_cosplaces(points: list[tuple[float, float, float]], at_least: int) -> None:
    table = table_of(points)
    labels = cell_places(table, Cells(M=15.0, N=3, alpha=60.0, L=2, groups=1), at_least)
    groups = cosplace_groups(table, side=15.0, angle=60.0, spacing=3, turns=2, at_least=at_least, most=1000)
    ours = {frozenset(np.flatnonzero(labels == label)) for label in range(labels.max() + 1)}
    every = [{frozenset(c.rows[c.starts[i] : c.starts[i + 1]]) for i in range(len(c))} for (c,) in groups]
    assert len(ours) == max(map(len, every), default=len(ours)) and (len(ours) < 2 or ours in every)


@settings(max_examples=25)
@given(points=POINTS, radius=st.floats(1, 40))
def test_a_radius_keeps_places_small_and_apart(points: list[tuple[float, float, float]], radius: float) -> None:
    table = table_of(points)
    labels = radius_places(table, radius, 2)
    distance = np.linalg.norm(table.utm[:, None] - table.utm, axis=2)
    same = labels[:, None] == labels
    placed = (labels[:, None] >= 0) & (labels >= 0)
    assert (distance[placed & ~same] > APART).all() and (distance[placed & same] <= 2 * radius + 1e-9).all()
    assert all(np.sum(labels == label) >= 2 for label in range(labels.max() + 1))


def test_what_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = Cells(M=20.0, N=2, alpha=60.0, L=2, groups=1)
    how = {"split": "train", "city": "x", "at_least": 4, "copy": False}
    with pytest.raises(UserError, match="its name has no UTM zone"):
        write(town(tmp_path / "a", zone=False), tmp_path / "out", how=cells, **how)  # type: ignore[arg-type]
    mixed = town(tmp_path / "b")
    town(mixed, ending=".png")
    with pytest.raises(UserError, match="end in jpg and png"):
        write(mixed, tmp_path / "out", how=9.0, **how)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()
    export = ["export", str(town(tmp_path / "c")), "--format", "gsv_cities", "--output"]
    assert main([*export, str(tmp_path), "--radius", "9"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main([*export, str(tmp_path / "out"), "--radius", "9", "--M", "3"]) == 2
    assert "--M 3: is of places by cells" in capsys.readouterr().err
    assert main([*export, str(tmp_path / "out"), "--min_images", "30"]) == 2
    assert "0 places of 30 images or more" in capsys.readouterr().err
