"""What a user can set about a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vgbench.models.adapting.options import AdaptingOptions
from vgbench.models.aggregation.options import AggregationOptions
from vgbench.models.sequences.options import SequenceNetworkOptions
from vgbench.options import Mark, Options, arguments, at_least, between, option, option_names

L2_PLACES = ("before_pool", "after_pool", "none")
PLACED_BY_L2 = ("mac", "spoc", "gem", "rmac")
"""The aggregations of which --l2 says where they are normalised: those that declare `places_l2`."""
OFF_THE_SHELF = ("radenovic_sfm", "radenovic_gldv1", "naver")
COMBINATIONS = ("concat", "mean")  # of an ensemble's descriptors


@dataclass(frozen=True)
class PartsOptions(Options, topic="network"):
    """What a network is made of."""

    backbone: str = option(
        "resnet18conv4", "the backbone", registry="vgbench.models.backbones:BACKBONES", marks=Mark.LATE, common=True
    )
    aggregation: str = option(
        "netvlad",
        "how local features become a descriptor",
        registry="vgbench.models.aggregation:AGGREGATIONS",
        marks=Mark.LATE,
        common=True,
    )
    l2: str = option(
        "before_pool",
        "where the L2 normalisation is",
        choices=L2_PLACES,
        needs="aggregation=mac|spoc|gem|rmac",
    )
    netvlad_clusters: int = option(64, "clusters", range=at_least(1), needs="aggregation=netvlad|crn|vlad_buff")
    fc_output_dim: int | None = option(
        None, "project descriptors to this many dimensions by a fully connected layer", range=at_least(1)
    )
    hash_bits: int | None = option(
        None, "learn codes of this many bits beside the descriptors (SelaVPR++), for --quantise hash: codes are "
        "searched, and the descriptors order what they find", range=between(1, 2**16), unset="no codes",
    )  # fmt: skip
    trunc_te: int | None = option(
        None, "keep only this many layers of a transformer, from the first", range=at_least(1), unset="all"
    )
    freeze_te: int | None = option(
        None, "of a transformer, train only the layers after this one, counted from 0; -1: all layers",
        range=at_least(-1), unset="all layers", marks=Mark.FREEZES,
    )  # fmt: skip
    cut: int | None = option(
        None, "keep only this many stages of the backbone, from the first", range=at_least(0), unset="all"
    )
    freeze: int | None = option(
        None, "do not train this many stages of the backbone, from the first", range=at_least(0),
        unset="the backbone's usual number", marks=Mark.FREEZES,
    )  # fmt: skip
    unfreeze_blocks: int | None = option(
        None, "train only this many blocks of DINOv2, DINOv3 or a transformer of timm, counted from the last",
        range=at_least(0), unset="4 of DINOv2 and DINOv3, all of timm's", marks=Mark.FREEZES,
    )  # fmt: skip
    norm_layer: bool = option(True, "apply DINOv2's last LayerNorm; OpenVPRLab's and BoQ's networks do not")
    non_local: bool = option(False, "put non-local blocks after the backbone")
    num_non_local: int | None = option(None, "non-local blocks in a row", range=at_least(1), unset="1")
    channel_bottleneck: int | None = option(
        None, "channels inside non-local blocks", range=at_least(1), unset="half the map's"
    )
    backbone_args: tuple[str, ...] | None = arguments("backbone")
    aggregation_args: tuple[str, ...] | None = arguments("aggregation")
    pretrain: str = option(
        "imagenet",
        "the backbone's first weights; Places 365 and GLDv2 for ResNet-18, 50, 101 and VGG-16",
        choices=("imagenet", "places", "gldv2", "none"),
        common=True,
    )
    off_the_shelf: str = option(
        "imagenet",
        "a network that was trained for image retrieval, for --backbone resnet50conv5 or resnet101conv5; imagenet "
        "means none of these",
        choices=("imagenet", *OFF_THE_SHELF),
    )
    method: str | None = option(
        None,
        "a whole released network instead, with its own --resize: salad, boq, megaloc, mixvpr, cosplace, eigenplaces, "
        "netvlad, ...",
        metavar="NAME",
        common=True,
    )
    weights: Path | None = option(
        None, "a file at hand with the weights of --method or --off_the_shelf, so that nothing is fetched",
        metavar="FILE", unset="fetched once from where its authors released it",
    )  # fmt: skip


@dataclass(frozen=True)
class NetworkOptions(SequenceNetworkOptions, AggregationOptions, AdaptingOptions, PartsOptions):
    """The network's parts, and what single aggregations are told.

    Raises:
        UserError: a value is out of its range.
    """


def network_option_names() -> list[str]:
    """Return the names of the options that say what a network is; a file of its weights does not."""
    return [name for name in option_names(NetworkOptions) if name != "weights"]


def stored_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint's configuration says of the options that say what a network is."""
    return {name: config[name] for name in network_option_names() if name in config}
