"""Train a network for visual geo-localization, then test its best checkpoint.

python3 train.py --dataset_name=pitts30k
python3 train.py --dataset_name=synthetic_city --backbone=efficientnet_lite0 --aggregation=gem --resize 240 320
python3 train.py --resume=logs/default/<run>        # go on after an interruption
"""

from __future__ import annotations

from collections.abc import Sequence

from vgbench.cli.exits import run_script
from vgbench.cli.parser import read_command_line
from vgbench.invocation import as_called
from vgbench.runs.settings import TrainSettings


def main(arguments: Sequence[str] | None = None) -> None:
    """Train with the options of a command line."""
    description = as_called("train", __doc__ or "")
    given = read_command_line(TrainSettings, description, arguments)
    # With torch, which is slow to import: help and mistakes do not wait for it.
    from vgbench.cli.console import log_to_console
    from vgbench.runs.choosing import train_settings
    from vgbench.runs.folder import after_restart
    from vgbench.runs.train_run import train

    log_to_console()
    train(train_settings(after_restart(given)))


if __name__ == "__main__":
    run_script(main)
