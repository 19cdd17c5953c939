"""Cells of people's tables: a moment, or none where it is beyond all calendars."""

from __future__ import annotations

import datetime

import pytest

from datasets_vg.own.tables import time_of


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1577872800", datetime.datetime(2020, 1, 1, 10)),
        ("1577872800000", datetime.datetime(2020, 1, 1, 10)),
        ("2020-01-01T10:00:00+02:00", datetime.datetime(2020, 1, 1, 8)),
        ("20200101_100000", datetime.datetime(2020, 1, 1, 10)),
        ("9" * 30, None),
        ("9" * 400, None),
        ("0001-01-01T00:00:00+02:00", None),
        ("9999-12-31T23:59:59-02:00", None),
        ("", None),
        ("yesterday", None),
    ],
)
def test_moments(text: str, moment: datetime.datetime | None) -> None:
    assert time_of(text) == moment
