"""The network that options describe, and whether options say the same as a checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vgbench.arguments import parameters_of
from vgbench.errors import UserError
from vgbench.flags import plain
from vgbench.models.aggregation import AGGREGATIONS
from vgbench.models.build import build_network
from vgbench.models.hashing import attach_hashing
from vgbench.models.network import HASH_BITS, Network
from vgbench.models.options import OFF_THE_SHELF, NetworkOptions, network_option_names
from vgbench.models.releases import RELEASES, OwnRelease, load_release
from vgbench.models.sequences.network import NAME as SEQ_AGGREGATION
from vgbench.models.sequences.network import OPTIONS as OF_SEQUENCES
from vgbench.models.sequences.network import with_sequences
from vgbench.options import changed_options

LOG = logging.getLogger(__name__)

# By which options heads say the dimensions that they project to.
_PROJECTING = ("out_dim", "out_channels", "out_rows")


def network_from_options(
    options: NetworkOptions, resize: tuple[int, int] | None = None, seq_length: int = 5
) -> Network:
    """Build the network that the options describe; raises UserError as `build_network` does.

    Args:
        resize: height and width of the images in pixels, for those networks whose weights depend on it (MixVPR).
        seq_length: frames of a sequence, for networks of those.
    """
    network = _without_codes(replace(options, hash_bits=None), resize, seq_length)
    if options.hash_bits is not None:
        attach_hashing(network, options.hash_bits)
    return network


def _without_codes(options: NetworkOptions, resize: tuple[int, int] | None, seq_length: int) -> Network:
    if options.seq_aggregation is None:
        return _of_images(options, resize)
    own = {name: getattr(options, name) for name in OF_SEQUENCES}
    nothing: dict[str, Any] = dict.fromkeys(OF_SEQUENCES)
    alone = replace(options, **nothing)
    return with_sequences(_of_images(alone, resize), seq_length=seq_length, **own)


def _of_images(options: NetworkOptions, resize: tuple[int, int] | None) -> Network:
    """Build the network that describes an image."""
    values = {name: value for name, value in asdict(options).items() if name not in OF_SEQUENCES}
    del values[HASH_BITS]
    method, shelf, weights = values.pop("method"), values.pop("off_the_shelf"), values.pop("weights")
    if shelf != "imagenet":
        if method is not None:
            raise UserError(f"--off_the_shelf {shelf}: stands beside --method {method}. Expected one of them")
        return _from_the_shelf(shelf, options)
    if method is None:
        if weights is not None:
            raise UserError(
                f"--weights {weights}: no released network is named. Expected --method NAME beside it; checkpoints of "
                "networks by --backbone and --aggregation are taken by --resume or --start_from"
            )
        values["norm_layer"] = None if options.norm_layer else False  # most backbones know of no such choice
        _say_second_projection(options)
        return build_network(**values, resize=resize)
    _check_pretrain(f"--method {method}", options.pretrain)
    changed = [name for name in changed_options(options) if name not in ("method", "pretrain", "weights")]
    if changed:
        raise UserError(f"--method {method}: is a whole network. Expected no --{changed[0]} beside it; leave that out")
    return load_release(method, options.pretrain != "none", weights)


def _say_second_projection(options: NetworkOptions) -> None:
    """Say where --fc_output_dim comes behind a head that projects its descriptors itself."""
    if options.fc_output_dim is None:
        return
    parameters = parameters_of(AGGREGATIONS.resolve(options.aggregation))
    own = [f"--{name}" for name in _PROJECTING if name in parameters]
    if own:
        LOG.warning(
            "--fc_output_dim %d: a second projection, %s projects its descriptors itself. For one alone use %s",
            options.fc_output_dim, options.aggregation, " and ".join(own),
        )  # fmt: skip


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
    for name, value in changed_options(options).items():
        if name not in ("off_the_shelf", "pretrain", "weights") and value != parts.get(name):
            held = f"has --{name} {parts[name]}" if name in parts else f"has no --{name}"
            raise UserError(
                f"--off_the_shelf {shelf}: its network {held}, not {value}. Expected no --{name} beside it; "
                "leave that out"
            )
    return load_release(f"{shelf}-{options.backbone}", options.pretrain != "none", options.weights)


def _check_pretrain(whole: str, pretrain: str) -> None:
    """Raise UserError if a released network, `whole`, is to start from weights of a backbone."""
    if pretrain not in ("imagenet", "none"):
        raise UserError(
            f"--pretrain {pretrain}: {whole} is a whole network with its own weights. Expected no --pretrain beside it"
        )


def check_same_network(path: Path, config: Mapping[str, Any], given: Mapping[str, Any], flag: str) -> None:
    """Refuse network options beside a checkpoint that say another network than it holds.

    Args:
        path, config: the checkpoint and its network's configuration, which lists no option that is at its default.
        given: what the user set, by flat name.
        flag: the option that named the checkpoint.

    Raises:
        UserError: an option says otherwise.
    """
    refuse_weights(given.get("weights"), flag)
    released = _shelf_parts(config)
    for name in network_option_names():
        if name not in given or (name == "pretrain" and name not in config):  # a whole network's start is not stored
            continue
        if name in OF_SEQUENCES and not config.get(SEQ_AGGREGATION):  # a network of images can describe frames
            continue
        held = config.get(name, getattr(NetworkOptions, name))
        if plain(given[name]) == plain(held) or (name in released and given[name] == released[name]):
            continue
        said = f"holds a network with --{name} {held}, not" if name in config else f"holds a network without --{name}"
        raise UserError(f"{path}: {said} {given[name]}. Expected no network options beside {flag}; leave --{name} out")


def refuse_weights(weights: Any, flag: str) -> None:
    """Raise UserError where `--weights` stands beside the option that named a checkpoint, `flag`."""
    if weights is not None:
        raise UserError(f"--weights {weights}: stands beside {flag}, which brings weights. Expected one of them")


def _shelf_parts(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options beside which `--off_the_shelf` made a network, {} of others."""
    release = RELEASES.get(str(config.get("method")))
    shelf = str(config.get("method")).partition("-")[0]
    if shelf not in OFF_THE_SHELF or not isinstance(release, OwnRelease):
        return {}
    return {**release.parts, "off_the_shelf": shelf}
