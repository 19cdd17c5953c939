"""The checkpoints that are combined, and the dataset that they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vgbench.data import DataOptions
from vgbench.errors import UserError
from vgbench.models.weights import extract_state_dict, read_checkpoint
from vgbench.training.checkpoint import TAKEN_OVER

# What no checkpoint says.
_TYPED = ("datasets_folder", "num_workers", "train_positives_dist_threshold")


def check_files(command: str, checkpoints: Sequence[Path], output: Path) -> None:
    """Refuse another number of files than the command takes, and an output that cannot be; raises UserError."""
    if command == "whiten" and len(checkpoints) > 1:
        raise UserError(f"whiten: {len(checkpoints)} checkpoints. Expected one; whiten each, or their ensemble")
    if command != "whiten" and len(checkpoints) < 2:
        raise UserError(f"--checkpoints {checkpoints[0]}: one file. Expected two or more to combine")
    if output.resolve() in [path.resolve() for path in checkpoints]:
        raise UserError(f"--output {output}: is one of the checkpoints. Expected another file")
    if not output.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}. Expected one; make it first")


def read_network_file(path: Path) -> dict[str, Any]:
    """Read a checkpoint that says which network it holds."""
    content = read_checkpoint(path)
    if not isinstance(content.get("network_config"), Mapping):
        raise UserError(
            f"{path}: does not say which network it holds. Expected a checkpoint that train.py or combine wrote"
        )
    extract_state_dict(content)
    return content


def data_options(values: Mapping[str, Any], stored: Mapping[str, Any]) -> DataOptions:
    """What was typed, else what the first checkpoint stored, else the defaults."""
    known = {name: stored[name] for name in TAKEN_OVER if stored.get(name) is not None}
    known |= {name: values[name] for name in (*TAKEN_OVER, *_TYPED) if name in values}
    if "resize" in known:
        known["resize"] = tuple(int(side) for side in known["resize"])
    return DataOptions(**known)
