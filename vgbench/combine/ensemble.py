"""An ensemble: one checkpoint of several networks, whose descriptors it puts together."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from vgbench.combine.files import read_member
from vgbench.combine.options import EnsembleOptions
from vgbench.models.ensemble import build_ensemble

LOG = logging.getLogger(__name__)


def ensemble(options: EnsembleOptions, size: tuple[int, int], own: Collection[str] = ()) -> dict[str, Any]:
    """Return the content of an ensemble's checkpoint.

    Args:
        size: height and width of the images that it will see, which has to suit all members.
        own: code outside this project that the checkpoints may name, since the user typed it.

    Raises:
        UserError: a file is missing or does not say which network it holds; a member refuses the size.
    """
    members = [read_member(path, size, own) for path in options.checkpoints]
    network = build_ensemble(members, options.combine, options.weights)
    LOG.info("%s of %s: %d dimensions", options.combine, ", ".join(m.name for m in members), network.descriptors_dim)
    return {"model_state_dict": network.state_dict(), "network_config": network.config}
