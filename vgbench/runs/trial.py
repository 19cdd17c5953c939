"""One image through a network of somebody's own class, before anything costs time."""

from __future__ import annotations

import torch
from torch import Tensor

from vgbench.errors import UserError, in_short
from vgbench.models import Network
from vgbench.models.sequences.network import SequenceNetwork

_PARTS = ("backbone", "aggregation", "seq_aggregation")


def try_own_parts(network: Network, size: tuple[int, int]) -> None:
    """Describe two blank images with a network that has a part of the user's own; others are known to work.

    Args:
        size: height and width of images in pixels.

    Raises:
        UserError: the class fails, or its descriptors are not float [B,D] with the D that it declares.
    """
    own = [str(network.config[part]) for part in _PARTS if ":" in str(network.config.get(part))]
    if not own:
        return
    named, shown = " and ".join(own), f"{size[0]}x{size[1]}"
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    was_training = network.training
    try:
        with torch.no_grad():
            frames = (network.seq_length,) if isinstance(network, SequenceNetwork) else ()
            given = network.eval()(torch.zeros(2, *frames, 3, *size, dtype=torch.uint8, device=device))
    except UserError:
        raise
    except Exception as error:  # a stranger's class may raise anything
        raise UserError(
            f"{named}: fails on an image of {shown} ({in_short(error)}). Expected descriptors [2,D]; mend its forward"
        ) from error
    finally:
        network.train(was_training)
    if not isinstance(given, Tensor) or given.dim() != 2 or len(given) != 2:
        what = list(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise UserError(f"{named}: gives {what} for 2 images of {shown}. Expected descriptors [2,D]; mend its forward")
    if given.shape[1] != network.descriptors_dim:
        raise UserError(
            f"{named}: gives {given.shape[1]} dimensions but declares {network.descriptors_dim} as its "
            f"descriptors_dim. Expected both to be the same; mend the class"
        )
    if not bool(torch.isfinite(given).all()):
        raise UserError(f"{named}: gives values that are not finite for a black image of {shown}. Expected numbers")
