"""What a released network is: one of this project that takes its authors' weights, or the authors' own code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.error import URLError

import torch
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.base import Aggregation, Backbone
from vgbench.models.build import build_network
from vgbench.models.network import Network
from vgbench.models.release_files import ReleaseFile
from vgbench.models.weights import load_weights


class Release(Protocol):
    """What a row of the table is."""

    @property
    def paper(self) -> str:
        """Authors, year and what it was trained on."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images, pixels."""

    def build(self, name: str, trained: bool, weights: Path | None = None) -> Network:
        """Return the network, with its released weights if `trained`; `weights`: those of a file at hand instead."""


@dataclass(frozen=True)
class OwnRelease:
    """A network of this project that takes the authors' weights.

    Attributes:
        parts: what `build_network` needs.
        file: of the weights.
        read: loads the file into the network.
        normalisation: mean and std of its pixels in 0..1, where they are not its backbone's.
        beside: files that are fetched with it, and lie beside it.
        parts_of: what a file of weights says of `parts`.
    """

    paper: str
    size: tuple[int, int]
    parts: Mapping[str, Any]
    file: ReleaseFile
    read: Callable[[nn.Module, Path], None] = load_weights
    normalisation: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    beside: tuple[ReleaseFile, ...] = ()
    parts_of: Callable[[Path], Mapping[str, Any]] | None = None

    def build(self, name: str, trained: bool, weights: Path | None = None) -> Network:
        """Raise UserError if the weights cannot be had, or are of another network."""
        path, parts = weights, dict(self.parts)
        if path is None and trained:
            path = self._fetched(f"--method {name}")
        if path is not None and self.parts_of is not None:
            parts |= self.parts_of(path)
        network = build_network(**parts, pretrain="none", resize=self.size)
        for buffer, values in zip((network.mean, network.std), self.normalisation or (), strict=False):
            buffer.copy_(torch.tensor(values).view(1, 3, 1, 1))
        if path is not None:
            self.read(network, path)
        if parts == self.parts:  # else its parts are what a checkpoint of it has to say
            network.config = {"method": name}
        return network

    def _fetched(self, what: str) -> Path:
        if not self.file.here:
            for file in self.beside:
                file.fetched(what)
        return self.file.fetched(what)


@dataclass(frozen=True)
class HubRelease:
    """A network whose code comes from its authors' repository.

    Attributes:
        repository: "owner/name" for torch.hub.
        entry: the function in its hubconf.py.
        dim: of its descriptors.
        arguments: of the function.
        mean, std: what it subtracts from pixels in 0..1 and divides them by.
        move: takes what `nn.Module.to` does not reach to a device.
        mixes_batch: whether it looks at all images of a batch to describe each.
    """

    paper: str
    size: tuple[int, int]
    repository: str
    entry: str
    dim: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    move: Callable[[nn.Module, torch.device], None] | None = None
    mixes_batch: bool = False

    def build(self, name: str, trained: bool, weights: Path | None = None) -> Network:
        """Raise UserError if the code or its weights cannot be had; they come together, whatever `trained` says."""
        del trained
        if weights is not None:
            raise UserError(
                f"--weights {weights}: --method {name} is its authors' code, which fetches its own weights. Expected "
                "none beside it"
            )
        try:
            model = torch.hub.load(  # type: ignore[no-untyped-call]
                self.repository, self.entry, trust_repo=True, verbose=False, **self.arguments
            )
        except (URLError, OSError, RuntimeError, ValueError) as error:
            folder = Path(torch.hub.get_dir()) / f"{self.repository.replace('/', '_')}_main"
            raise UserError(
                f"--method {name}: its code or weights cannot be downloaded ({getattr(error, 'reason', error)}). "
                f"Expected https://github.com/{self.repository} to be reachable; or a clone of it at {folder}"
            ) from error
        trunk = HubTrunk(model, self.dim, self.mean, self.std, self.move)
        trunk.mixes_batch = self.mixes_batch
        return Network(trunk, WholeDescriptor(self.dim), {"method": name})


class HubTrunk(Backbone):
    """Somebody else's whole network: images [B,3,H,W] to descriptors [B,D].

    Args:
        move: called with the model and the device of the images that it is to run on.
    """

    kind = "vector"
    as_it_is = True  # never rewritten into a faster form
    shared = True  # nor copied: the hooks of a copy would still write to the original

    def __init__(
        self,
        model: nn.Module,
        dim: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        move: Callable[[nn.Module, torch.device], None] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.out_channels, self.mean, self.std, self.move = model, dim, mean, std, move

    def forward(self, images: Tensor) -> Tensor:
        if self.move is not None:
            self.move(self.model, images.device)
        found = self.model(images)
        descriptors: Tensor = found[0] if isinstance(found, tuple | list) else found
        return descriptors


def move_anyloc(model: Any, device: torch.device) -> None:
    """Move AnyLoc's network and clusters, which it keeps in plain objects; its own `to` would build a second one."""
    if model.device == device:
        return
    model.device = model.dino_extractor.device = device
    model.dino_extractor.dino_model.to(device)
    model.vlad.c_centers = model.vlad.c_centers.to(device)


class WholeDescriptor(Aggregation):
    """[B,D] to the same: the network before it has aggregated already."""

    takes = "vector"

    def __init__(self, descriptors_dim: int) -> None:
        super().__init__()
        self.descriptors_dim = descriptors_dim

    def forward(self, descriptors: Tensor) -> Tensor:
        return descriptors
