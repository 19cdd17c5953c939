"""Every option of train.py and eval.py; `vgbench.cli.parser` under the name that it has in a clone."""

from vgbench.cli.parser import EvalSettings, Settings, TrainSettings, flat, read_command_line, resolve

__all__ = ["EvalSettings", "Settings", "TrainSettings", "flat", "read_command_line", "resolve"]
