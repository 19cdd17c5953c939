"""Checkpoints that say which network they hold, as train.py and combine write them: the one reader of all commands."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vgbench.errors import UserError, about
from vgbench.models.network import Network
from vgbench.models.rebuild import rebuild_network
from vgbench.models.stored_config import check_config
from vgbench.models.weights import extract_state_dict, read_checkpoint


@dataclass(frozen=True)
class NetworkFile:
    """What a checkpoint holds.

    Attributes:
        name: the file, as complaints name it.
        content: all of it; its weights are tensors.
        config: what rebuilds its network, checked.
        own: code outside this project, package.module:Class, that it may name.
    """

    name: str
    content: dict[str, Any]
    config: Mapping[str, Any]
    own: Collection[str]

    def network(self, **changes: Any) -> Network:
        """Return the network with its weights; `changes` of the configuration are those that keep the weights.

        Raises:
            UserError: the weights are of another network than the configuration.
        """
        with about(self.name):
            return rebuild_network({**self.config, **changes}, self.content, self.own)


def read_network_file(
    path: Path, own: Collection[str] = (), *, name: str | None = None, otherwise: str = ""
) -> NetworkFile:
    """Read a checkpoint that says which network it holds.

    Args:
        own: code outside this project, package.module:Class, that the user typed in this call.
        name: how complaints name the file: behind its option, "--start_from a.pth"; not given: by its path.
        otherwise: what complaints add, of files that do not say it.

    Raises:
        UserError: the file cannot be read, does not say which network it holds, names other code or has no weights.
    """
    name = name or str(path)
    content = read_checkpoint(path)
    config = content.get("network_config")
    if not isinstance(config, Mapping):
        more = f"; {otherwise}" if otherwise else ""
        raise UserError(
            f"{name}: does not say which network it holds. Expected a checkpoint that train.py or combine wrote{more}"
        )
    with about(name):
        check_config(config, own)
        extract_state_dict(content)
    return NetworkFile(name, content, config, own)
