"""YAML files of people: plain values only, refused in one line where they are ambiguous or would take forever."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from vgbench.errors import UserError

MOST_BYTES = 2**18
MOST_VALUES = 100_000
DEEPEST = 20


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, and whole numbers beyond 64 bits."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[Any, yaml.Mark] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key is no word", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key} is there twice, in lines {seen[key].line + 1} and "
                    f"{key_node.start_mark.line + 1}. Expected each key once", None,
                )  # fmt: skip
            seen[key] = key_node.start_mark
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value = int(super().construct_yaml_int(node)) if len(node.value) < 100 else None
        if value is None or abs(value) >= 2**63:
            raise yaml.constructor.ConstructorError(None, None, "a whole number is too large", node.start_mark)
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def read_yaml(path: Path, like: str = "lines such as `option: value`") -> Any:
    """Return the content of a YAML file; None of an empty one.

    Args:
        path: the file.
        like: what is expected, for messages.

    Raises:
        UserError: it cannot be read or is no YAML; a key stands twice; it is nested too deeply, or too large once
            what it refers to (`*name`) is put in.
    """
    try:
        if path.is_file() and path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path}: larger than {MOST_BYTES:,} bytes. Expected {like}")
        return parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else _short(error)
        raise UserError(f"{path}: cannot be read as YAML ({reason}). Expected {like}") from error


def parse_yaml(text: str) -> Any:
    """Return the content of a YAML text; raises yaml.YAMLError or ValueError as `read_yaml` tells."""
    loader = _Loader(text)
    try:
        _check_depth(loader)
        loader.dispose()
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {}, ())
        return loader.construct_document(node)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    finally:
        loader.dispose()


def _check_depth(loader: yaml.SafeLoader) -> None:
    """Look at the events alone, which are read without recursion."""
    depth = 0
    while loader.check_event():
        event = loader.get_event()  # type: ignore[no-untyped-call]
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} deep")


def _count(node: yaml.Node, known: dict[int, int], above: tuple[int, ...]) -> int:
    """Return how many values a node stands for, aliases put in."""
    if id(node) in above:
        raise ValueError("something holds itself")
    if id(node) not in known:
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            children = [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_count(child, known, (*above, id(node))) for child in children)
    if known[id(node)] > MOST_VALUES:
        raise ValueError(f"stands for more than {MOST_VALUES:,} values")
    return known[id(node)]


def _short(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark
        return f"{error.problem}" + (f", line {mark.line + 1}" if mark is not None else "")
    text = " ".join(str(error).split())
    return text if len(text) < 200 else f"{text[:200]}..."
