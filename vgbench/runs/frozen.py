"""A training whose frozen layers run once (`--cache_frozen`): what it can be put together with, and its files."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from vgbench import parallel
from vgbench.data.augment.options import AugmentOptions
from vgbench.errors import UserError
from vgbench.models import Network
from vgbench.models.frozen import frozen_part
from vgbench.options import shown
from vgbench.runs.settings import TrainSettings
from vgbench.runtime import Runtime
from vgbench.training.frozen_cache import CachedMode, FrozenCache, Looks
from vgbench.training.modes.base import TrainingMode
from vgbench.training.modes.domain import with_domain
from vgbench.training.modes.hashing import with_hashing
from vgbench.training.modes.pairs import refuse_pairs, with_pairs
from vgbench.training.modes.pairs_options import ALONE
from vgbench.training.modes.table import Recipe, build_mode
from vgbench.training.options import TrainOptions

FOLDER = "frozen"


def mode_of(settings: TrainSettings, network: Network, recipe: Recipe, runtime: Runtime) -> TrainingMode[Any]:
    """Return the way to train, with features kept on disk where that was asked for.

    Args:
        network: on the runtime's device.

    Raises:
        UserError: as `build_mode`; features of images would not be enough for what else is asked; no layer is frozen;
            a domain classifier beside descriptors that stay as they are.
    """
    if not settings.training.cache_frozen:
        if settings.pairs.train_pairs == ALONE and settings.domain.grl_folder is not None:
            raise UserError(
                f"--train_pairs {ALONE}: keeps the descriptors that --grl_folder {settings.domain.grl_folder} is to "
                "change. Expected one of the two; leave the other out"
            )
        mode = with_pairs(build_mode(recipe), settings.pairs, recipe)
        return with_domain(with_hashing(mode, settings.hashing, recipe), settings.domain, recipe)
    check_options(settings, runtime)
    refuse_pairs(settings.pairs, network, "--cache_frozen")
    cache = FrozenCache(frozen_part(network, settings.data.resize, runtime), settings.training.frozen_folder or Path())
    cached = dataclasses.replace(recipe.inference, read=cache.read)
    mode = build_mode(dataclasses.replace(recipe, inference=cached))
    if not isinstance(mode, Looks):
        raise UserError(
            "--cache_frozen: is for triplets or places of one dataset. Expected one --train_dataset_name and no "
            "--train_modes; leave one of them out"
        )
    return CachedMode(mode, cache, recipe.inference)


def check_options(settings: TrainSettings, runtime: Runtime) -> None:
    """Raise UserError where an option needs the pixels of images, step by step."""
    plain = AugmentOptions()
    changed = [
        (field.name, getattr(settings.augmentation, field.name))
        for field in dataclasses.fields(plain)
        if getattr(settings.augmentation, field.name) != getattr(plain, field.name)
    ]
    if settings.domain.grl_folder is not None:
        changed.append(("grl_folder", settings.domain.grl_folder))
    if changed:
        name, value = changed[0]
        raise UserError(
            f"--cache_frozen: --{name} {shown(value)} wants pixels at every step, and features are kept of images as "
            "they are. Expected one of the two; leave the other out"
        )
    if settings.network.hash_bits is not None:
        raise UserError(
            f"--cache_frozen: not with --hash_bits {settings.network.hash_bits}. Expected one of the two; train the "
            "network first, and its codes by --start_from"
        )
    if runtime.backend != "eager":
        option = "--compile on" if runtime.compile else f"--inference_backend {runtime.backend}"
        raise UserError(f"--cache_frozen: not with {option}. Expected PyTorch as it is; leave one of the two out")


def place(mode: TrainingMode[Any], settings: TrainSettings, folder: Path) -> None:
    """Say where features are kept, and raise UserError where its disk has no space for them.

    Args:
        folder: of the run.
    """
    if isinstance(mode, CachedMode):
        mode.cache.folder = settings.training.frozen_folder or folder / FOLDER
        kept = mode.cache.folder.glob("frozen-*") if mode.cache.folder.is_dir() else ()
        mode.cache.check_space(mode.tables, [path for path in kept if path.suffix == ".h5"])


def clear(training: TrainOptions, folder: Path) -> None:
    """Delete the features of a run that is trained, unless they were to be kept."""
    if training.cache_frozen and training.frozen_folder is None:
        parallel.on_main(lambda: shutil.rmtree(folder / FOLDER, ignore_errors=True))
