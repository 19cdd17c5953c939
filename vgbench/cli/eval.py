"""Test a network on a dataset: descriptors, exact search, recall within 25 m, a report to look at.

python3 eval.py --resume=logs/default/<run> --dataset_name=tokyo247
python3 eval.py --resume=... --dataset_name=svox --queries_folder=queries_night --threshold 5 10 25 100
python3 eval.py --backbone=efficientnet_lite0 --aggregation=gem --dataset_name=pitts30k    # untrained
python3 eval.py --resume=... --queries_folder=~/Pictures/holiday --no_labels    # where were these taken?
"""

from __future__ import annotations

from collections.abc import Sequence

from vgbench.cli.exits import AGAIN, run_script
from vgbench.cli.parser import read_command_line
from vgbench.invocation import as_called
from vgbench.runs.settings import EvalSettings


def main(arguments: Sequence[str] | None = None) -> None:
    """Test with the options of a command line."""
    description = as_called("eval", __doc__ or "")
    given = read_command_line(EvalSettings, description, arguments)
    # With torch, which is slow to import: help and mistakes do not wait for it.
    from vgbench.cli.console import log_to_console
    from vgbench.runs.choosing import eval_settings
    from vgbench.runs.eval_run import evaluate

    log_to_console()
    evaluate(eval_settings(given))


if __name__ == "__main__":
    run_script(main, AGAIN)
