"""What the scripts share, by the names that it has in a clone: how they end, the console, run folders, seeding."""

from vgbench.cli.console import log_to_console
from vgbench.cli.exits import run_script
from vgbench.runs.folder import after_restart, folder_to_continue, open_run_folder, write_config

__all__ = ["after_restart", "folder_to_continue", "log_to_console", "open_run_folder", "run_script", "write_config"]
