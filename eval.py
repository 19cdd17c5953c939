"""Test a network on a dataset: `python3 eval.py --help`."""

from vgbench.cli.eval import GOING_ON, main
from vgbench.cli.exits import run_script

if __name__ == "__main__":
    run_script(main, GOING_ON)
