"""Settings by keyword, under the names of the command line's flags."""

from __future__ import annotations

from typing import Any

from vgbench.runs import choosing
from vgbench.runs.settings import EvalSettings, TrainSettings


def train_settings(**options: Any) -> TrainSettings:
    """Return what `vgbench.train` runs with: `train_settings(dataset_name="pitts30k", resize=(320, 320))`.

    Args:
        options: those that differ from their defaults, by the names of `vgbench train --help`, without dashes.

    Raises:
        UserError: no such option, a value out of its range, or one that does nothing beside the others.
    """
    return choosing.train_settings(options)


def eval_settings(**options: Any) -> EvalSettings:
    """Return what `vgbench.evaluate` runs with: `eval_settings(resume="logs/default/<run>", dataset_name="tokyo247")`.

    Args:
        options: those that differ from their defaults, by the names of `vgbench eval --help`, without dashes.

    Raises:
        UserError: no such option, a value out of its range, one that does nothing beside the others, or another network
            than the checkpoint's.
    """
    return choosing.eval_settings(options)
