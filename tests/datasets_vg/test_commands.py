"""verify, stats, list and map on a small city."""

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
import raw_trees
from locations import REPOSITORY

from datasets_vg.__main__ import main
from datasets_vg.synthetic_city.prepare import CityOptions, prepare


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("city"), CityOptions(images=84, size=(60, 80)), jobs=1)


@pytest.fixture
def damaged(city, tmp_path):
    return shutil.copytree(city, tmp_path / "damaged")


def test_verify_passes_a_sound_set(city, capsys):
    assert main(["verify", str(city)]) == 0
    assert capsys.readouterr().out.endswith("no faults\n")


def test_verify_names_every_fault(damaged, capsys):
    first, second = sorted((damaged / "images/test/database").glob("*.jpg"))[:2]
    first.write_bytes(first.read_bytes()[:500])
    second.write_bytes(b"")
    lost = next((damaged / "images/val/queries").glob("*.jpg"))
    fields = lost.name.split("@")
    fields[1], fields[5], fields[6] = "0700000.00", "", ""  # the degrees would contradict the metres
    lost.rename(lost.with_name("@".join(fields)))
    assert main(["verify", str(damaged)]) == 1
    printed = capsys.readouterr().out
    assert first.name in printed
    assert second.name in printed
    assert "1 queries have no database image within 25 m" in printed
    assert printed.endswith("2 faults\n")


def test_stats_counts_images_and_positives(city, capsys):
    assert main(["stats", str(city), "--radius", "10"]) == 0
    rows = {line.split("|")[1].strip(): line.split("|") for line in capsys.readouterr().out.splitlines()[2:]}
    assert len(rows) == 9
    for name, row in rows.items():
        split, folder = name.split("/")
        assert int(row[2]) == len(list((city / "images" / split / folder).glob("*.jpg")))
    assert "80x60" in rows["test/database"][4]
    assert rows["test/queries"][7].strip() == "0"


def test_list_says_what_is_here(city, capsys):
    assert main(["list", "--datasets_folder", str(city.parent)]) == 0
    lines = {line.split("|")[1].strip(): line for line in capsys.readouterr().out.splitlines()}
    assert "train val test" in lines["synthetic_city"]
    assert "train" not in lines["pitts30k"].split("|")[2]


def test_map_draws_a_dot_an_image(city, tmp_path, capsys):
    assert main(["map", str(city), "--output", str(tmp_path / "city.svg")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "city.svg")
    text = "".join(ElementTree.parse(tmp_path / "city.svg").getroot().itertext())
    assert "test database" in text or "test/database" in text


@pytest.mark.parametrize(
    "words", [["list"], ["verify", "--names_only"], ["stats"], ["map"], ["prepare", "sped"]], ids=" ".join
)
def test_names_are_read_without_torch(city, tmp_path, words):
    """Which takes hundreds of MiB that a folder of names has no use for."""
    rest = {"list": [], "map": [str(city), "--output", str(tmp_path / "city.svg")]}.get(words[0], [str(city)])
    if words[0] == "prepare":
        rest = ["--raw", str(raw_trees.sped(tmp_path / "raw")), "--datasets_folder", str(tmp_path / "sets")]
    code = (
        "import sys; from datasets_vg.__main__ import main; status = main(sys.argv[1:]); "
        "sys.exit(status or 3 * ('torch' in sys.modules))"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", code, *words, *rest], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
