"""The checkpoints that are combined, and the dataset that they say."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vgbench.data import DataOptions
from vgbench.errors import UserError
from vgbench.models import Network
from vgbench.models.network_file import read_network_file
from vgbench.options import option_names
from vgbench.stored import options_of_file
from vgbench.training.checkpoint import TAKEN_OVER

LOG = logging.getLogger(__name__)


def check_files(command: str, checkpoints: Sequence[Path], output: Path) -> None:
    """Refuse another number of files than the command takes, and an output that cannot be; raises UserError."""
    if command == "whiten" and len(checkpoints) > 1:
        raise UserError(f"whiten: {len(checkpoints)} checkpoints. Expected one; whiten each, or their ensemble")
    if command != "whiten" and len(checkpoints) < 2:
        raise UserError(f"--checkpoints {checkpoints[0]}: one file. Expected two or more to combine")
    if output.resolve() in [path.resolve() for path in checkpoints]:
        raise UserError(f"--output {output}: is one of the checkpoints. Expected another file")
    if output.is_dir():
        raise UserError(f"--output {output}: is a folder. Expected a file to write")
    if not output.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}. Expected one; make it first")


def read_member(path: Path, size: tuple[int, int], own: Collection[str] = ()) -> Network:
    """Return the network of a checkpoint, in eval mode, after a trial of images of a size in pixels.

    Raises:
        UserError: the file is missing or does not say which network it holds; the network refuses the size.
    """
    file = read_network_file(path, own)
    try:
        member = file.network().eval()
        with torch.inference_mode():
            member(torch.zeros(1, 3, *size, dtype=torch.uint8))
    except (UserError, RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path}: cannot describe images of {size[0]}x{size[1]} ({reason}). Expected a whole checkpoint "
            "and a size that suits it; give --resize"
        ) from error
    stored = options_of_file(path, file.content.get("options", {}), [DataOptions], {}).get("resize")
    if stored is not None and tuple(stored) != tuple(size):
        LOG.warning("%s was trained at %dx%d and will see images of %dx%d", path, *stored, *size)
    return member


def taken_over(path: Path, content: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint says of the dataset, unless it was typed; raises UserError if no user could say so."""
    stored = options_of_file(path, content.get("options", {}), [DataOptions], typed)
    return {name: value for name, value in stored.items() if name in TAKEN_OVER and value is not None}


def data_options(values: Mapping[str, Any], stored: Mapping[str, Any]) -> DataOptions:
    """What was typed, else what the first checkpoint stored, else the defaults."""
    known = {name: stored[name] for name in TAKEN_OVER if stored.get(name) is not None}
    known |= {name: values[name] for name in option_names(DataOptions) if name in values}
    if "resize" in known:
        known["resize"] = tuple(int(side) for side in known["resize"])
    return DataOptions(**known)
