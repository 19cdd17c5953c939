"""Which of several values of an option counts, and where it came from."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Source(enum.Enum):
    """Where a value comes from, the strongest first; what none of them gives is the declaration's default."""

    COMMAND_LINE = "command line"
    FILE = "--config"
    CHECKPOINT = "checkpoint"
    IMPLIED = "another option"  # such as the image size that a released network wants


@dataclass(frozen=True)
class Chosen:
    """A value and where it comes from.

    Attributes:
        trusted: whether the user of this call gave it. A checkpoint may come from anywhere: what stands in it names no
            code to import and no file to write.
    """

    value: Any
    source: Source

    @property
    def trusted(self) -> bool:
        return self.source is not Source.CHECKPOINT


class GivenValues(dict[str, Any]):
    """The options that the user gave, by flat name.

    Args:
        values: of the command line, else of a file.
        config: that file.
        in_file: the names of those that stand in it alone.
    """

    def __init__(self, values: Mapping[str, Any], config: Path | None = None, in_file: Collection[str] = ()) -> None:
        super().__init__(values)
        self.config, self.in_file = config, frozenset(in_file)


def choose(values: Mapping[Source, Mapping[str, Any]]) -> dict[str, Chosen]:
    """Return what counts of each option: command line, else file, else checkpoint, else what other options imply.

    Args:
        values: of each source, by flat name; a source that gives none may be absent.
    """
    chosen: dict[str, Chosen] = {}
    for source in reversed(Source):
        chosen |= {name: Chosen(value, source) for name, value in values.get(source, {}).items()}
    return chosen
