"""Run a matrix of trainings and tests and print one table: `python3 benchmark.py benchmarks/demo.yaml`."""

from vgbench.cli.benchmark import GOING_ON, main
from vgbench.cli.exits import run_script

if __name__ == "__main__":
    run_script(main, GOING_ON)
