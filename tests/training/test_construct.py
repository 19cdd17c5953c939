"""A part is made of the options that its constructor names."""

from dataclasses import dataclass

import pytest

from vgbench.errors import UserError
from vgbench.registry import Registry
from vgbench.training.construct import construct


@dataclass(frozen=True)
class Given:
    margin: float = 0.3
    other: int = 1


def loss(margin, scale=2.0, *, seed):
    return margin, scale, seed


def wants_more(nothing_like_it):
    return nothing_like_it


TABLE = Registry("loss", {"own": f"{__name__}:loss", "more": f"{__name__}:wants_more", "number": f"{__name__}:NUMBER"})
NUMBER = 3


def test_options_the_callers_values_and_keywords_in_that_order():
    assert construct(TABLE, "criterion", "own", Given(), None, seed=5) == (0.3, 2.0, 5)
    assert construct(TABLE, "criterion", "own", Given(), ["scale=4", "margin=0.5"], seed=5) == (0.5, 4.0, 5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "more",
            "its constructor asks for 'nothing_like_it'. Expected any of: seed, margin, other; or --criterion_args",
        ),
        ("number", "is no class or function"),
        ("mine", "is not known"),
    ],
)
def test_what_cannot_be_made_is_one_line(name, message):
    with pytest.raises(UserError) as told:
        construct(TABLE, "criterion", name, Given(), None, seed=5)
    assert message in str(told.value)
