"""What a file may say: values of the declared types, names of the tables, and no code that the user did not name."""

import typing
from pathlib import Path

import pytest

from vgbench.data.options import DataOptions
from vgbench.errors import UserError
from vgbench.stored import check_name, checked_value, names_own_code, options_of_file, own_names


def test_names_of_ones_own_code_are_told_from_arguments_and_timms():
    assert names_own_code("heads:Mine") and names_own_code("a.b:C")
    assert not names_own_code("gem") and not names_own_code("path=a:b") and not names_own_code("timm:vit_base.dino")
    assert own_names({"aggregation": "heads:Mine", "rerank": ("spatial", "r:f"), "margin": 0.1}) == {
        "heads:Mine",
        "r:f",
    }


def test_a_file_cannot_ask_for_code_that_the_user_did_not_type():
    check_name("aggregation", "heads:Mine", {"heads:Mine"})
    with pytest.raises(UserError, match=r"--aggregation 'heads:Mine': is code outside .* --own_code heads:Mine"):
        check_name("aggregation", "heads:Mine", set())


@pytest.mark.parametrize(
    ("value", "hint", "message"),
    [
        ("3", int, "is a str. Expected int"),
        (True, int, "is a bool. Expected int"),
        (float("nan"), float, "out of range"),
        (10**400, int, "out of range"),
        ((1, 2, 3), tuple[int, int], "not its values. Expected 2 of int"),
        ((), tuple[int, ...], "not its values. Expected one or more of int"),
        ("a\0b", str, "holds a zero byte"),
        (["x"] * 20_000, tuple[str, ...], "not its values"),
    ],
)
def test_values_of_other_types_are_one_line(value, hint, message):
    with pytest.raises(UserError) as told:
        checked_value("x", value, hint)
    assert message in str(told.value) and len(str(told.value)) < 300


def test_values_of_the_declared_types_come_through():
    assert checked_value("x", None, typing.Optional[int]) is None  # noqa: UP045 (as hints of older files are)
    assert checked_value("x", [4, 5], tuple[int, int]) == (4, 5)
    assert checked_value("x", 3, float) == 3 and checked_value("x", "a/b", Path) == "a/b"


def test_what_nobody_declared_is_passed_over_and_what_the_user_said_stays():
    stored = {"resize": [30, 40], "num_workers": 2, "nobody": object()}
    assert options_of_file("f", stored, [DataOptions], {"num_workers": 4}) == {"resize": (30, 40)}
    with pytest.raises(UserError, match="f: its options are a list"):
        options_of_file("f", [1], [DataOptions], {})
    with pytest.raises(UserError, match="f: --resize"):
        options_of_file("f", {"resize": "large"}, [DataOptions], {})
