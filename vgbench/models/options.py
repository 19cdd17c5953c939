"""What a user can set about a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from vgbench.errors import UserError
from vgbench.models.aggregation.build import L2_PLACES
from vgbench.models.aggregation.options import AggregationOptions
from vgbench.models.build import build_network
from vgbench.models.network import Network
from vgbench.models.releases import OFF_THE_SHELF, RELEASES, OwnRelease, load_release
from vgbench.options import option


@dataclass(frozen=True)
class PartsOptions:
    """What a network is made of."""

    backbone: str = option("resnet18conv4", "the network's trunk; or package.module:Class", metavar="NAME")
    aggregation: str = option("netvlad", "how a map becomes a descriptor; or package.module:Class", metavar="NAME")
    l2: str = option(
        "before_pool",
        "where the L2 normalisation of mac, spoc, gem and rmac sits",
        choices=L2_PLACES,
        needs="aggregation=mac|spoc|gem|rmac",
    )
    netvlad_clusters: int = option(64, "clusters of NetVLAD and CRN", needs="aggregation=netvlad|crn")
    fc_output_dim: int | None = option(None, "project descriptors to so many dimensions with a fully connected layer")
    trunc_te: int | None = option(None, "keep so many of a transformer's layers")
    freeze_te: int | None = option(
        None, "train nothing of a transformer but the layers after this one, from 0 (-1: all)"
    )
    cut: int | None = option(None, "keep so many of the backbone's stages; None: all")
    freeze: int | None = option(None, "keep so many of the backbone's first stages untrained; None: its own number")
    unfreeze_blocks: int | None = option(
        None, "train so many last layers of DINOv2, DINOv3 or a timm transformer and no others; None: 4 of DINO's"
    )
    norm_layer: bool = option(True, "apply DINOv2's last LayerNorm; OpenVPRLab's and BoQ's networks do not")
    non_local: bool = option(False, "put non-local blocks after the backbone")
    num_non_local: int | None = option(None, "non-local blocks in a row; None: 1")
    channel_bottleneck: int | None = option(None, "channels inside of non-local blocks; None: half the map's")
    pretrain: str = option(
        "imagenet",
        "the backbone's first weights; places (Places 365) and gldv2 (Google Landmarks v2) for ResNet-18, 50, 101 and "
        "VGG-16",
        choices=("imagenet", "places", "gldv2", "none"),
    )
    off_the_shelf: str = option(
        "imagenet",
        "a network trained for image retrieval, as it is, for --backbone resnet50conv5 or resnet101conv5; "
        "imagenet: none",
        choices=("imagenet", *OFF_THE_SHELF),
    )
    method: str | None = option(
        None, "a whole network as its authors released it, instead of --backbone and --aggregation: salad, boq, "
        "megaloc, mixvpr, cosplace, eigenplaces, netvlad, ...; at its own --resize", metavar="NAME",
    )  # fmt: skip


@dataclass(frozen=True)
class NetworkOptions(AggregationOptions, PartsOptions):
    """The network's parts, and what single aggregations are told.

    Raises:
        UserError: a value is out of its range.
    """


def network_from_options(options: NetworkOptions, resize: tuple[int, int] | None = None) -> Network:
    """Build the network that the options describe; raises UserError as `build_network` does.

    Args:
        resize: height and width of the images in pixels, for those networks whose weights depend on it (MixVPR).
    """
    values = asdict(options)
    method, shelf = values.pop("method"), values.pop("off_the_shelf")
    if shelf != "imagenet":
        if method is not None:
            raise UserError(f"--off_the_shelf {shelf}: stands beside --method {method}. Expected one of them")
        return _from_the_shelf(shelf, options)
    if method is None:
        values["norm_layer"] = None if options.norm_layer else False  # most backbones know of no such choice
        return build_network(**values, resize=resize)
    _check_pretrain(f"--method {method}", options.pretrain)
    changed = _changed(options, ("method", "pretrain"))
    if changed:
        raise UserError(f"--method {method}: is a whole network. Expected no --{changed[0]} beside it; leave that out")
    return load_release(method, trained=options.pretrain != "none")


def _from_the_shelf(shelf: str, options: NetworkOptions) -> Network:
    """Return a network trained for retrieval; raises UserError for options that are not what it is."""
    released = [name.removeprefix(f"{shelf}-") for name in RELEASES if name.startswith(f"{shelf}-")]
    if options.backbone not in released:
        raise UserError(
            f"--off_the_shelf {shelf}: was not released with --backbone {options.backbone}. "
            f"Expected --backbone {' or '.join(released)}"
        )
    _check_pretrain(f"--off_the_shelf {shelf}", options.pretrain)
    release = RELEASES[f"{shelf}-{options.backbone}"]
    parts = release.parts if isinstance(release, OwnRelease) else {}
    for name in _changed(options, ("off_the_shelf", "pretrain")):
        value = getattr(options, name)
        if value != parts.get(name):
            held = f"has --{name} {parts[name]}" if name in parts else f"has no --{name}"
            raise UserError(
                f"--off_the_shelf {shelf}: its network {held}, not {value}. Expected no --{name} beside it; "
                "leave that out"
            )
    return load_release(f"{shelf}-{options.backbone}", trained=options.pretrain != "none")


def _check_pretrain(whole: str, pretrain: str) -> None:
    """Raise UserError if a released network, `whole`, is to start from weights of a backbone."""
    if pretrain not in ("imagenet", "none"):
        raise UserError(
            f"--pretrain {pretrain}: {whole} is a whole network with its own weights. Expected no --pretrain beside it"
        )


def _changed(options: NetworkOptions, but: Sequence[str]) -> list[str]:
    """Return the names of the options that are not at their defaults, without those in `but`."""
    return [
        name for name, value in asdict(options).items() if name not in but and value != getattr(NetworkOptions, name)
    ]


def network_option_names() -> list[str]:
    """Return the names of the options that say what a network is."""
    return [field.name for field in fields(NetworkOptions)]


def stored_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint's configuration says of the options that say what a network is."""
    return {name: config[name] for name in network_option_names() if name in config}


def check_same_network(path: Path, config: Mapping[str, Any], given: Mapping[str, Any], flag: str) -> None:
    """Refuse network options beside a checkpoint that say another network than it holds.

    Args:
        path, config: the checkpoint and its network's configuration, which lists no option that is at its default.
        given: what the user set, by flat name.
        flag: the option that named the checkpoint.

    Raises:
        UserError: an option says otherwise.
    """
    released = _shelf_parts(config)
    for name in network_option_names():
        if name not in given or (name == "pretrain" and name not in config):  # a whole network's start is not stored
            continue
        held = config.get(name, getattr(NetworkOptions, name))
        if given[name] == held or (name in released and given[name] == released[name]):
            continue
        said = f"holds a network with --{name} {held}, not" if name in config else f"holds a network without --{name}"
        raise UserError(f"{path}: {said} {given[name]}. Expected no network options beside {flag}; leave --{name} out")


def _shelf_parts(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options beside which `--off_the_shelf` made a network, {} of others."""
    release = RELEASES.get(str(config.get("method")))
    shelf = str(config.get("method")).partition("-")[0]
    if shelf not in OFF_THE_SHELF or not isinstance(release, OwnRelease):
        return {}
    return {**release.parts, "off_the_shelf": shelf}
