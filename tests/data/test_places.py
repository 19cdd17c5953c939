"""GSV-Cities and GSV-XS as on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from vgbench.data import DataOptions
from vgbench.data.places import read_known_places, read_train_images
from vgbench.errors import UserError

HEADER = "place_id,year,month,northdeg,city_id,lat,lon,panoid\n"


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (90, 120, 40)).save(path, "JPEG")


@pytest.fixture
def gsv(tmp_path: Path) -> Path:
    root = tmp_path / "gsv_cities"
    (root / "Dataframes").mkdir(parents=True)
    for city, latitude in (("Oslo", "59.913869"), ("London", "51.507222")):
        lines = HEADER
        for place in (1, 2):
            for image in range(3):
                pano = f"{place}_{image}-x_"
                name = f"{city}_{place:07d}_2015_0{image + 1}_00{image}_{latitude}_-0.1275_{pano}.JPG"
                picture(root / "Images" / city / name)
                lines += f"{place},2015,{image + 1},{image},{city},{latitude},-0.1275,{pano}\n"
        (root / "Dataframes" / f"{city}.csv").write_text(lines)
    return root


def test_gsv_cities(gsv: Path) -> None:
    options = DataOptions(num_workers=0)
    found = read_known_places(options, gsv, ())
    assert found is not None and len(found.table) == 12 and found.count == 4
    assert found.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert all(found.table.path(row).is_file() for row in range(12))
    assert found.table.heading[:3].tolist() == [0, 1, 2] and found.table.timestamp(1) == "201502"
    # London is at about 699 km east, 5710 km north of zone 30.
    assert abs(found.table.utm[0] - [699_500, 5_710_000]).max() < 3000
    only = read_known_places(options, gsv, ["Oslo"])
    assert only is not None and len(only.table) == 6 and only.table.relative_path(0).startswith("Oslo/")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: None, "--cities Rome: not in .*Dataframes. Expected among: London, Oslo"),
        (lambda root: (root / "Dataframes" / "Oslo.csv").write_text("a,b\n1,2\n"), "Oslo.csv: cannot be read"),
        (lambda root: (root / "Dataframes" / "Oslo.csv").write_text(HEADER + "1,2015,x,0,Oslo,1,2,p\n"), "Oslo.csv"),
        (lambda root: [file.unlink() for file in (root / "Images" / "Oslo").iterdir()], "No such file|cannot be"),
    ],
)
def test_gsv_cities_that_are_broken(gsv: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(gsv)
    with pytest.raises(UserError, match=message):
        read_known_places(DataOptions(num_workers=0), gsv, ["Rome"] if "Rome" in message else [])


@pytest.mark.parametrize("below", ["", "images/train"])
def test_gsv_xs(tmp_path: Path, below: str) -> None:
    for city in ("oslo", "rome"):
        for place in ("a1", "b2"):
            for image in range(2):
                name = f"@0500000.00@40000{image:02d}.00@@@@@@@@@@@@{place}@.jpg"
                picture(tmp_path / "gsv_xs" / below / city / name)
    found = read_known_places(DataOptions(num_workers=0), tmp_path / "gsv_xs", ())
    assert found is not None and found.labels.tolist() == [0, 1, 0, 1, 2, 3, 2, 3] and found.count == 4
    only = read_known_places(DataOptions(num_workers=0), tmp_path / "gsv_xs", ["rome"])
    assert only is not None and only.labels.tolist() == [0, 1, 0, 1]
    picture(tmp_path / "gsv_xs" / below / "oslo" / "@0500000.00@4000009.00@.jpg")
    with pytest.raises(UserError, match="no place in the file name"):
        read_known_places(DataOptions(num_workers=0), tmp_path / "gsv_xs", ())


def test_a_set_in_the_folder_protocol_has_no_known_places(tiny_dataset: Path) -> None:
    options = DataOptions(num_workers=0)
    assert read_known_places(options, tiny_dataset, ()) is None
    with pytest.raises(UserError, match="has no cities"):
        read_known_places(options, tiny_dataset, ["Rome"])
    table = read_train_images(options, tiny_dataset)
    assert len(table) == 40 and {path.split("/")[0] for path in table.relative_paths()} == {"database", "queries"}
