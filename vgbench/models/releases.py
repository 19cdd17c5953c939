"""Whole networks that their authors released, by name (`--method`), each at its own image size.

Most are networks of this project with the authors' weights, so that they are as fast as any other here; the rest is
the authors' own code, fetched through torch.hub.
"""

from __future__ import annotations

import difflib
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
from vgbench.models.matlab import load_netvlad
from vgbench.models.network import Network
from vgbench.models.options import OFF_THE_SHELF as OFF_THE_SHELF
from vgbench.models.retrieval_weights import load_retrieval
from vgbench.models.weights import load_weights


class Release(Protocol):
    """What a row of the table is."""

    @property
    def paper(self) -> str:
        """Authors, year and what it was trained on."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images, pixels."""

    def build(self, name: str, trained: bool) -> Network:
        """Return the network, with its released weights if `trained`."""


@dataclass(frozen=True)
class OwnRelease:
    """A network of this project that takes the authors' weights.

    Attributes:
        parts: what `build_network` needs.
        url: where the file of weights is; a page to fetch it from by hand where it cannot be downloaded directly.
        file: its name in torch's folder of checkpoints.
        direct: whether `url` is the file itself.
        read: loads the file into the network.
        normalisation: mean and std of its pixels in 0..1, where they are not its backbone's.
    """

    paper: str
    size: tuple[int, int]
    parts: Mapping[str, Any]
    url: str
    file: str
    direct: bool = True
    read: Callable[[nn.Module, Path], None] = load_weights
    normalisation: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None

    def build(self, name: str, trained: bool) -> Network:
        """Raise UserError if the weights cannot be had."""
        network = build_network(**self.parts, pretrain="none", resize=self.size)
        for buffer, values in zip((network.mean, network.std), self.normalisation or (), strict=False):
            buffer.copy_(torch.tensor(values).view(1, 3, 1, 1))
        if trained:
            self.read(network, self._fetched(name))
        return network

    def _fetched(self, name: str) -> Path:
        path = Path(torch.hub.get_dir()) / "checkpoints" / self.file
        if path.is_file():
            return path
        if not self.direct:
            raise UserError(
                f"--method {name}: its weights cannot be fetched by program. Expected {path}; from {self.url}"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(self.url, str(path))
        except (URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise UserError(
                f"--method {name}: its weights cannot be downloaded ({reason}). Expected {self.url} to be reachable; "
                f"download it elsewhere and put it at {path}"
            ) from error
        return path


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

    def build(self, name: str, trained: bool) -> Network:
        """Raise UserError if the code or its weights cannot be had; they come together, whatever `trained` says."""
        del trained
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
        return Network(trunk, WholeDescriptor(self.dim), {})


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


_STREET = (480, 640)  # photographs of street sets as they are
_LITE, _DEEP = (32, 64, 128, 256, 512), (32, 64, 128, 256, 512, 1024, 2048)
_TRUNKS = {"ResNet18": "resnet18conv5", "ResNet50": "resnet50conv5", "ResNet101": "resnet101conv5",
           "ResNet152": "resnet152conv5", "VGG16": "vgg16"}  # fmt: skip
_COSPLACE_DIMS = {"VGG16": (64, 128, 256, 512), "ResNet18": _LITE, "ResNet50": _DEEP, "ResNet101": _DEEP,
                  "ResNet152": _DEEP}  # fmt: skip
_EIGEN_DIMS = {"VGG16": (512,), "ResNet18": (256, 512), "ResNet50": (128, 256, 512, 2048),
               "ResNet101": (128, 256, 512, 2048)}  # fmt: skip
_VGG_MEAN, _BYTE = (123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255, 1 / 255, 1 / 255)
_DINOV2 = {"backbone": "dinov2_vitb14"}
_GITHUB = "https://github.com/{}/releases/download/{}/{}"
# (dimensions, channels, rows, the file's id on Google Drive)
_MIXVPR = ((128, 64, 2, "1DQnefjk1hVICOEYPwE4-CZAZOvi1NSJz"), (512, 256, 2, "1khiTUNzZhfV2UUupZoIsPIbsMRBYVDqj"),
           (4096, 1024, 4, "1vuz3PvnR7vxnDDLQrdHJaOA04SQrtk5L"))  # fmt: skip
_CONVAP_FOLDER = "https://drive.google.com/drive/folders/1VYPw9uGD11NgiGFgfWueLt3noJYOIuhL"
_RETRIEVAL = {"aggregation": "gem", "fc_output_dim": 2048}
_RADENOVIC = {
    "resnet50conv5": {
        "radenovic_sfm": "rSfM120k-tl-resnet50-gem-w-97bf910.pth",
        "radenovic_gldv1": "gl18-tl-resnet50-gem-w-83fdc30.pth",
    },
    "resnet101conv5": {
        "radenovic_sfm": "rSfM120k-tl-resnet101-gem-w-a155e54.pth",
        "radenovic_gldv1": "gl18-tl-resnet101-gem-w-a4d43db.pth",
    },
}
_NAVER = {"resnet50conv5": "1oPtE_go9tnsiDLkWjN4NMpKjh-_md1G5", "resnet101conv5": "1UWJGDuHtzaQdFhSMojoYVQjmCXhIwVvy"}
_ANYLOC_DOMAINS = ("urban", "indoor", "aerial", "structured", "unstructured", "global")


def _own(paper: str, size: tuple[int, int], repository: str, version: str, file: str, **parts: Any) -> OwnRelease:
    return OwnRelease(paper, size, parts, _GITHUB.format(repository, version, file), file)


def _cosplace_like(paper: str, repository: str, word: str, dims: dict[str, tuple[int, ...]]) -> dict[str, Release]:
    return {
        f"{word}-{trunk.lower()}-{dim}": _own(
            paper, _STREET, repository, "v1.0", f"{trunk}_{dim}_{word}.pth",
            backbone=_TRUNKS[trunk], aggregation="cosplace", out_dim=dim,
        )
        for trunk, sizes in dims.items() for dim in sizes
    }  # fmt: skip


def _mixvpr(dim: int, channels: int, rows: int, drive: str) -> OwnRelease:
    parts = {"backbone": "resnet50conv4", "aggregation": "mixvpr", "out_channels": channels, "out_rows": rows}
    file = f"resnet50_MixVPR_{dim}_channels({channels})_rows({rows}).ckpt"
    url = f"https://drive.google.com/file/d/{drive}/view"
    return OwnRelease("Ali-bey et al., 2023; GSV-Cities", (320, 320), parts, url, file, direct=False)


def _convap(dim: int) -> OwnRelease:
    parts = {"backbone": "resnet50conv5", "aggregation": "convap", "out_channels": dim // 4}
    file = f"resnet50_ConvAP_{dim // 4}_2x2.ckpt"
    return OwnRelease("Ali-bey et al., 2022; GSV-Cities", (320, 320), parts, _CONVAP_FOLDER, file, direct=False)


def _netvlad(city: str) -> OwnRelease:
    parts = {"backbone": "vgg16", "aggregation": "netvlad", "netvlad_clusters": 64, "fc_output_dim": 4096}
    file = f"{city}_struct.mat"
    url = f"https://cvg-data.inf.ethz.ch/hloc/netvlad/{file}"
    paper = f"Arandjelovic et al., 2016; {city}"
    return OwnRelease(paper, _STREET, parts, url, file, read=load_netvlad, normalisation=(_VGG_MEAN, _BYTE))


def _off_the_shelf() -> dict[str, Release]:
    found: dict[str, Release] = {}
    for trunk, files in _RADENOVIC.items():
        for shelf, file in files.items():
            folder = "retrieval-SfM-120k" if shelf == "radenovic_sfm" else "gl18"
            url = f"http://cmp.felk.cvut.cz/cnnimageretrieval/data/networks/{folder}/{file}"
            parts = {**_RETRIEVAL, "backbone": trunk, "l2": "after_pool"}
            paper = f"Radenovic et al., 2018; {'SfM-120k' if shelf == 'radenovic_sfm' else 'Google Landmarks v1'}"
            found[f"{shelf}-{trunk}"] = OwnRelease(paper, _STREET, parts, url, file, read=load_retrieval)
    for trunk, drive in _NAVER.items():
        url, parts = f"https://drive.google.com/file/d/{drive}/view", {**_RETRIEVAL, "backbone": trunk, "l2": "none"}
        found[f"naver-{trunk}"] = OwnRelease(
            "Revaud et al., 2019; Landmarks-clean", _STREET, parts, url, f"naver_{trunk}.pt", direct=False,
            read=load_retrieval,
        )  # fmt: skip
    return found


def _with_defaults() -> dict[str, Release]:
    cosplace = _cosplace_like("Berton et al., 2022; SF-XL", "gmberton/CosPlace", "cosplace", _COSPLACE_DIMS)
    eigen = _cosplace_like("Berton et al., 2023; SF-XL", "gmberton/EigenPlaces", "eigenplaces", _EIGEN_DIMS)
    mixvpr = {f"mixvpr-{row[0]}": _mixvpr(*row) for row in _MIXVPR}
    convap = {f"convap-{dim}": _convap(dim) for dim in (512, 2048, 4096, 8192)}
    boq = "amaralibey/Bag-of-Queries"
    return {
        "netvlad": _netvlad("Pitts30K"),
        "netvlad-tokyotm": _netvlad("TokyoTM"),
        "sfrs": HubRelease(
            "Ge et al., 2020; Pitts30k", _STREET, "yxgeee/OpenIBL", "vgg16_netvlad", 4096, {"pretrained": True},
            mean=(0.48501960784313836, 0.4579568627450961, 0.4076039215686255), std=_BYTE,
        ),
        "cosplace": cosplace["cosplace-resnet50-2048"],
        "eigenplaces": eigen["eigenplaces-resnet50-2048"],
        "convap": convap["convap-4096"],
        "mixvpr": mixvpr["mixvpr-4096"],
        "salad": _own(
            "Izquierdo and Civera, 2024; GSV-Cities", (322, 322), "serizba/salad", "v1.0.0", "dino_salad.ckpt",
            **_DINOV2, aggregation="salad",
        ),
        "boq": _own(
            "Ali-bey et al., 2024; GSV-Cities", (322, 322), boq, "v1.0", "dinov2_12288.pth",
            **_DINOV2, norm_layer=False, aggregation="boq", proj_channels=384, num_queries=64,
        ),
        "boq-resnet50": _own(
            "Ali-bey et al., 2024; GSV-Cities", (384, 384), boq, "v1.0", "resnet50_16384.pth",
            backbone="resnet50conv4", aggregation="boq", proj_channels=512, num_queries=64,
        ),
        "megaloc": _own(
            "Berton and Masone, 2025; five sets", (322, 322), "gmberton/MegaLoc", "v1.0", "megaloc.torch",
            **_DINOV2, aggregation="megaloc",
        ),
        "cricavpr": HubRelease(
            "Lu et al., 2024; GSV-Cities", (224, 224), "Lu-Feng/CricaVPR", "trained_model", 10752, mixes_batch=True
        ),
        **{
            f"anyloc-{domain}": HubRelease(
                "Keetha et al., 2023; untrained", (322, 322), "AnyLoc/DINO", "get_vlad_model", 49152,
                {"backbone": "DINOv2", "domain": domain, "device": "cpu"}, move=move_anyloc,
            )
            for domain in _ANYLOC_DOMAINS
        },
        **cosplace, **eigen, **convap, **mixvpr, **_off_the_shelf(),
    }  # fmt: skip


RELEASES: dict[str, Release] = _with_defaults()
RELEASES["anyloc"] = RELEASES["anyloc-urban"]


def load_release(name: str, trained: bool = True) -> Network:
    """Return a released network by its name.

    Args:
        trained: with the released weights; without, when a checkpoint brings others.

    Raises:
        UserError: no such name, or code or weights that cannot be had; the message says which file to put where.
    """
    network = release_of(name).build(name, trained)
    network.config = {"method": name}
    return network


def release_of(name: str) -> Release:
    """Return the row of a name; raises UserError if there is none."""
    if name not in RELEASES:
        close = difflib.get_close_matches(name, RELEASES, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise UserError(f"--method {name}: not known.{hint} Known: {', '.join(RELEASES)}")
    return RELEASES[name]
