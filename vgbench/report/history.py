"""What training wrote while it ran (metrics.jsonl), as curves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class History:
    """Curves over epochs.

    Attributes:
        loss: epoch -> mean training loss.
        recalls: N -> (epoch -> R@N on val, percent).
    """

    loss: dict[int, float] = field(default_factory=dict)
    recalls: dict[int, dict[int, float]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.loss or self.recalls)

    def best_epoch(self, value: int = 5) -> int | None:
        """Return the first epoch with the highest R@`value` (what early stopping watches), None if there is none."""
        curve = self.recalls.get(value, {})
        return max(sorted(curve), key=lambda epoch: curve[epoch]) if curve else None


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return the records of a metrics.jsonl, [] where there is no such file.

    A last line cut short by an interruption is left out.
    """
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def history_of(records: Iterable[Mapping[str, Any]]) -> History:
    """Gather records into curves.

    A record names its `epoch` and has a `loss` (a number; several of one epoch are averaged), or `recalls`
    (N -> percent), or both. A later record of the same epoch's recalls replaces the earlier one, as after a resume.
    """
    losses: dict[int, dict[Any, float]] = {}
    recalls: dict[int, dict[int, float]] = {}
    for record in records:
        if "epoch" not in record:
            continue
        epoch = int(record["epoch"])
        if record.get("loss") is not None:
            losses.setdefault(epoch, {})[record.get("round")] = float(record["loss"])
        for value, percent in (record.get("recalls") or {}).items():
            recalls.setdefault(int(value), {})[epoch] = float(percent)
    loss = {epoch: sum(rounds.values()) / len(rounds) for epoch, rounds in sorted(losses.items())}
    return History(loss, dict(sorted(recalls.items())))
