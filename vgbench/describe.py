"""Write the descriptors of a folder of images, for other programs.

python3 -m vgbench.describe ~/photos --resume=logs/default/<run> --output descriptors.h5
python3 -m vgbench.describe ~/photos --method=megaloc --output descriptors.npy    # and descriptors.txt, the names
python3 -m vgbench.describe ~/photos --method=megaloc --layout=hloc --output global-feats.h5

.h5: datasets `descriptors` [N,D] and `names` [N]. --layout=hloc: a group for each image with the dataset
`global_descriptor` [D], as hloc's extract_features writes it. .npy: [N,D], with a line per name in the .txt beside it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vgbench.cli.commands import described
from vgbench.cli.exits import run_script
from vgbench.errors import UserError
from vgbench.files import check_writable, write_text, written_whole
from vgbench.runtime_options import BACKENDS

if TYPE_CHECKING:
    import h5py
    import numpy as np
    from numpy.typing import NDArray

    from vgbench.api.network import Described

DTYPES = ("float32", "float16")
LAYOUTS = ("matrix", "hloc")


def main(arguments: Sequence[str] | None = None) -> None:
    """Describe a folder with the options of a command line; raises UserError."""
    options = _parser().parse_args(arguments)
    if (options.resume is None) == (options.method is None):
        raise UserError(
            "describe: expected one of --resume (a checkpoint, or a run's folder) and --method (a released one)"
        )
    output: Path = options.output
    if output.suffix not in (".h5", ".npy") or (options.layout == "hloc" and output.suffix != ".h5"):
        raise UserError(f"--output {output}: expected a name that ends in .h5 (hloc's layout too) or .npy")
    check_writable(output)
    # With torch, which is slow to import: help and mistakes do not wait for it.
    from vgbench.api.network import load_network
    from vgbench.cli.console import log_to_console
    from vgbench.data.loader import decoding_processes

    log_to_console()
    workers = decoding_processes() if options.num_workers is None else options.num_workers
    network = load_network(
        options.resume or options.method, size=tuple(options.resize) if options.resize else None,
        batch_size=options.infer_batch_size, num_workers=workers, device=options.device,
    ).computed_by(options.inference_backend)  # fmt: skip
    folder = options.folder.expanduser()
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. Expected a folder of images, in any layout")
    found = network.describe(folder, upright=not options.as_stored, progress=True)
    write_descriptors(output, folder, found, layout=options.layout, dtype=options.dtype)
    print(f"{len(found)} descriptors of {network.descriptors_dim} dimensions: {output}")


def write_descriptors(output: Path, folder: Path, described: Described, *, layout: str, dtype: str) -> None:
    """Write descriptors whole or not at all, named by their paths below `folder`.

    Args:
        layout: "matrix" or "hloc"; of .npy files there is no other than the matrix.
        dtype: "float32" or "float16".

    Raises:
        UserError: the file cannot be written.
    """
    import numpy as np

    from vgbench.hdf5 import written_hdf5

    names = [path.relative_to(folder).as_posix() for path in described.paths]
    values: NDArray[np.floating] = described.descriptors.astype(dtype)
    if output.suffix == ".npy":
        with written_whole(output) as partial, partial.open("wb") as stream:
            np.save(stream, values)
        write_text(output.with_suffix(".txt"), "".join(f"{name}\n" for name in names))
        return
    with written_hdf5(output) as file:
        _fill(file, names, values, hloc=layout == "hloc")


def _fill(file: h5py.File, names: Sequence[str], values: NDArray[np.floating], *, hloc: bool) -> None:
    if hloc:
        for name, value in zip(names, values, strict=True):
            # A path's folders become groups, and its file the group that holds the descriptor.
            file.create_group(name).create_dataset("global_descriptor", data=value)
        return
    file["descriptors"] = values
    file.create_dataset("names", data=[name.encode("utf-8", "surrogateescape") for name in names])


def _parser() -> argparse.ArgumentParser:
    parser = described("describe", __doc__ or "")
    parser.add_argument("folder", type=Path, help="images in any layout")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="a name that ends in .h5 or .npy")
    parser.add_argument("--resume", type=Path, metavar="PATH", help="a checkpoint of this project, or a run's folder")
    parser.add_argument("--method", metavar="NAME", help="a released network, such as megaloc")
    parser.add_argument(
        "--layout", choices=LAYOUTS, default="matrix", help="how an .h5 file is laid out, see below (default: matrix)"
    )
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="type of the numbers in the file (default: float32)"
    )
    parser.add_argument(
        "--resize",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="height and width of the images, pixels (default: the network's)",
    )
    parser.add_argument(
        "--as_stored", action="store_true",
        help="do not turn photographs as their EXIF says; so are the images of datasets tested",
    )  # fmt: skip
    parser.add_argument("--infer_batch_size", type=int, default=16, metavar="N", help="images in a batch (default: 16)")
    parser.add_argument(
        "--num_workers", type=int, metavar="N",
        help="processes that decode; 0: the main one's threads (default: 8 with a GPU; else a quarter of 8 cores or "
        "more, or 0)",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cuda or cpu (default: auto)")
    parser.add_argument(
        "--inference_backend", default="eager", choices=tuple(BACKENDS), help="what computes them (default: eager)",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]), "the same command begins anew")
