from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vgbench.data.augment import AugmentOptions, BatchAugment
from vgbench.data.augment.fourier import TargetStyles, band_of, draw_styles, exchange_amplitude, low_frequencies
from vgbench.data.decode import decode_image
from vgbench.errors import UserError

SIZE = (30, 41)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def of_paper(source: np.ndarray, target: np.ndarray, beta: float) -> np.ndarray:
    """FDA as the paper writes it: whole transforms, centred, a square window of the amplitude taken over."""
    height, width = source.shape[-2:]
    b = band_of(beta, height, width)
    own, other = (np.fft.fftshift(np.fft.fft2(image), axes=(-2, -1)) for image in (source, target))
    amplitude, phase = np.abs(own), np.angle(own)
    y, x = height // 2, width // 2
    window = np.s_[..., y - b : y + b + 1, x - b : x + b + 1]
    amplitude[window] = np.abs(other)[window]
    return np.fft.ifft2(np.fft.ifftshift(amplitude * np.exp(1j * phase), axes=(-2, -1))).real


@pytest.fixture
def folder(tmp_path: Path, write_image: Callable[..., Path]) -> Path:
    """Seven targets, in folders, without coordinates."""
    root = tmp_path / "targets"
    for i in range(7):
        write_image(root / ("deep/er" if i % 2 else ".") / f"photo {i}.{'png' if i % 3 else 'jpg'}", 50, 60, seed=i)
    (root / "notes.txt").write_text("not an image")
    return root


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 40), st.integers(3, 40), st.floats(0, 0.5), st.integers(0, 100))
def test_low_frequencies_are_a_corner_of_the_whole_transform(height: int, width: int, beta: float, seed: int) -> None:
    image = torch.rand(2, 3, height, width, generator=seeded(seed), dtype=torch.float64)
    b = band_of(beta, height, width)
    found = low_frequencies(image, b)
    whole = np.fft.rfft2(image.numpy())
    rows = list(range(b + 1)) + list(range(height - b, height))
    assert found.shape == (2, 3, 2 * b + 1, b + 1)
    assert np.abs(found.numpy() - whole[:, :, rows][..., : b + 1]).max() < 1e-9 * height * width


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 40), st.integers(4, 40), st.floats(0, 0.5), st.integers(0, 100))
def test_the_exchange_is_the_papers(height: int, width: int, beta: float, seed: int) -> None:
    generator = seeded(seed)
    source = 0.5 + 0.02 * torch.randn(3, 3, height, width, generator=generator, dtype=torch.float64)
    targets = 0.5 + 0.02 * torch.randn(2, 3, height, width, generator=generator, dtype=torch.float64)
    amplitudes = low_frequencies(targets, band_of(beta, height, width)).abs()
    found = exchange_amplitude(source, torch.tensor([1, -1, 0]), amplitudes)
    expected = np.stack([of_paper(source[0].numpy(), targets[1].numpy(), beta), source[1].numpy(),
                         of_paper(source[2].numpy(), targets[0].numpy(), beta)])  # fmt: skip
    assert np.abs(found.numpy() - expected.clip(0, 1)).max() < 1e-8
    # By the transform of what came out: amplitude of the target in the band, phase of the source everywhere.
    if found.min() > 0 and found.max() < 1:
        band = low_frequencies(found, amplitudes.shape[-1] - 1)
        torch.testing.assert_close(band[0].abs(), amplitudes[1], rtol=1e-9, atol=1e-7)  # a sum of all pixels
        own = torch.fft.rfft2(source[0])
        turned = torch.fft.rfft2(found[0]) * own.conj()
        clear = own.abs() > 1e-3
        assert (turned.imag.abs()[clear] <= 1e-6 * turned.abs()[clear] + 1e-9).all() and (
            turned.real[clear] > -1e-9
        ).all()


def test_an_images_own_amplitude_changes_nothing() -> None:
    images = torch.rand(4, 3, *SIZE, generator=seeded(1))
    amplitudes = low_frequencies(images, 3).abs()
    assert (exchange_amplitude(images, torch.arange(4), amplitudes) - images).abs().max() < 1e-5
    assert exchange_amplitude(images, torch.full((4,), -1), amplitudes) is images


