"""What a finished training run says about itself, in a few lines."""

from __future__ import annotations

import dataclasses
import datetime
import shlex
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from vgbench.invocation import command
from vgbench.report.labels import dataset_label, main_threshold
from vgbench.training import LoopResult


def training_summary(
    result: LoopResult,
    folder: Path,
    val: Mapping[int, float],
    test: Mapping[str, Any],
    records: Iterable[Mapping[str, Any]],
    peak: tuple[int, str],
    command: str,
) -> str:
    """Return the lines that end a training run.

    Args:
        result: how it ended.
        folder: where it was written.
        val: N -> R@N of the best epoch on val, percent.
        test: what results.json holds.
        records: those of metrics.jsonl, for the speed of the training steps.
        peak: bytes, and whose memory.
        command: what tests the best checkpoint again.
    """
    early = ", stopped early" if result.stopped_early else ""
    duration = datetime.timedelta(seconds=round(result.seconds))
    speed = images_per_s(records)
    best = f"{result.best_epoch} (of 0 to {result.epochs - 1}{early})" if result.epochs else "none was trained"
    rows = {
        "best epoch": best,
        "val": _recalls(val),
        "test": f"{_recalls(test['recalls'][main_threshold(test)])} ({dataset_label(test)}, {test['queries']} queries)",
        "trained": f"{duration}, {result.steps:,} steps" + (f", {speed:,.1f} images/s" if speed else ""),
        "peak memory": f"{peak[0] / 2**30:.2f} GiB ({peak[1]})",
        "written to": f"{folder}: {result.best.name}, results.json, report.html, metrics.jsonl, tensorboard/",
        "test again": command,
    }
    width = max(map(len, rows))
    return "\n".join(f"{name + ':':<{width + 1}} {value}" for name, value in rows.items())


def images_per_s(records: Iterable[Mapping[str, Any]]) -> float | None:
    """Return the images per second of all training steps of a run; None where none was timed."""
    timed = [row for row in records if row.get("images") and row.get("seconds_training")]
    seconds = sum(float(row["seconds_training"]) for row in timed)
    return sum(int(row["images"]) for row in timed) / seconds if seconds > 0 else None


def evaluation_command(
    checkpoint: Path, groups: Iterable[Any], carried: Collection[str], own: Collection[str] = ()
) -> str:
    """Return the call that tests a checkpoint as its own run did.

    Args:
        groups: the option dataclasses of the run that eval.py has too; what is at its default is left out.
        carried: options that need not be typed, since the checkpoint brings them or only training has them.
        own: code outside this project that its network is made of, which a checkpoint cannot ask for.
    """
    words = [*shlex.split(command("eval")), f"--resume={checkpoint}"]
    words += ["--own_code", *own] if own else []
    for group in groups:
        for field in dataclasses.fields(group):
            value = getattr(group, field.name)
            if field.name in carried or value is None or value == field.default:
                continue
            if isinstance(value, bool):
                words.append(f"--{field.name}" if value else f"--no-{field.name}")
            elif isinstance(value, tuple):
                words += [f"--{field.name}", *map(str, value)]
            else:
                words.append(f"--{field.name}={value}")
    return shlex.join(words)


def _recalls(recalls: Mapping[Any, float]) -> str:
    return ", ".join(f"R@{value} {recall:.1f}" for value, recall in recalls.items())
