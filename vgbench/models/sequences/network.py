"""A network of sequences: a network of images, and an aggregation over the descriptors of frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.arguments import call_checked, own_options
from vgbench.models.network import Network
from vgbench.models.sequences import SEQ_AGGREGATIONS
from vgbench.models.sequences.base import SequenceAggregation
from vgbench.models.sequences.options import SequenceNetworkOptions
from vgbench.options import option_names

NAME = "seq_aggregation"
_ARGS = f"{NAME}_args"
OPTIONS = tuple(option_names(SequenceNetworkOptions))
"""The options that say how frames become a sequence; the configuration has them, and `seq_length`."""


class SequenceNetwork(Network):
    """Sequences of images to descriptors.

    Attributes:
        sequence: descriptors of frames [B,L,F] to those of sequences [B,D].
        seq_length: L.
        frame_dim: F.
        descriptors_dim: D.
    """

    def __init__(self, network: Network, sequence: nn.Module, config: Mapping[str, Any]) -> None:
        super().__init__(network.backbone, network.aggregation, config)
        self.sequence = sequence
        self.seq_length = int(config["seq_length"])
        self.frame_dim = self.descriptors_dim
        self.descriptors_dim = int(cast(int, sequence.descriptors_dim))

    @property
    def of_frames(self) -> Network:
        """The network of one frame, with the same weights: images [B,3,H,W] to [B,F]."""
        frames = Network(self.backbone, self.aggregation, without_sequences(self.config))
        return frames.train(self.training).to(self.mean.device)

    def forward(self, images: Tensor) -> Tensor:
        """Return the descriptors float32 [B,D] of sequences [B,L,3,H,W], uint8 or normalised float.

        Raises:
            UserError: images that are no sequences.
        """
        if images.dim() != 5:
            shape = [int(side) for side in images.shape]  # traced, they are tensors
            raise UserError(
                f"{self.name}: describes sequences [B,L,3,H,W], these are images {shape}. Expected frames, or the "
                "network without --seq_aggregation"
            )
        frames = super().forward(images.flatten(0, 1))
        return self.aggregate(frames.reshape(*images.shape[:2], -1))

    def aggregate(self, frames: Tensor) -> Tensor:
        """Return the descriptors float32 [B,D] of sequences whose frames are described, float32 [B,L,F]."""
        found: Tensor = self.sequence(frames)
        return found.float()


def with_sequences(network: Network, seq_aggregation: str, seq_length: int = 5, **options: Any) -> SequenceNetwork:
    """Return a network of sequences whose frames a network describes; the two share its weights.

    Args:
        network: of images.
        seq_aggregation: one of SEQ_AGGREGATIONS, or "package.module:Class" of your own: made of (dimensions of a frame,
            L), with `descriptors_dim`.
        seq_length: L, frames of a sequence.
        options: the aggregation's own; None is the same as not given. `seq_aggregation_args`: "name=value" each.

    Raises:
        UserError: there is no such aggregation or option, or it does not fit the network.
    """
    if isinstance(network, SequenceNetwork):
        raise UserError(f"--{NAME} {seq_aggregation}: the network is one of sequences already. Expected one of images")
    cls = SEQ_AGGREGATIONS.resolve(seq_aggregation)
    given = {name: value for name, value in options.items() if value is not None}
    words = given.pop(_ARGS, None)
    own = {name: value for name, value in given.items() if name in own_options(cls)}
    for name in given:
        if name not in own:
            raise UserError(f"--{name}: is not of --{NAME} {seq_aggregation}. Expected its own options; leave it out")
    own |= SEQ_AGGREGATIONS.keywords(NAME, seq_aggregation, words)
    made = call_checked(f"{NAME} {seq_aggregation}", cls, (network.descriptors_dim, seq_length), own)
    if not isinstance(made, nn.Module) or not hasattr(made, "descriptors_dim"):
        raise UserError(f"{NAME} {seq_aggregation}: says no descriptors_dim. Expected a torch.nn.Module that does")
    if isinstance(made, SequenceAggregation):
        made.bind(network.aggregation)
    config = {**network.config, NAME: seq_aggregation, "seq_length": seq_length, **given}
    found = SequenceNetwork(network, made, config | ({_ARGS: list(words)} if words else {}))
    return found.to(network.mean.device).train(network.training)


def sequence_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a configuration says of sequences, as `with_sequences` takes it; {} of a network of images."""
    return {name: config[name] for name in (*OPTIONS, "seq_length") if name in config} if config.get(NAME) else {}


def without_sequences(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of the network of images."""
    return {name: value for name, value in config.items() if name not in (*OPTIONS, "seq_length")}
