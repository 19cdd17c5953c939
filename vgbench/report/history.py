"""What training wrote while it ran (metrics.jsonl), as curves."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOG = logging.getLogger(__name__)

_LARGEST = 1e300
_MOST = 10**9  # epochs and rounds that any run has


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
    try:
        lines = path.read_bytes().decode("utf-8", "replace").splitlines()
    except (OSError, ValueError):
        return []
    records, bad = [], 0
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict) and _is_sound(record):
            records.append(record)
        elif line is not lines[-1]:
            bad += 1
    if bad:
        LOG.warning("%s: %d lines are damaged; the curves go without them", path, bad)
    return records


def _is_sound(record: Mapping[str, Any]) -> bool:
    """Whether a record's epoch, round and recalls are what training writes, where it has them."""
    whole = all(
        isinstance(record.get(name, 0), int) and abs(record.get(name, 0)) < _MOST for name in ("epoch", "round")
    )
    recalls = record.get("recalls")
    named = isinstance(recalls, dict) and all(name.isascii() and name.isdigit() and len(name) < 10 for name in recalls)
    return whole and (recalls is None or named)


def history_of(records: Iterable[Mapping[str, Any]]) -> History:
    """Gather records into curves.

    A record of a round names its `epoch`, `round` and `loss`; one of an epoch its `epoch`, `loss` and `recalls`
    (N -> percent). An epoch's own loss is taken before the mean of its rounds'. Of two records of the same thing the
    later counts, as after a resume; losses and recalls that are no finite number are left out.
    """
    rounds: dict[int, dict[int, float]] = {}
    loss: dict[int, float] = {}
    recalls: dict[int, dict[int, float]] = {}
    for record in records:
        if "epoch" not in record:
            continue
        epoch = int(record["epoch"])
        if _is_finite(record.get("loss")):
            if "round" in record:
                rounds.setdefault(epoch, {})[int(record["round"])] = float(record["loss"])
            else:
                loss[epoch] = float(record["loss"])
        for value, percent in (record.get("recalls") or {}).items():
            if _is_finite(percent):
                recalls.setdefault(int(value), {})[epoch] = float(percent)
    loss = {epoch: sum(some.values()) / len(some) for epoch, some in rounds.items()} | loss
    return History(_sorted(loss), {value: _sorted(curve) for value, curve in sorted(recalls.items())})


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < _LARGEST


def _sorted(curve: dict[int, float]) -> dict[int, float]:
    return dict(sorted(curve.items()))
