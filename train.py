"""Train a network for visual geo-localization, then test its best checkpoint: `python3 train.py --help`."""

from vgbench.cli.exits import run_script
from vgbench.cli.train import main

if __name__ == "__main__":
    run_script(main)
