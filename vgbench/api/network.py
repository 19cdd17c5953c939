"""A network that is ready to describe image files."""

from __future__ import annotations

import dataclasses
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vgbench.data import DataOptions
from vgbench.data.listing import report_left_out, walk
from vgbench.data.protocol import parse_name
from vgbench.data.table import ImageTable, TableBuilder
from vgbench.errors import UserError
from vgbench.models import Network, hub
from vgbench.models.network_file import read_network_file
from vgbench.models.pretrained_folder import write_folder
from vgbench.models.releases import RELEASES, load_release, release_of
from vgbench.retrieval import describe_rows
from vgbench.retrieval.extraction.extract import weights_hash
from vgbench.runs.folder import to_test
from vgbench.runtime import Inference, RuntimeOptions, resolve_runtime
from vgbench.runtime_options import BACKENDS
from vgbench.stored import options_of_file

_SIZE = (480, 640)
_OF_OTHERS = (
    "for weights of others: network = vgbench.models.build_network(...), then "
    "vgbench.models.load_weights(network, path)"
)


@dataclass(frozen=True)
class Described:
    """Images and their descriptors.

    Attributes:
        paths: N files.
        descriptors: float32 [N,D].
        positions: float64 [N,2], UTM east and north in metres as the file names say them; NaN where they do not.
        network: what the weights that made the descriptors are known by; '' where nobody says.
    """

    paths: tuple[Path, ...]
    descriptors: NDArray[np.float32]
    positions: NDArray[np.float64]
    network: str = ""

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class LoadedNetwork:
    """A network, and how images are brought to it.

    Attributes:
        network: the module itself, in eval mode on its device.
        inference: size in pixels, images in a batch, decoding processes, device and precision.
    """

    network: Network
    inference: Inference

    @property
    def descriptors_dim(self) -> int:
        """D."""
        return self.network.descriptors_dim

    @cached_property
    def weights(self) -> str:
        """What the weights on which descriptors depend are known by, a sha256 in hex."""
        return weights_hash(self.network)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the descriptors float32 [B,D] of images [B,3,H,W], uint8 or normalised float."""
        descriptors: Tensor = self.network(images)
        return descriptors

    def computed_by(self, backend: str) -> LoadedNetwork:
        """Return the same network, whose `describe` computes by an inference backend.

        Args:
            backend: "eager", "compile", "openvino" or "onnxruntime", as `--inference_backend` takes it.

        Raises:
            UserError: no such backend, it is not installed, or does not run on the network's device.
        """
        runtime = dataclasses.replace(self.inference.runtime, backend=backend)
        BACKENDS.resolve(backend)().check(runtime.device)
        return dataclasses.replace(self, inference=dataclasses.replace(self.inference, runtime=runtime))

    def describe(
        self, images: str | Path | Iterable[str | Path], *, upright: bool = True, progress: bool = False
    ) -> Described:
        """Describe image files.

        Args:
            images: their paths; or one folder, for all images below it, sorted.
            upright: turn photographs as their EXIF says. Datasets in the folder protocol are tested as their pixels
                are stored: give False to get the descriptors that `vgbench eval` computes.
            progress: show a progress bar.

        Raises:
            UserError: there are no images, or one cannot be read.
        """
        paths = _files(images)
        table = _table(paths, upright=upright)
        rows = np.arange(len(table), dtype=np.int64)
        with tqdm(total=len(paths), unit="img", disable=not progress) as bar:
            descriptors = describe_rows(self.network, table, rows, self.inference, progress=bar.update)
        return Described(tuple(paths), descriptors.cpu().numpy(), table.utm.copy(), self.weights)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `config.json`, which `load_network(folder)` reads back to the same network.

        Raises:
            UserError: the folder cannot be written, or the network is its authors' own code.
        """
        write_folder(self.network, self.inference.fixed_size, Path(folder).expanduser())

    def push_to_hub(self, name: str, *, private: bool = False) -> str:
        """Put both files into the repository "owner/name" of the Hugging Face hub; returns its address.

        Raises:
            UserError: the hub refuses it (no token that may write) or cannot be reached; or as `save_pretrained`.
        """
        return hub.push(self.network, self.inference.fixed_size, name, private)

    @staticmethod
    def from_pretrained(source: str | Path, **options: Any) -> LoadedNetwork:
        """Return `load_network(source, **options)` of a folder, or of "owner/name" on the Hugging Face hub.

        Raises:
            UserError: as `load_network`.
        """
        return load_network(source if Path(source).exists() else f"{hub.SCHEME}{source}", **options)


