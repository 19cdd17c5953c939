"""Extraction: order, reuse, resuming, errors."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from locations import REPOSITORY
from torch import nn

from vgbench.data import ImageTable, Split, decode_image, read_split
from vgbench.errors import UserError
from vgbench.models.network import Network
from vgbench.retrieval import EvalOptions
from vgbench.retrieval.extraction.crops import views_of
from vgbench.retrieval.extraction.extract import (
    Count,
    StoredForm,
    describe,
    describe_rows,
    extract,
    extraction_fingerprint,
    weights_hash,
)
from vgbench.runtime import Inference, Runtime

Make = Callable[..., Any]
HOW = Inference((16, 20), 3)


def expected(network: nn.Module, table: ImageTable, rows: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([network.eval()(decode_image(table.path(row), (16, 20))[None]) for row in rows])


def run(network: nn.Module, table: ImageTable, path: Path, **changes: Any) -> tuple[torch.Tensor, int, int]:
    """Extract; return the descriptors, how many images were described, and how many were there already."""
    described, skipped = [0], [0]
    fields = {field.name for field in dataclasses.fields(Inference)}
    how = dataclasses.replace(HOW, **{name: value for name, value in changes.items() if name in fields})
    form = StoredForm(**{name: value for name, value in changes.items() if name not in fields})
    stored = extract(network, table, path, how, form=form, count=Count(described.append, skipped.append))
    with stored:
        return stored.read(), sum(described), sum(skipped)


def test_describe_keeps_the_order_asked_for(split: Split, make_network: Make) -> None:
    network = make_network().train()
    rows = [7, 2, 2, 10, 0]
    batches = list(describe(network, split.database, np.array(rows), HOW))
    assert torch.cat([batch_rows for batch_rows, _ in batches]).tolist() == rows
    assert network.training, "the caller's network was changed"
    found = torch.cat([descriptors for _, descriptors in batches])
    assert found.dtype == torch.float32
    assert not found.requires_grad
    torch.testing.assert_close(found, expected(network, split.database, rows))
    torch.testing.assert_close(describe_rows(network, split.database, np.array(rows), HOW), found)


def test_nothing_asked_nothing_described(split: Split, make_network: Make) -> None:
    assert list(describe(make_network(), split.database, np.array([], dtype=np.int64), HOW)) == []
    assert describe_rows(make_network(), split.database, np.array([], dtype=np.int64), HOW).shape == (0, 6)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_extract_writes_every_row_and_reuses_it(tmp_path: Path, split: Split, make_network: Make, dtype: str) -> None:
    network, path = make_network(), tmp_path / "out" / "d.h5"
    found, described, skipped = run(network, split.database, path, dtype=dtype)
    assert (described, skipped) == (11, 0)
    torch.testing.assert_close(found, expected(network, split.database, list(range(11))).to(getattr(torch, dtype)))
    again, described, skipped = run(network, split.database, path, dtype=dtype)
    assert (described, skipped) == (0, 11)
    assert torch.equal(found, again)


def change_weight(network: Any, city: Path) -> dict[str, Any]:
    with torch.no_grad():
        network.aggregation.linear.weight[0, 0] = torch.nextafter(
            network.aggregation.linear.weight[0, 0], torch.tensor(9.0)
        )
    return {}


def change_buffer(network: Any, city: Path) -> dict[str, Any]:
    network.mean += 0.01
    return {}


def change_config(network: Any, city: Path) -> dict[str, Any]:
    network.config["l2"] = "none"
    return {}


def touch_image(network: Any, city: Path) -> dict[str, Any]:
    image = sorted(city.rglob("database/*.png"))[4]
    os.utime(image, ns=(1, image.stat().st_mtime_ns + 1))
    return {}


def drop_image(network: Any, city: Path) -> dict[str, Any]:
    sorted(city.rglob("database/*.png"))[4].unlink()
    return {}


CHANGES: dict[str, Callable[[Any, Path], dict[str, Any]]] = {
    "weight": change_weight,
    "normalisation": change_buffer,
    "config": change_config,
    "image": touch_image,
    "fewer images": drop_image,
    "size": lambda network, city: {"size": (16, 16)},
    "stored dtype": lambda network, city: {"dtype": "float16"},
    "precision": lambda network, city: {"runtime": Runtime(amp_dtype=torch.bfloat16)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_that_matters_describes_anew(tmp_path: Path, city: Path, make_network: Make, change: str) -> None:
    network, path = make_network(), tmp_path / "d.h5"
    run(network, read_split(city, "test").database, path)
    changes = CHANGES[change](network, city)
    table = read_split(city, "test").database
    _, described, skipped = run(network, table, path, **changes)
    assert (described, skipped) == (len(table), 0)


@pytest.mark.parametrize("harmless", [{"batch_size": 4}, {"num_workers": 1}, {"runtime": Runtime(channels_last=True)}])
def test_a_change_of_speed_alone_reuses(
    tmp_path: Path, split: Split, make_network: Make, harmless: dict[str, Any]
) -> None:
    run(make_network(), split.database, tmp_path / "d.h5")
    assert run(make_network(), split.database, tmp_path / "d.h5", **harmless)[1:] == (0, 11)


@pytest.mark.parametrize("damage", ["cut short", "noise"])
def test_a_damaged_file_is_described_anew(tmp_path: Path, split: Split, make_network: Make, damage: str) -> None:
    path = tmp_path / "d.h5"
    whole, *_ = run(make_network(), split.database, path)
    path.write_bytes(path.read_bytes()[:-8] if damage == "cut short" else b"noise")
    again, described, _ = run(make_network(), split.database, path)
    assert described == 11
    assert torch.equal(whole, again)


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from importlib.util import module_from_spec, spec_from_file_location
    spec = spec_from_file_location("fakes", "tests/retrieval/conftest.py")
    fakes = module_from_spec(spec)
    spec.loader.exec_module(fakes)
    import torch
    from vgbench.data import read_split
    from vgbench.retrieval.extraction import writer
    from vgbench.retrieval.extraction.extract import extract
    from vgbench.runtime import Inference
    torch.set_num_threads(1)
    writer.SYNC_SECONDS = 0
    write = writer.DescriptorWriter.write
    def write_then_die(self, descriptors):
        write(self, descriptors)
        if self.rows_done >= 6:
            # The next batch is half written, as a kill at the worst moment leaves it, and not yet noted.
            self._rows.write(b"7" * 20)
            os.kill(os.getpid(), signal.SIGKILL)
    writer.DescriptorWriter.write = write_then_die
    table = read_split(Path(sys.argv[1]), "test").database
    extract(fakes.tiny_network(), table, Path(sys.argv[2]), Inference((16, 20), 3))
"""


