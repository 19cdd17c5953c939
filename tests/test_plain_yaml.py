"""YAML of people: ambiguous, endless and enormous files are refused in one line."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vgbench.errors import UserError
from vgbench.plain_yaml import MOST_BYTES, parse_yaml, read_yaml

BOMB = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("runs: 1\nruns: 2\n", "runs is there twice, in lines 1 and 2"),
        ("a: {b: 1, b: 1}\n", "b is there twice"),
        ("a: " + "[" * 30 + "]" * 30, "nested more than 20 deep"),
        ("[" * 100_000, "nested more than 20 deep"),
        (BOMB, "stands for more than 100,000 values"),
        ("a: &a {b: *a}\n", "holds itself"),
        ("a: " + "9" * 5000, "too large"),
        ("a: 0x" + "f" * 5000, "too large"),
        ("a: 99999999999999999999", "too large"),
        ("? [1, 2]\n: 3\n", "a key is no word"),
        ("a: !!python/object/apply:os.system [echo]\n", "constructor"),
        ("a: 2024-99-99\n", "month"),
        ("a: [1\n", "cannot be read as YAML"),
        ("a: \x00", "cannot be read as YAML"),
        ("--- 1\n--- 2\n", "found another document"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}: ") and len(str(caught.value)) < 600


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("# " + "x" * MOST_BYTES)
    with pytest.raises(UserError, match="larger than"):
        read_yaml(path)
    with pytest.raises(UserError, match=r"cannot be read as YAML \(No such file"):
        read_yaml(tmp_path / "absent.yaml")


def test_aliases_may_be_used() -> None:
    text = "base: &base {a: 1, b: 2}\nmore:\n  <<: *base\n  b: 3\nagain: *base\n"
    assert parse_yaml(text) == {"base": {"a": 1, "b": 2}, "more": {"a": 1, "b": 3}, "again": {"a": 1, "b": 2}}
    assert parse_yaml("") is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(VALUES)
def test_what_yaml_writes_is_read_as_yaml_reads_it(value: object) -> None:
    text = yaml.safe_dump(value)
    assert parse_yaml(text) == yaml.safe_load(text)


@given(st.text(alphabet="ab:-[]{}&*!?|>,'\"# \n0.", max_size=60))
def test_nothing_but_one_kind_of_error(text: str) -> None:
    value: object = None
    with contextlib.suppress(yaml.YAMLError, ValueError):
        value = parse_yaml(text)
    assert value is None or isinstance(value, (bool, int, float, str, list, dict))
