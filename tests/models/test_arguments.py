"""Options of a method are those that its signature declares."""

import pytest

from vgbench.errors import UserError
from vgbench.models.arguments import call_checked, check_known, own_options


def head(channels, *, power=3.0, bias):
    return channels, power, bias


def test_own_options_are_the_keywords():
    assert own_options(head) == ["power", "bias"]


def test_a_call_gets_its_own_options():
    assert call_checked("aggregation head", head, (8,), {"bias": 1}) == (8, 3.0, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"bias": 1, "powr": 2},
            "aggregation head: no option 'powr'. Did you mean power? Expected one of: power, bias",
        ),
        ({}, "aggregation head: its option 'bias' is missing. Expected power, bias"),
    ],
)
def test_other_options_are_one_line(options, message):
    with pytest.raises(UserError) as told:
        call_checked("aggregation head", head, (8,), options)
    assert str(told.value) == message


def test_a_method_without_options_says_so():
    check_known("loss x", [], [])
    with pytest.raises(UserError, match=r"Expected one of: \(it has none\)"):
        check_known("loss x", ["margin"], [])