def test_an_image_without_any_light_stays_finite() -> None:
    black = torch.zeros(1, 3, *SIZE)
    found = exchange_amplitude(black, torch.zeros(1, dtype=torch.int64), torch.ones(1, 3, 5, 3))
    assert torch.equal(found, black)


@pytest.mark.parametrize(("beta", "band"), [(0.0, 0), (0.01, 4), (0.09, 43), (0.5, 239)])
def test_the_band_is_a_part_of_the_shorter_side(beta: float, band: int) -> None:
    assert band_of(beta, 480, 640) == band == band_of(beta, 640, 480)


def test_styles_are_drawn_for_each_image() -> None:
    drawn = draw_styles(0.3, 5, 6000, seeded(2))
    assert 0.27 < (drawn >= 0).double().mean() < 0.33
    counts = torch.bincount(drawn[drawn >= 0], minlength=5).double()
    assert len(counts) == 5 and counts.min() > 0.8 * counts.mean()
    assert torch.equal(drawn, draw_styles(0.3, 5, 6000, seeded(2)))


def test_targets_are_read_once_and_kept_small(folder: Path) -> None:
    styles = TargetStyles(folder, 0.1, 1000)
    assert len(styles) == 7
    amplitudes = styles.amplitudes(SIZE, torch.device("cpu"))
    assert amplitudes.shape == (7, 3, 7, 4)
    for row in range(7):
        image = decode_image(styles.table.path(row), SIZE).double() / 255
        assert (low_frequencies(image, 3).abs() - amplitudes[row]).abs().max() < 1e-2
    shutil.rmtree(folder)
    assert styles.amplitudes(SIZE, torch.device("cpu")) is amplitudes


def test_no_more_targets_than_asked_for(folder: Path) -> None:
    styles = TargetStyles(folder, 0.1, 3)
    every = [path.name for path in sorted(folder.rglob("photo*"), key=lambda path: str(path.relative_to(folder)))]
    names = [Path(name).name for name in styles.table.relative_paths()]
    assert names == [every[0], every[3], every[6]] and len(styles.amplitudes(SIZE, torch.device("cpu"))) == 3


def test_the_batch_takes_the_amplitudes(folder: Path) -> None:
    images = torch.randint(60, 190, (12, 3, *SIZE), generator=seeded(3), dtype=torch.uint8)
    options = AugmentOptions(fda_folder=folder, fda_probability=0.5, fda_beta=0.05)
    augment = BatchAugment(options)
    found = augment(images, seeded(4))
    changed = (found != images).flatten(1).any(1)
    assert 2 < changed.sum() < 10 and augment.targets is not None
    amplitudes = augment.targets.amplitudes(SIZE, images.device)

    def nearest(image: Tensor) -> Tensor:
        own = low_frequencies(image.float() / 255, 1).abs()
        return ((amplitudes - own).abs() / own.mean()).mean((1, 2, 3)).min()

    for i in range(12):
        assert (nearest(found[i]) < 0.1) == bool(changed[i])
    assert torch.equal(found, BatchAugment(options)(images, seeded(4)))
    off = AugmentOptions(fda_folder=folder, fda_probability=0.0)
    assert BatchAugment(off)(images, seeded(4)) is images


def test_folders_without_targets_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--fda_folder .*nowhere: no such folder"):
        BatchAugment(AugmentOptions(fda_folder=tmp_path / "nowhere"))
    (tmp_path / "readme.md").write_text("empty")
    with pytest.raises(UserError, match=r"--fda_folder .*: no images"):
        BatchAugment(AugmentOptions(fda_folder=tmp_path))
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"broken\.jpg"):
        BatchAugment(AugmentOptions(fda_folder=tmp_path))


def test_an_unreadable_target_is_left_out(folder: Path) -> None:
    (folder / "a broken one.jpg").write_bytes(b"no image")
    assert len(TargetStyles(folder, 0.1, 1000)) == 7
