"""Every command of docs/datasets.md, run in its order on small raw trees: what is fetched there is given here."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import raw_trees
from own_pictures import along, exif, picture
from raw_trees import MAKERS

from datasets_vg.__main__ import _parser, main
from datasets_vg.challenge.choices import CITIES

DOCS = Path(__file__).parents[2] / "docs" / "datasets.md"
COMMAND = re.compile(r"^python3 -m datasets_vg ([^#\n]*)", re.MULTILINE)


def commands() -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    return [shlex.split(line) for block in blocks for line in COMMAND.findall(block)]


def downloads(home: Path) -> None:
    """Write what the documentation expects a user to have downloaded."""
    raw_trees.pittsburgh(home / "downloads/pittsburgh")
    raw_trees.pittsburgh(home / "downloads/pittsburgh", "pitts250k")
    raw_trees.tokyo247(home / "downloads/tokyo247")
    raw_trees.msls(home / "downloads/msls")
    raw_trees.msls_challenge(home / "downloads/msls", CITIES)
    raw_trees.gsv_cities(home / "downloads/gsv-cities")
    raw_trees.in_protocol(home / "sf_xl/val", "sf_xl")
    for number in range(8):
        photo = home / "Pictures/my_town" / f"IMG_{number}.jpg"
        photo.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(photo, exif=exif(along(10.0 * number)))


def challenge_files(here: Path) -> None:
    """Write what eval.py writes of the challenge's cities."""
    for city in CITIES:
        (here / f"{city}.txt").write_text(f"{city}-query {city}-database\n")


def given(words: list[str], home: Path, raw: Path) -> list[str]:
    """Return a command with the raw files that it would fetch, and a smaller city."""
    words = [word.replace("~", str(home)) for word in words]
    if words[0] != "prepare" or "--raw" in words:
        return words
    name, parts = words[1], words[words.index("--part") + 1 :] if "--part" in words else []
    if name == "synthetic_city":
        return ["prepare", name, "--images", "60"]
    if name == "sf_xl" and parts:
        for split in (
            (f"{parts[0]}/database", f"{parts[0]}/queries") if parts[0] != "small" else ("small/test/database",)
        ):
            raw_trees.picture(raw / f"part_{parts[0]}" / split / "@0499638.99@6958015.36@56@J@@@p@@@@@@@@.jpg")
        return [*words, "--raw", str(raw / f"part_{parts[0]}")]
    return [*words, "--raw", str(MAKERS[name](raw / name / "default"))]


def test_the_commands_run_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("datasets_vg.prepare.eynsham.FIRST_ROUND", 2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATASETS_FOLDER", raising=False)
    home, raw = tmp_path / "home", tmp_path / "raw"
    downloads(home)
    challenge_files(tmp_path)
    done = []
    for words in commands():
        if words[0] == "map" and words[1:2] == ["my_town"]:
            assert (tmp_path / "datasets/my_town").is_dir()
        if words[:2] == ["prepare", "synthetic_city"] and len(words) > 2:
            continue  # the same again, larger or of another seed
        if words[0] == "export":  # these sets are of a few images, which make no places
            assert _parser().parse_args(words).format == "gsv_cities"
            continue
        if words[0] == "holdout":  # and no parts
            assert _parser().parse_args(words).parts > 1
            continue
        status = main(given(words, home, raw))
        shown = capsys.readouterr()
        assert status == 0, (words, shown.out[-500:], shown.err[-500:])
        done.append(words[0])
    assert set(done) == {"prepare", "verify", "stats", "map", "list", "msls"} and len(done) > 25
