"""UTM: a surveyed landmark, the definition on the axes, and the way back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vgbench.data.utm import from_latitude_longitude, to_latitude_longitude


def test_a_landmark():
    # The CN Tower, 43 deg 38' 33.24'' N, 79 deg 23' 13.7'' W: 17T 630084 4833438.
    found = from_latitude_longitude(43 + 38 / 60 + 33.24 / 3600, -(79 + 23 / 60 + 13.7 / 3600))
    assert (found.zone, found.letter) == (17, "T")
    assert (found.east, found.north) == (pytest.approx(630084, abs=1), pytest.approx(4833438, abs=1))


def test_the_definition_on_its_axes():
    assert from_latitude_longitude(0, 3).east == pytest.approx(500_000, abs=1e-6)
    assert from_latitude_longitude(0, 3).north == pytest.approx(0, abs=1e-6)
    # The WGS84 meridian from the equator to 45 degrees is 4,984,944.378 m long; UTM shrinks it by 0.9996.
    assert from_latitude_longitude(45, 3).north == pytest.approx(4_984_944.378 * 0.9996, abs=1e-3)


@given(st.floats(-79, 83), st.floats(-179.9, 179.9))
def test_there_and_back(latitude, longitude):
    there = from_latitude_longitude(latitude, longitude)
    back = to_latitude_longitude(there.east, there.north, there.zone, there.letter)
    assert float(back[0]) == pytest.approx(latitude, abs=1e-8)
    assert float(back[1]) == pytest.approx(longitude, abs=1e-8)
