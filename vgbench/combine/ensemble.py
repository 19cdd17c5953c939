"""An ensemble: one checkpoint of several networks, whose descriptors it puts together."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vgbench.combine.files import read_network_file
from vgbench.errors import UserError
from vgbench.models import rebuild_network
from vgbench.models.ensemble import build_ensemble

LOG = logging.getLogger("vgbench")


@dataclass(frozen=True)
class EnsembleOptions:
    """What an ensemble is made of."""

    checkpoints: tuple[Path, ...]
    combine: str = "concat"
    weights: tuple[float, ...] | None = None


def ensemble(options: EnsembleOptions, size: tuple[int, int]) -> dict[str, Any]:
    """Return the content of an ensemble's checkpoint.

    Args:
        size: height and width of the images that it will see, which has to suit all members.

    Raises:
        UserError: a file is missing or does not say which network it holds; a member refuses the size.
    """
    members = []
    for path in options.checkpoints:
        content = read_network_file(path)
        try:
            member = rebuild_network(content["network_config"], content).eval()
            with torch.inference_mode():
                member(torch.zeros(1, 3, *size, dtype=torch.uint8))
        except (UserError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{path}: cannot be a member at {size[0]}x{size[1]} ({reason}). Expected one size that suits all "
                "members; give --resize"
            ) from error
        stored = content.get("options", {}).get("resize")
        if stored is not None and tuple(stored) != tuple(size):
            LOG.warning("%s was trained at %dx%d and will see images of %dx%d", path, *stored, *size)
        members.append(member)
    network = build_ensemble(members, options.combine, options.weights)
    LOG.info("%s of %s: %d dimensions", options.combine, ", ".join(m.name for m in members), network.descriptors_dim)
    return {"model_state_dict": network.state_dict(), "network_config": network.config}
