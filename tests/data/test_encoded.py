"""Batches of JPEG files that a device decodes: here the CPU in its place, and a GPU where there is one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from recipes import gradients_of, network_of, recipe_of

from vgbench.data import read_folder
from vgbench.data.decode import decode_image, resize_images, resize_in_float
from vgbench.data.encoded import EncodedImages, on_device, read_encoded, reader_of
from vgbench.data.loader import image_loader, joined
from vgbench.data.table import ImageTable
from vgbench.errors import UserError
from vgbench.models.network import weights_hash
from vgbench.retrieval.extraction.extract import describe_rows, extraction_fingerprint
from vgbench.runtime import Inference, Runtime, RuntimeOptions, resolve_runtime
from vgbench.training.modes.table import build_mode

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def smooth(seed: int, size: tuple[int, int]) -> Image.Image:
    cells = np.random.default_rng(seed).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def mixed(tmp_path: Path) -> ImageTable:
    """Files of every kind: plain ones of two sizes, grey, progressive, CMYK, PNG, turned by EXIF."""
    folder = tmp_path / "database"
    folder.mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds = {
        "a": (smooth(0, (96, 64)), "jpg", {}), "b": (smooth(1, (64, 64)), "jpg", {"progressive": True}),
        "c": (smooth(2, (96, 64)).convert("L"), "jpg", {}), "d": (smooth(3, (96, 64)).convert("CMYK"), "jpg", {}),
        "e": (smooth(4, (96, 64)), "png", {}), "f": (smooth(5, (64, 96)), "jpg", {"exif": turned}),
        "g": (smooth(6, (96, 64)), "jpg", {"subsampling": 0}),
    }  # fmt: skip
    for number, (name, (image, ending, keywords)) in enumerate(kinds.items()):
        image.save(folder / f"@{500_000 + number:010.2f}@4000000.00@{name}@.{ending}", **keywords)
    return read_folder(folder)


@pytest.mark.parametrize("upright", [False, True])
def test_each_kind_of_file_becomes_what_decoding_makes_of_it(mixed: ImageTable, upright: bool) -> None:
    table = mixed
    table.upright = upright
    rows = np.arange(len(table))
    encoded = read_encoded(table, rows, (48, 72))
    assert isinstance(encoded, EncodedImages)
    # CMYK, PNG and what has to be turned are decoded beforehand.
    assert [file.dim() for file in encoded.files] == [1, 1, 1, 3, 3, 3 if upright else 1, 1]
    found = encoded.to("cpu")
    expected = torch.stack([decode_image(table.path(row), (48, 72), upright=upright) for row in rows.tolist()])
    assert found.shape == expected.shape and found.dtype == torch.uint8
    assert (found.int() - expected.int()).abs().max() <= 2  # libjpeg's of two packages
    halves = joined(read_encoded(table, rows[:3], (48, 72)), read_encoded(table, rows[3:], (48, 72)))
    assert torch.equal(halves.to("cpu"), found)


def test_what_the_device_refuses_is_decoded_as_always(mixed: ImageTable, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.io

    decode, asked = torchvision.io.decode_jpeg, []

    def refusing(files: list[torch.Tensor], mode: object, device: torch.device) -> list[torch.Tensor]:
        asked.append(len(files))
        progressive = mixed.path(1).stat().st_size
        if any(len(file) == progressive for file in files):
            raise RuntimeError("nvJPEG: not supported")
        return list(decode(files, mode=mode, device=device))

    monkeypatch.setattr("torchvision.io.decode_jpeg", refusing)
    monkeypatch.setattr("vgbench.data.encoded.AT_ONCE", 4)
    found = read_encoded(mixed, np.arange(7), (32, 32)).to("cpu")
    assert asked == [4, 1, 1, 1, 1, 1]
    expected = torch.stack([decode_image(mixed.path(row), (32, 32)) for row in range(7)])
    assert torch.equal(found[1], expected[1]) and (found.int() - expected.int()).abs().float().mean() < 2


def test_a_file_that_cannot_be_read_is_named(mixed: ImageTable) -> None:
    whole = mixed.path(0).read_bytes()
    mixed.path(0).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"@a@\.jpg: cannot be read as an image"):
        read_encoded(mixed, np.arange(2), (32, 32))
    mixed.path(0).write_bytes(b"no image")
    with pytest.raises(UserError, match=r"@a@\.jpg: cannot be read as an image \(not an image"):
        read_encoded(mixed, np.arange(2), (32, 32))
    with pytest.raises(UserError, match="images of several sizes"):
        read_encoded(mixed, np.array([1, 2]), None).to("cpu")


def test_resizing_in_float_differs_by_one_at_most() -> None:
    images = torch.randint(0, 256, (2, 3, 97, 131), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for size in ((40, 60), (97, 200), (131, 97)):
        difference = resize_in_float(images, size).int() - resize_images(images, size).int()
        assert difference.abs().max() <= 1


def near(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(((one - other).norm(dim=1) / other.norm(dim=1)).max())


def test_descriptors_and_training_take_such_batches(tiny_dataset: Path) -> None:
    network, plain = network_of(), Inference((48, 48), 4, 0, Runtime())
    by_device = dataclasses.replace(plain, runtime=Runtime(device_jpeg=True))
    assert reader_of(plain) is None and reader_of(dataclasses.replace(by_device, read=decode)) is decode
    table = read_folder(tiny_dataset / "images" / "train" / "database")
    rows = np.arange(9)
    loader = image_loader(table, rows, size=(48, 48), batch_size=4, num_workers=0, read=reader_of(by_device))
    assert [type(images) for images, _ in loader] == [EncodedImages] * 3
    assert near(describe_rows(network, table, rows, by_device), describe_rows(network, table, rows, plain)) < 0.005
    weights = weights_hash(network)
    prints = {extraction_fingerprint(network, table, one, weights=weights) for one in (plain, by_device)}
    assert len(prints) == 2
    for kind in ("places", "triplets"):
        recipe = recipe_of(tiny_dataset, kind)
        of = dataclasses.replace(recipe.inference, runtime=by_device.runtime)
        batch = next(iter(build_mode(dataclasses.replace(recipe, inference=of)).round(network, 0, 0)))
        assert isinstance(batch.images, EncodedImages)
        assert batch.to("cpu").images.shape == (len(batch.images), 3, 32, 32)
    assert len(gradients_of(build_mode(dataclasses.replace(recipe, inference=of)), network_of())) > 10


def decode(table: ImageTable, rows: np.ndarray) -> torch.Tensor:
    raise NotImplementedError


def test_without_a_gpu_it_is_refused_in_one_line() -> None:
    with pytest.raises(
        UserError, match=r"--jpeg_decoder gpu: runs on a GPU, and this is a CPU; use --jpeg_decoder cpu"
    ):
        resolve_runtime(RuntimeOptions(device="cpu", jpeg_decoder="gpu"))


def photographs(count: int) -> list[Path]:
    found = sorted(REAL.glob("**/*.jpg"))
    if not found:
        pytest.skip("no photographs here")
    return found[:: max(1, len(found) // count)][:count]


@pytest.mark.parametrize("size", [(160, 160), (112, 112), (64, 64)])
def test_whole_photographs_made_smaller_are_those_that_were_decoded_smaller(size: tuple[int, int]) -> None:
    paths = photographs(6)
    files = tuple(torch.from_numpy(np.fromfile(path, np.uint8)) for path in paths)
    found = EncodedImages(files, tuple(paths), size, False).to("cpu")
    expected = torch.stack([decode_image(path, size) for path in paths])
    difference = (found.int() - expected.int()).abs().float()
    assert difference.mean() < 1 and (difference > 6).float().mean() < 0.01


@pytest.mark.gpu
def test_a_gpu_decodes_what_the_processor_does(mixed: ImageTable) -> None:
    rows = np.arange(len(mixed))
    for size in ((48, 72), (64, 64)):
        found = read_encoded(mixed, rows, size)
        pinned = found.pin_memory() if isinstance(found, EncodedImages) else found
        for pixels in (on_device(found, torch.device("cuda")), on_device(pinned, torch.device("cuda"))):
            expected = torch.stack([decode_image(mixed.path(row), size) for row in rows.tolist()])
            assert pixels.is_cuda and pixels.dtype == torch.uint8
            # Chroma is made larger otherwise, and the cosine transform rounded otherwise.
            assert (pixels.cpu().int() - expected.int()).abs().float().mean() < 4
    runtime = resolve_runtime(RuntimeOptions(device="cuda", jpeg_decoder="gpu"))
    assert runtime.device_jpeg
    network = runtime.prepare(network_of())
    by_device, plain = (
        Inference((64, 64), 4, 2, dataclasses.replace(runtime, device_jpeg=one)) for one in (True, False)
    )
    assert near(describe_rows(network, mixed, rows, by_device), describe_rows(network, mixed, rows, plain)) < 0.1
