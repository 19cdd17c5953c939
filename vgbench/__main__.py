"""`python3 -m vgbench`, the same as the command `vgbench`."""

from vgbench.cli.main import script

if __name__ == "__main__":
    script()
