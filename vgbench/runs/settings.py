"""Everything that a command runs with: the packages' option dataclasses, composed."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vgbench.data.augment.options import AugmentOptions
from vgbench.data.options import DataOptions
from vgbench.data.photos_options import PhotosOptions
from vgbench.data.protocol_options import ProtocolOptions
from vgbench.data.sequence_options import WindowOptions
from vgbench.flags import plain
from vgbench.models.options import NetworkOptions
from vgbench.options import Mark, Options, option
from vgbench.report.options import ReportOptions
from vgbench.retrieval.options import EvalOptions
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.runtime_options import QuantisationOptions, RuntimeOptions
from vgbench.training.modes.classes_options import ClassesOptions
from vgbench.training.modes.distill_options import DistillOptions
from vgbench.training.modes.domain_options import DomainOptions
from vgbench.training.modes.geowarp_options import GeowarpOptions
from vgbench.training.modes.hashing_options import HashingOptions
from vgbench.training.modes.pairs_options import PairTrainingOptions
from vgbench.training.modes.places_options import PlacesOptions
from vgbench.training.options import TrainOptions

if TYPE_CHECKING:
    from vgbench.data.sequences import SequenceRules

_WHICH_RUN = Mark.THIS_RUN | Mark.NOT_WRITTEN | Mark.BY_MATRIX | Mark.NO_RESULT


@dataclass(frozen=True)
class RunOptions(Options):
    """Where a run is written, what it starts from, and its randomness."""

    save_dir: str = option(
        "default",
        "the run is written to logs/<save_dir>/<date and time>",
        metavar="NAME",
        common=True,
        marks=Mark.THIS_RUN | Mark.BY_MATRIX | Mark.NO_RESULT,
    )
    run_dir: Path | None = option(None, "write the run to exactly this folder instead", marks=_WHICH_RUN)
    resume: Path | None = option(
        None, "a checkpoint or run folder: train.py goes on from it, eval.py tests it; its options become the defaults",
        marks=_WHICH_RUN, common=True,
    )  # fmt: skip
    seed: int = option(0, "the seed of every random choice", common=True)
    own_code: tuple[str, ...] | None = option(
        None,
        "your own classes, package.module:Name, that the checkpoint may use, where no other option names them",
        metavar="NAME",
        marks=Mark.THIS_RUN,
    )


@dataclass(frozen=True)
class Settings:
    """What both commands run with, one group per package."""

    run: RunOptions
    data: DataOptions
    network: NetworkOptions
    evaluation: EvalOptions
    rerank: RerankOptions
    report: ReportOptions
    runtime: RuntimeOptions
    windows: WindowOptions

    @property
    def sequence_rules(self) -> SequenceRules | None:
        """How images are cut into sequences; None for a network that describes images."""
        if self.network.seq_aggregation is None:
            return None
        return self.windows.rules(self.rerank.seq_length, self.rerank.seq_order)


@dataclass(frozen=True)
class EvalSettings(Settings):
    """What `eval.py` runs with."""

    photos: PhotosOptions
    protocol: ProtocolOptions
    quantisation: QuantisationOptions


@dataclass(frozen=True)
class TrainSettings(Settings):
    """What `train.py` runs with: the groups of a test and what only training needs."""

    training: TrainOptions
    places: PlacesOptions
    classes: ClassesOptions
    geowarp: GeowarpOptions
    distill: DistillOptions
    augmentation: AugmentOptions
    domain: DomainOptions
    hashing: HashingOptions
    pairs: PairTrainingOptions


def flat(settings: Settings) -> dict[str, Any]:
    """Return every resolved option by its flat name, as plain values that YAML and checkpoints can hold."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        values |= dataclasses.asdict(getattr(settings, field.name))
    return {key: plain(value) for key, value in values.items()}


def not_at_default(settings: Settings) -> list[str]:
    """Return the flat names of the options that are not at their defaults."""
    names = []
    for group in dataclasses.fields(settings):
        held = getattr(settings, group.name)
        for field in dataclasses.fields(held):
            made = field.default_factory
            default = field.default if made is dataclasses.MISSING else made()
            if getattr(held, field.name) != default:
                names.append(field.name)
    return names


def groups_of(settings_type: type[Settings]) -> dict[str, Any]:
    """Return the option dataclasses that settings are composed of, by their names in them."""
    return typing.get_type_hints(settings_type)
