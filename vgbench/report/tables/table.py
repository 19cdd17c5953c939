"""What a table of results holds, whatever it is written as."""

from __future__ import annotations

from dataclasses import dataclass, field

from vgbench.retrieval.metrics.bootstrap import Difference


@dataclass(frozen=True)
class Column:
    """R@`value` on one dataset, under one protocol."""

    dataset: str
    value: int


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
        mean: percent, over seeds.
        std: its standard deviation over seeds (of the sample); None with one seed.
        seeds: how many runs it is the mean of.
        place: 1 for the best of its column, 2 for the second, 0 for all others; equal as printed is equally good.
        difference: to the baseline's, over the same queries; None where it was not asked for or cannot be known.
    """

    mean: float
    std: float | None = None
    seeds: int = 1
    place: int = 0
    difference: Difference | None = None

    @property
    def text(self) -> str:
        """The number to one decimal."""
        return f"{self.mean:.1f}"


@dataclass(frozen=True)
class Row:
    """One run, or the seeds of one.

    Attributes:
        name: of the run.
        cells: column -> number; a column without one is left empty.
        costs: text of each of the table's costs, '' where unknown.
        ours: measured here; else somebody else's published number.
        failed: nothing of it has a result.
    """

    name: str
    cells: dict[Column, Cell]
    costs: tuple[str, ...] = ()
    ours: bool = True
    failed: bool = False


@dataclass(frozen=True)
class Table:
    """A table of recalls.

    Attributes:
        columns: in order; those of one dataset follow each other.
        costs: what the columns before the recalls say, such as "dim".
        rows: in order, ours before others'.
        failures: run -> why it, or a part of it, has no result.
        baseline: the run that differences are taken to, '' without.
    """

    columns: tuple[Column, ...]
    costs: tuple[str, ...]
    rows: tuple[Row, ...]
    failures: dict[str, str] = field(default_factory=dict)
    baseline: str = ""

    @property
    def groups(self) -> list[tuple[str, list[Column]]]:
        """The columns by dataset, in order."""
        names = dict.fromkeys(column.dataset for column in self.columns)
        return [(name, [column for column in self.columns if column.dataset == name]) for name in names]
