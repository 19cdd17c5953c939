"""A network by the names of its backbone and aggregation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from vgbench.errors import UserError
from vgbench.models.adapting.adapt import adapt, taken_options
from vgbench.models.aggregation import AGGREGATIONS
from vgbench.models.aggregation.build import build_aggregation
from vgbench.models.arguments import call_checked, check_known, own_options
from vgbench.models.backbones import BACKBONES
from vgbench.models.backbones.non_local import NonLocalTrunk
from vgbench.models.base import Aggregation, Backbone, as_backbone, declared
from vgbench.models.network import Network
from vgbench.registry import Registry

# Published configurations state these of every network; they have an effect where there are clusters, or weights that
# depend on the size of the map, or tokens that are normalised before they are pooled.
COMMON_OPTIONS = ("netvlad_clusters", "resize", "l2_over")


def build_network(
    backbone: str = "resnet18conv4",
    aggregation: str = "netvlad",
    pretrain: str | None = "imagenet",
    *,
    l2: str = "before_pool",
    fc_output_dim: int | None = None,
    non_local: bool = False,
    num_non_local: int | None = None,
    channel_bottleneck: int | None = None,
    backbone_args: Sequence[str] | None = None,
    aggregation_args: Sequence[str] | None = None,
    **options: Any,
) -> Network:
    """Return a network by names; every option is either the backbone's or the aggregation's, as they declare them.

    Args:
        backbone: one of BACKBONES, or "package.module:Class" of your own.
        aggregation: one of AGGREGATIONS, or "package.module:Class" of your own.
        pretrain: the backbone's first weights: "imagenet" or "none" (freshly drawn).
        l2: where the L2 normalisation of mac, spoc, gem and rmac sits: "before_pool", "after_pool" or "none".
        fc_output_dim: project the descriptors to this many dimensions and L2-normalise them.
        non_local: put non-local blocks after the backbone (Wang et al., 2018).
        num_non_local: how many of them (None: 1).
        channel_bottleneck: the channels inside of them (None: half the map's).
        backbone_args: "name=value" each, further keywords of the backbone, whatever the other options are.
        aggregation_args: the same of the aggregation.
        options: theirs, such as `netvlad_clusters`; None is the same as not given. `resize`, the (height, width) of the
            images in pixels, sets the map size of an aggregation whose weights depend on it; `l2_over` is what a
            normalisation before a pooling of tokens goes over, "channels" or "positions" (not given: as the backbone
            says). `lora_rank`, `adapter` and the like are of `AdaptingOptions`.

    Raises:
        UserError: an unknown name or option, parts that do not fit together, or weights that cannot be had.
    """
    pretrain = pretrain or "none"
    given = {name: value for name, value in options.items() if value is not None}
    adapting = taken_options(given)
    make_backbone, make_aggregation = BACKBONES.resolve(backbone), AGGREGATIONS.resolve(aggregation)
    backbone_names, aggregation_names = own_options(make_backbone), own_options(make_aggregation)
    for_backbone = {name: given[name] for name in given if name in backbone_names}
    for_aggregation = {name: given[name] for name in given if name in aggregation_names}
    known = dict.fromkeys([*backbone_names, *aggregation_names, *COMMON_OPTIONS])
    check_known(f"{backbone} with {aggregation}", given, list(known))
    blocks = _non_local_options(non_local, num_non_local, channel_bottleneck)
    # Before any weights are fetched.
    more = {
        "backbone": _more(BACKBONES, "backbone", backbone, backbone_args, for_backbone),
        "aggregation": _more(AGGREGATIONS, "aggregation", aggregation, aggregation_args, for_aggregation),
    }
    made = call_checked(f"backbone {backbone}", make_backbone, (pretrain,), {**for_backbone, **more["backbone"]})
    trunk = as_backbone(backbone, made)
    adapted = adapt(backbone, trunk, adapting, given)
    if non_local:
        trunk = NonLocalTrunk(backbone, trunk, **blocks)
        blocks["non_local"] = True
    _match(backbone, trunk, aggregation, make_aggregation, aggregation_names, for_aggregation)
    if given.get("resize") is not None and {"in_h", "in_w"} <= set(aggregation_names):
        height, width = _map_size(trunk, given["resize"])
        for_aggregation = {"in_h": height, "in_w": width, **for_aggregation}
    over = str(given.get("l2_over") or trunk.l2_over)
    head = build_aggregation(
        aggregation,
        int(trunk.out_channels),
        l2=l2,
        fc_output_dim=fc_output_dim,
        l2_over=over,
        **{**for_aggregation, **more["aggregation"]},
    )
    config: dict[str, Any] = {"backbone": backbone, "aggregation": aggregation, "pretrain": pretrain, "l2": l2}
    config |= {"fc_output_dim": fc_output_dim, **blocks, **adapted, **for_backbone, **for_aggregation}
    if over != "channels" and for_aggregation.get("tokens"):
        config["l2_over"] = over
    words = {"backbone_args": backbone_args, "aggregation_args": aggregation_args}
    config |= {name: list(given) for name, given in words.items() if given}
    return Network(trunk, head, config)


def _more(
    table: Registry, part: str, name: str, words: Sequence[str] | None, flat: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what `--<part>_args` says; raises UserError for a keyword that is an option of its own and given too."""
    found = table.keywords(part, name, words)
    twice = sorted(found.keys() & flat.keys())
    if twice:
        raise UserError(f"--{part}_args {twice[0]}=...: --{twice[0]} is given too. Expected one of them")
    return found


def _non_local_options(non_local: bool, num_non_local: int | None, channel_bottleneck: int | None) -> dict[str, Any]:
    """Return those that are given; raises UserError if there are no blocks that they could be of."""
    values = {"num_non_local": num_non_local, "channel_bottleneck": channel_bottleneck}
    given = {name: value for name, value in values.items() if value is not None}
    if given and not non_local:
        name, value = next(iter(given.items()))
        raise UserError(f"--{name} {value}: there are no non-local blocks. Expected it beside --non_local; add that")
    return given


@torch.no_grad()
def _map_size(trunk: nn.Module, resize: Sequence[int]) -> tuple[int, int]:
    """Return the height and width of the trunk's map of an image of `resize` pixels."""
    was_training = trunk.training
    height, width = trunk.eval()(torch.zeros(1, 3, *resize)).shape[2:]
    trunk.train(was_training)
    return int(height), int(width)


def _match(
    backbone: str, trunk: Backbone, aggregation: str, method: Any, names: list[str], options: dict[str, Any]
) -> None:
    """Check that the aggregation takes what the backbone gives, and set up what they have to agree on."""
    said = declared(method, Aggregation)
    takes, needs = said["takes"], said["needs"]
    takes = (takes,) if isinstance(takes, str) else takes
    if needs is not None and hasattr(trunk, needs):
        setattr(trunk, needs, True)
    elif needs is not None:
        takes = (f"{needs} of a sequence",)
    # A backbone that has a choice gives the first of its forms that the aggregation takes.
    kinds = trunk.kinds or (trunk.kind,)
    chosen = next((form for form in kinds if form in takes), None)
    if chosen is None:
        raise UserError(
            f"--aggregation {aggregation}: takes {' or '.join(takes)}, but --backbone {backbone} gives "
            f"{' or '.join(kinds)}. "
            "Expected two that fit together; see python3 train.py --help"
        )
    if len(kinds) > 1:
        trunk.kind = chosen
    if "tokens" in names and chosen == "tokens":
        options["tokens"] = True
