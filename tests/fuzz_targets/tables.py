"""Tables and tracks of positions, data frames, ground truth."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

from fuzzing import broken, file_of, lines_of, target
from hypothesis import strategies as st

from vgbench.errors import UserError


@target(
    st.one_of(
        lines_of("name", "lat", "lon", "heading", "time"),
        lines_of("lat", "lon", "time", separator=";"),
        st.binary(max_size=80),
    )
)
def own_tables(value: bytes, folder: Path) -> None:
    from datasets_vg.own.tables import degrees_of, number_of, read_rows, time_of, why_no_positions
    from datasets_vg.own.tracks import read_track

    file = file_of(folder, "places.csv", value)
    why_no_positions(file)
    with contextlib.suppress(UserError):
        read_track(file)
    for row in read_rows(file):
        number_of(row, "heading")
        time_of(row.get("time", ""))
        degrees_of(row, str(file))


_GPX = (
    b'<gpx><trk><trkseg><trkpt lat="45.1" lon="7.5"><ele>1</ele><time>2020-01-01T10:00:00Z</time></trkpt>'
    b'<trkpt lat="45.2" lon="7.6"><time>2020-01-01T10:01:00Z</time></trkpt></trkseg></trk></gpx>'
)
_SRT = b"1\n00:00:00,000 --> 00:00:01,000\n[latitude: 45.1] [longitude: 7.5] [altitude: 3]\n\n"


@target(st.one_of(broken(_GPX).map(lambda b: ("t.gpx", b)), broken(_SRT * 2).map(lambda b: ("t.srt", b))))
def tracks(value: tuple[str, bytes], folder: Path) -> None:
    from datasets_vg.own.tracks import read_track

    read_track(file_of(folder, *value)).at(5.0)


_GSV = ("place_id", "year", "month", "northdeg", "city_id", "lat", "lon", "panoid")
_GSV_ROW = (
    b",".join(name.encode() for name in _GSV)
    + b"\n7,2015,9,33,London,51.5,-0.1,abc\n8,2016,1,3,London,51.6,-0.2,../x\n"
)


@target(st.one_of(lines_of(*_GSV), broken(_GSV_ROW)))
def gsv_dataframes(value: bytes, folder: Path) -> None:
    from vgbench.data.places import read_gsv_cities

    (folder / "Images" / "London").mkdir(parents=True)
    file_of(folder, "Dataframes/London.csv", value)
    table, _ = read_gsv_cities(folder, ())
    for row in range(len(table)):
        path = os.path.normpath(table.path(row))
        assert path.startswith(f"{folder}/Images/"), f"{path} is outside of the folder"


def _npy() -> bytes:
    import numpy as np

    stream = io.BytesIO()
    np.save(stream, np.array([[0, 0], [0, 1]]))
    return stream.getvalue()


def _npy_of_lists() -> bytes:
    import numpy as np

    stream = io.BytesIO()
    np.save(stream, np.array([[0, 1], [1]], dtype=object), allow_pickle=True)
    return stream.getvalue()


@target(
    st.one_of(
        lines_of("query", "database").map(lambda b: ("t.csv", b)),
        broken(b"query,right\nq.jpg,d.jpg,e.jpg\n").map(lambda b: ("t.csv", b)),
        st.deferred(lambda: broken(_npy())).map(lambda b: ("t.npy", b)),
        st.deferred(lambda: broken(_npy_of_lists())).map(lambda b: ("t.npy", b)),
    )
)
def ground_truth(value: tuple[str, bytes], folder: Path) -> None:
    from vgbench.data.positives import GroundTruth
    from vgbench.data.table import TableBuilder

    asked, known = TableBuilder(), TableBuilder()
    asked.add("q.jpg", 0.0, 0.0)
    for name in ("d.jpg", "e.jpg"):
        known.add(name, 0.0, 0.0)
    GroundTruth(file=file_of(folder, *value)).positives(asked.build(folder), known.build(folder), 25.0)