def test_kill_minus_9_and_again_gives_the_same_bytes(tmp_path: Path, city: Path, make_network: Make) -> None:
    path, whole = tmp_path / "d.h5", tmp_path / "whole.h5"
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(city), str(path)],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not path.exists()
    table = read_split(city, "test").database
    assert run(make_network(), table, path)[1:] == (5, 6)
    run(make_network(), table, whole)
    assert path.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("d.h5.*"))


def test_an_unreadable_image_is_named_and_what_is_done_is_kept(
    tmp_path: Path, city: Path, make_network: Make
) -> None:  # fmt: skip
    image = sorted(city.rglob("database/*.png"))[8]
    good = image.read_bytes()
    status = image.stat()
    image.write_bytes(good[:-60])
    os.truncate(image, len(good))  # the same size and time as the good one: the same fingerprint
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    path = tmp_path / "d.h5"
    with pytest.raises(UserError, match="cannot be read as an image"):
        run(make_network(), read_split(city, "test").database, path)
    assert not path.exists()
    image.write_bytes(good)
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert run(make_network(), read_split(city, "test").database, path)[2] > 0


def test_errors_are_one_line(tmp_path: Path, split: Split, make_network: Make) -> None:
    empty = split.database.select(np.array([], dtype=np.int64))
    with pytest.raises(UserError, match="no images to describe"):
        run(make_network(), empty, tmp_path / "d.h5")
    with pytest.raises(UserError, match="--descriptors_dtype int8"):
        run(make_network(), split.database, tmp_path / "d.h5", dtype="int8")
    network = make_network()
    network.descriptors_dim = 7
    with pytest.raises(UserError, match="gives 6 dimensions but declares 7"):
        run(network, split.database, tmp_path / "d.h5")
    network = make_network()
    nn.init.constant_(network.aggregation.linear.bias, torch.nan)
    with pytest.raises(UserError, match="row 0 is not finite"):
        run(network, split.database, tmp_path / "d.h5")
    assert not (tmp_path / "d.h5").exists()


