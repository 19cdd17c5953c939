"""What single fields of an image's name say, for those who want no more of it; `protocol` reads all."""

from __future__ import annotations

_PANO_ID = 7  # its place among the fields of a name


def pano_id_of(path: str) -> str:
    """Return the id of the panorama of a name in the protocol, '' where it has none or is no such name."""
    fields = path.rpartition("/")[2].split("@")
    return fields[_PANO_ID] if len(fields) > _PANO_ID else ""


def key_of(path: str) -> str:
    """Return what an image is called elsewhere: the panorama's id, else the name without extension."""
    return pano_id_of(path) or path.rpartition("/")[2].rpartition(".")[0]
