"""The synthetic city: a dataset like any other, the same bytes for the same seed."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from datasets_vg.__main__ import main
from datasets_vg.synthetic_city.prepare import CityOptions, prepare
from vgbench.data import neighbours_within, read_folder
from vgbench.data.utm import from_latitude_longitude

SPLITS = ("train", "val", "test")
SMALL = {"images": 84, "size": (60, 80)}  # painted in less than half the time of the usual size


def digest(root):
    files = sorted(root.rglob("*.jpg"))
    return [(file.relative_to(root).as_posix(), hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("city"), CityOptions(seed=3, **SMALL), jobs=2)


def tables(city, split):
    folder = city / "images" / split
    return [read_folder(folder / name) for name in ("database", "queries", "queries_night")]


def test_another_seed_gives_another_city(city, tmp_path):
    other = dict(digest(prepare(tmp_path, CityOptions(seed=4, **SMALL), jobs=1)))
    assert not set(other.values()) & {value for _, value in digest(city)}


def test_every_query_can_be_localised_and_no_split_sees_another(city):
    places = {}
    for split in SPLITS:
        database, *queries = tables(city, split)
        for table in queries:
            assert len(table) >= 2
            assert neighbours_within(table.utm, database.utm, 10).without().size == 0
        places[split] = np.concatenate([table.utm for table in (database, *queries)])
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert neighbours_within(places[one], places[other], 500).counts.sum() == 0


def test_names_carry_position_heading_and_time(city):
    files = list((city / "images" / "test").rglob("*.jpg"))[:20]
    assert len(files) == 20
    for file in files:
        fields = file.name.split("@")
        east, north, zone, letter, lat, lon = fields[1:7]
        expected = from_latitude_longitude(float(lat), float(lon))
        # Five decimals of a degree are about a metre.
        assert np.hypot(expected.east - float(east), expected.north - float(north)) < 1.2
        assert (expected.zone, expected.letter) == (int(zone), letter)
        assert 0 <= float(fields[9]) < 360


def test_pictures_have_their_size_and_night_is_dark(city):
    def brightness(name):
        pictures = [Image.open(file) for file in (city / "images" / "train" / name).glob("*.jpg")]
        assert {picture.size for picture in pictures} == {(80, 60)}
        return np.mean([np.asarray(picture).mean() for picture in pictures])

    assert brightness("queries_night") < 0.6 * brightness("queries")
    assert brightness("database") > 60
    assert CityOptions().size == (240, 320)


def test_an_interrupted_city_goes_on_to_the_same_bytes_and_a_complete_one_is_left_alone(city, tmp_path, monkeypatch):
    """The same bytes for the same seed, whatever the processes: here one, `city` is of two."""
    from datasets_vg.synthetic_city.render import Painter

    whole, painted = Painter.picture, []

    def stop_after_thirty(self, *arguments):
        painted.append(1)
        if len(painted) == 30:
            raise KeyboardInterrupt
        return whole(self, *arguments)

    monkeypatch.setattr(Painter, "picture", stop_after_thirty)
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path, CityOptions(seed=3, **SMALL), jobs=1)
    assert not (tmp_path / "synthetic_city").exists()
    made = prepare(tmp_path, CityOptions(seed=3, **SMALL), jobs=1)
    total = len(digest(city))
    assert len(painted) == total + 1  # the picture that was interrupted is painted again, the 29 before it are not
    assert digest(made) == digest(city)
    prepare(tmp_path, CityOptions(seed=3, **SMALL), jobs=1)
    assert len(painted) == total + 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["prepare", "synthetic_city", "--images", "10"], "--images 10"),
        (["prepare", "synthetic_city", "--images", "many"], "--images"),
        (["prepare", "synthetic_city", "--scale", "-1"], "--scale"),
        (["prepare", "synthetic_city", "--jobs", "0"], "--jobs"),
        (["prepare", "synthetic_town"], "Did you mean synthetic_city: python3 -m datasets_vg prepare synthetic_city?"),
        (["prepare", "pitts30k"], "by e-mail"),
        (["stats", "nowhere"], "nowhere"),
        (["fly"], "fly"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, told, tmp_path, capsys):
    assert main([*arguments, *(["--datasets_folder", str(tmp_path)] if arguments != ["fly"] else [])]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert told in error
    assert error.count("\n") == 1


def test_a_city_of_other_options_is_not_overwritten(city, capsys):
    before = digest(city)
    assert main(["prepare", "synthetic_city", "--images", "84", "--datasets_folder", str(city.parent)]) == 2
    assert "seed 3 instead of 0" in capsys.readouterr().err
    assert digest(city) == before