def test_hash_ignores_device_layout_and_sees_every_tensor(make_network: Make) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    network.config = {}  # type: ignore[assignment]
    before = weights_hash(network)  # type: ignore[arg-type]
    assert weights_hash(network.to(memory_format=torch.channels_last)) == before  # type: ignore[arg-type,call-overload]
    network[1].num_batches_tracked += 1  # type: ignore[operator]
    network[1].running_var[2] *= 2  # type: ignore[index,operator]
    assert weights_hash(network) != before  # type: ignore[arg-type]


def test_fingerprint_is_the_same_in_another_process(city: Path, split: Split, make_network: Make) -> None:
    here = extraction_fingerprint(make_network(), split.database, HOW)
    again = read_split(city, "test").database
    assert extraction_fingerprint(make_network(), again, HOW) == here


class Neighbourly(nn.Module):
    """A backbone that takes the mean image of its batch off each image, as CricaVPR's looks at the whole batch."""

    out_channels = 3
    mixes_batch = True

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.adaptive_avg_pool2d(images - images.mean(0, keepdim=True), 2)


@pytest.mark.parametrize("views", [None, "five_crops"])
def test_networks_that_mix_a_batch_have_one_batch_size(
    tmp_path: Path, split: Split, make_network: Make, views: str | None
) -> None:
    single = make_network()
    network = Network(Neighbourly(), single.aggregation, {"dim": 6})
    assert network.mixes_batch and not single.mixes_batch
    form = StoredForm(views=views_of(EvalOptions(test_method=views), network, (16, 20))[1] if views else None)
    found, prints = [], set()
    for size in (1, 3, 16, 64):
        how = Inference((16, 20), size)
        prints.add(extraction_fingerprint(network, split.database, how, form))
        with extract(network, split.database, tmp_path / f"{size}.h5", how, form=form) as stored:
            found.append(stored.read())
    assert len(prints) == 1 and all(torch.equal(one, found[0]) for one in found)
    if views is None:  # all eleven images are one batch, on a CPU too
        images = torch.stack([decode_image(split.database.path(row), (16, 20)) for row in range(11)])
        with torch.no_grad():
            torch.testing.assert_close(found[0], network.eval()(images))
    # The stored fingerprint knows of it: the same weights that say nothing of mixing are other descriptors.
    network.mixes_batch = False
    assert extraction_fingerprint(network, split.database, Inference((16, 20), 3), form) not in prints


def test_the_fingerprint_knows_what_computes(split: Split, make_network: Make) -> None:
    network = make_network()

    def known_as(**runtime: Any) -> str:
        how = dataclasses.replace(HOW, runtime=Runtime(**runtime))
        return extraction_fingerprint(network, split.database, how)

    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    found = [known_as(), known_as(backend="compile"), known_as(backend="openvino")]
    found += [known_as(backend="openvino", calibration=images), known_as(backend="openvino", calibration=images + 1)]
    assert len(set(found)) == 5 and found[0] == known_as(backend="eager")
