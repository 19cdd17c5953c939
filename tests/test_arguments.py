"""Keywords of parts: found in the signature, typed as it says, refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vgbench.arguments import parameters_of, read_arguments, read_arguments_of_several
from vgbench.errors import UserError
from vgbench.registry import Registry


class Part:
    def __init__(
        self, channels: int, power: float = 3.0, *, count: int = 2, on: bool = False, name: str = "x",
        shape: tuple[int, ...] = (1,), kind: Literal["a", "b"] = "a", file: Path | None = None,
        limit: float | None = None,
    ) -> None:  # fmt: skip
        self.given = {"power": power, "count": count}


class Child(Part):
    def __init__(self, channels: int, extra: float = 1.0, **more: Any) -> None:
        super().__init__(channels, **more)


def plain(query, candidates, topk=5, share=0.5, deep=False):
    return topk


def read(*words: str, make: Any = Part) -> dict[str, Any]:
    return read_arguments("--part", "mine", make, words, ("channels",))


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("power=2", 2.0), ("power=1e-3", 1e-3), ("count=7", 7), ("on=true", True), ("on=off", False), ("name=2", "2"),
        ("shape=(1,2)", (1, 2)), ("shape=[3]", (3,)), ("kind=b", "b"), ("file=a/b", Path("a/b")), ("file=None", None),
        ("limit=None", None), ("limit=0.5", 0.5),
    ],
)  # fmt: skip
def test_values_have_the_type_of_the_signature(word: str, value: Any) -> None:
    [found] = read(word).values()
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("powr=2", r"--part_args powr=2: mine takes no such argument\. Did you mean power\? Expected NAME=VALUE of: p"),
        ("power", "--part_args power: mine takes no such argument"),
        ("channels=3", "takes no such argument"),
        ("power=high", "--part_args power=high: the value is of another type. Expected a number"),
        ("count=1.5", "Expected a whole number"),
        ("count=True", "Expected a whole number"),
        ("on=2", "Expected true or false"),
        ("kind=c", "Expected a, b"),
        ("shape=2", "Expected a list"),
        ("power=1e999", "Expected a number"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(word: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read(word)
    assert "\n" not in str(caught.value)


def test_keywords_that_are_handed_on_are_found() -> None:
    assert list(parameters_of(Child))[:3] == ["channels", "extra", "power"]
    assert read("extra=2", "power=4", make=Child) == {"extra": 2.0, "power": 4.0}
    with pytest.raises(UserError, match="power is there twice"):
        read("power=1", "power=2")


def test_defaults_say_the_type_where_nothing_is_annotated() -> None:
    found = read_arguments("--rerank", "plain", plain, ["topk=3", "share=1", "deep=on"], ("query", "candidates"))
    assert found == {"topk": 3.0, "share": 1.0, "deep": True}
    with pytest.raises(UserError, match="Expected a number"):
        read_arguments("--rerank", "plain", plain, ["share=much"], ("query", "candidates"))


def test_several_parts_share_their_keywords_out() -> None:
    makes = {"one": (Part, ("channels",)), "two": (plain, ("query", "candidates"))}
    found = read_arguments_of_several("--rerank", makes, ["power=2", "topk=3"])
    assert found == {"one": {"power": 2.0}, "two": {"topk": 3.0}}
    both = {"one": (Part, ("channels",)), "two": (Child, ("channels",))}
    with pytest.raises(UserError, match=r"one and two both take power. Expected one\.power=2"):
        read_arguments_of_several("--rerank", both, ["power=2"])
    assert read_arguments_of_several("--rerank", both, ["two.power=2"]) == {"one": {}, "two": {"power": 2.0}}
    with pytest.raises(UserError, match="takes no such argument"):
        read_arguments_of_several("--rerank", both, ["nothing=2"])


def test_keywords_of_no_part_are_refused():
    assert read_arguments_of_several("--rerank", {}, None) == {}
    with pytest.raises(UserError, match=r"--rerank_args topk=3: does nothing without --rerank\."):
        read_arguments_of_several("--rerank", {}, ["topk=3"])


@given(st.text(max_size=30))
def test_nothing_but_user_errors(word: str) -> None:
    try:
        read(word)
    except UserError as error:
        assert "\n" not in str(error)


def test_a_registry_names_what_is_near_without_importing() -> None:
    table = Registry("colour", {"red": "no.such.module:Red", "green": "no.such.module:Green"})
    assert table.unknown("red") == "" and table.unknown("my.own:Colour") == ""
    assert "Did you mean green?" in table.unknown("gren")
    assert table.is_own("my.own:Colour") and not table.is_own("red")
    assert Registry("colour", {}, closed=True).unknown("my.own:Colour")
    with pytest.raises(UserError, match=r"colour 'red': cannot import no\.such\.module"):
        table.resolve("red")
