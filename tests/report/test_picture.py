import base64
import io

import numpy as np
import pytest
from PIL import Image, ImageColor

from vgbench.report.picture import BLUE, GREEN, RED, jpeg_uri, prediction_panel, read_thumbnail


def frames(panel):
    """The colours of the borders from left to right, read along a line through the middle of the photographs."""
    row = np.asarray(panel)[panel.height // 3]
    named = {ImageColor.getrgb(colour): name for colour, name in ((GREEN, "green"), (RED, "red"), (BLUE, "blue"))}
    seen = [named.get(tuple(int(v) for v in pixel)) for pixel in row]
    edges = [seen[i] for i in range(len(seen)) if seen[i] and (i == 0 or seen[i] != seen[i - 1])]
    assert edges[::2] == edges[1::2], "every border is met on its left and on its right"
    return edges[::2]


def test_borders_say_what_is_right(city):
    args = city.split, city.predictions, city.neighbours
    assert frames(prediction_panel(*args, 0)) == ["blue", "green", "green", "red"]
    assert frames(prediction_panel(*args, 2)) == ["blue", "red", "red", "green"]
    assert frames(prediction_panel(*args, 2, top=2)) == ["blue", "red", "red"]


def test_a_query_that_is_not_there(city):
    with pytest.raises(IndexError, match=r"query 6: expected 0\.\.5"):
        prediction_panel(city.split, city.predictions, city.neighbours, 6)


@pytest.mark.parametrize(
    ("size", "mode"), [((640, 480), "RGB"), ((100, 900), "L"), ((30, 20), "P"), ((50, 50), "RGBA")]
)
def test_thumbnails_fit_and_keep_their_proportions(tmp_path, size, mode):
    path = tmp_path / "photo.png"
    Image.new(mode, size).save(path)
    small = read_thumbnail(path, (80, 60))
    assert small.mode == "RGB" and small.width <= 80 and small.height <= 60
    assert small.width == 80 or small.height == 60
    assert abs(small.width * size[1] - small.height * size[0]) <= max(size)


def test_an_unreadable_photograph_is_a_grey_tile(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8 nothing")
    assert read_thumbnail(tmp_path / "bad.jpg", (80, 60)).size == (80, 60)
    assert read_thumbnail(tmp_path / "absent.jpg", (80, 60)).size == (80, 60)


def test_the_uri_is_the_photograph():
    uri = jpeg_uri(Image.new("RGB", (40, 30), (200, 10, 10)))
    head, data = uri.split(",")
    assert head == "data:image/jpeg;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.size == (40, 30)
    assert np.allclose(np.asarray(image)[15, 20], (200, 10, 10), atol=6)
