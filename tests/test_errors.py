"""The exception for people: one line, with a name and a hint."""

import pytest

from vgbench.errors import UserError, about, did_you_mean, in_short


def test_a_message_is_one_line():
    assert str(UserError("a:\n  is\twrong.")) == "a: is wrong."
    assert in_short(ValueError("first\nsecond")) == "ValueError: first"


def test_the_nearest_name_is_proposed_where_one_is_near():
    assert did_you_mean("netvald", ["gem", "netvlad"]) == " Did you mean netvlad?"
    assert did_you_mean("x", ["gem", "netvlad"]) == ""


def test_what_it_is_about_stands_in_front_once():
    with pytest.raises(UserError, match=r"^file\.yaml: wrong$"), about("file.yaml"), about("file.yaml"):
        raise UserError("wrong")
    with pytest.raises(ValueError, match="other"), about("file.yaml"):
        raise ValueError("other")
