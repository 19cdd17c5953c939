"""Fields of names, with and without the protocol's form."""

from __future__ import annotations

import pytest

from vgbench.data.name_fields import key_of, pano_id_of
from vgbench.data.protocol import ImageName, format_name


@pytest.mark.parametrize(
    ("path", "pano_id", "key"),
    [
        ("a/b/" + format_name(ImageName(1.0, 2.0, pano_id="p7", note="n")), "p7", "p7"),
        ("photo.1.jpg", "", "photo.1"),
        ("a@b/c@d.jpg", "", "c@d"),
    ],
)
def test_the_panoramas_id_and_what_an_image_is_called(path: str, pano_id: str, key: str) -> None:
    assert pano_id_of(path) == pano_id and key_of(path) == key


def test_an_empty_field_is_none() -> None:
    name = format_name(ImageName(1.0, 2.0))
    assert pano_id_of(name) == "" and key_of(name) == name.removesuffix(".jpg")