def load_network(
    source: str | Path | Network,
    *,
    size: tuple[int, int] | None = None,
    batch_size: int = 16,
    num_workers: int = 0,
    device: str = "auto",
    amp: str = "auto",
    own_code: Sequence[str] = (),
    weights: str | Path | None = None,
) -> LoadedNetwork:
    """Return a network that describes images.

    Args:
        source: a checkpoint of this project, the folder of a run or one that `save_pretrained` wrote; or the name of a
            released network, such as "megaloc"; or "hf://owner/name", what `push_to_hub` wrote; or a network of
            `vgbench.models.build_network`.
        size: height and width in pixels that images are resized to; None for what the network was trained with.
        batch_size: images in one batch.
        num_workers: processes that decode images; 0 decodes in this one.
        own_code: code outside this project, package.module:Class, that the checkpoint may use; it is not trusted to say
            so itself.
        weights: a file at hand with the weights of a released network, so that nothing is fetched.
        device, amp: as the flags of the command line: "auto", "cuda" or "cpu"; "auto", "bf16", "fp16" or "off".

    Raises:
        UserError: no such file or name, a checkpoint that does not say which network it holds, weights that cannot be
            downloaded, no such device.
    """
    network, own_size = _released(source, weights) or _network(source, own_code)
    runtime = resolve_runtime(RuntimeOptions(device=device, amp=amp))
    runtime.prepare(network.eval())
    return LoadedNetwork(network, Inference(size or own_size, batch_size, num_workers, runtime))


def _released(source: str | Path | Network, weights: str | Path | None) -> tuple[Network, tuple[int, int]] | None:
    """Return a released network and its size, None where `source` names none; raises UserError for weights of none."""
    name = str(source)
    if isinstance(source, Network) or name not in RELEASES or (weights is None and Path(name).exists()):
        if weights is None:
            return None
        raise UserError(
            f"weights {weights}: stands beside {source if isinstance(source, str | Path) else source.name}, which has "
            f"its own. Expected it beside a released network: {', '.join(sorted(RELEASES))}"
        )
    file = None if weights is None else Path(weights).expanduser()
    return load_release(name, weights=file), release_of(name).size


def _network(source: str | Path | Network, own_code: Sequence[str]) -> tuple[Network, tuple[int, int]]:
    """Return the network and the image size that it was made for."""
    if isinstance(source, Network):
        return source, _SIZE
    if str(source).startswith(hub.SCHEME):
        source = hub.fetch(str(source).removeprefix(hub.SCHEME))
    if not Path(source).exists():
        raise UserError(
            f"{source}: no such file. Expected a checkpoint, the folder of a run, or a released network: "
            f"{', '.join(sorted(RELEASES))}"
        )
    path = to_test(Path(source))
    file = read_network_file(path, own_code, otherwise=_OF_OTHERS)
    options = options_of_file(path, file.content.get("options", {}), [DataOptions], {})
    return file.network(), options.get("resize", _SIZE)


def _files(images: str | Path | Iterable[str | Path]) -> list[Path]:
    if isinstance(images, (str, Path)):
        folder = Path(images).expanduser()
        if not folder.is_dir():
            return [folder.absolute()]
        left_out = Counter[str]()
        found = [folder.absolute() / os.fsdecode(name) for name in walk(os.fsencode(folder), left_out)]
        report_left_out(folder, left_out)
    else:
        found = [Path(path).expanduser().absolute() for path in images]
    if not found:
        raise UserError(f"{images}: no images. Expected the paths of one or more, or a folder of them")
    return found


def _table(paths: list[Path], *, upright: bool) -> ImageTable:
    """Return a table of files anywhere: they are named from the root of the file system."""
    root, builder = Path(paths[0].anchor), TableBuilder()
    for path in paths:
        east, north = _position(path.name)
        builder.add(path.relative_to(root).as_posix(), east, north)
    return builder.build(root, upright=upright)


def _position(name: str) -> tuple[float, float]:
    try:
        parsed = parse_name(name)
    except UserError:
        return math.nan, math.nan
    return parsed.utm_east, parsed.utm_north
