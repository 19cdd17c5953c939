"""Networks trained for image retrieval, off the shelf: GeM with whitening by Radenovic et al. (2018) and AP-GeM by
Revaud et al. (2019), as the Deep VG benchmark tests them (`--off_the_shelf`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.foreign import RESNET_PLACES
from vgbench.models.weights import extract_state_dict, load_state_dict, read_checkpoint

# Where their parts are in GeM + projection of this project.
_HEAD = {"pool.p": "aggregation.0.0.p", "adpool.p": "aggregation.0.0.p", "whiten.": "aggregation.1.",
         "fc.": "aggregation.1.", "features.": "backbone."}  # fmt: skip


def load_retrieval(network: nn.Module, path: Path) -> None:
    """Load a released file of either into ResNet conv5 + GeM + projection.

    Raises:
        UserError: it is the file of another network; the message names it.
    """
    weights = extract_state_dict(read_checkpoint(path))
    try:
        load_state_dict(network, _renamed(weights, network.state_dict()))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _renamed(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in weights.items():
        first, _, rest = key.partition(".")
        name = f"backbone.{RESNET_PLACES[first]}.{rest}" if first in RESNET_PLACES else key
        for theirs, ours in _HEAD.items():
            if name.startswith(theirs):
                name = ours + name.removeprefix(theirs)
        # A power may be stored as a number, here it is one of a row.
        renamed[name] = value.reshape(own[name].shape) if name in own and value.numel() == own[name].numel() else value
    return renamed
