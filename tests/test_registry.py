"""Tables of parts: names are looked up without importing the others, one's own class by package.module:Name."""

import collections
import sys

import pytest

from vgbench.errors import UserError
from vgbench.registry import Registry

TABLE = Registry(
    "shape", {"ordered": "collections:OrderedDict", "counted": "collections:Counter", "gone": "no_such_module:X"}
)


def test_a_name_is_what_the_table_says_and_ones_own_is_imported():
    assert TABLE.resolve("ordered") is collections.OrderedDict and TABLE.resolve("json:dumps")({}) == "{}"
    assert "ordered" in TABLE and list(TABLE) == ["ordered", "counted", "gone"]
    assert TABLE.is_own("json:dumps") and not TABLE.is_own("ordered")


def test_looking_a_name_up_imports_nothing():
    assert TABLE.unknown("wave:open") == "" and TABLE.unknown("gone") == ""
    assert "no_such_module" not in sys.modules


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("orderd", "Did you mean ordered? Known: ordered, counted, gone; or your own as package.module:Name"),
        ("gone", "cannot import no_such_module"),
        ("collections:Nothing", "module collections has no Nothing"),
        ("../evil:x", "is not known"),
        ("a b:c", "is not known"),
    ],
)
def test_what_is_not_there_is_one_line(name, message):
    with pytest.raises(UserError) as told:
        TABLE.resolve(name)
    assert message in str(told.value) and str(told.value).startswith("shape ")


def test_a_closed_table_takes_nothing_of_ones_own():
    closed = Registry("shape", {"ordered": "collections:OrderedDict"}, closed=True)
    with pytest.raises(UserError, match=r"Known: ordered$"):
        closed.resolve("json:dumps")


def test_what_the_caller_fills_in_is_no_keyword():
    def make(database, options, *, depth=1):
        return database, options, depth

    assert Registry("x", {}, positional=1, named=("depth",)).filled_in(make) == ("database", "depth")
    assert TABLE.keywords("shape", "ordered", None) == {}
