"""What a user can set about training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vgbench.errors import UserError
from vgbench.options import Mark, Options, arguments, at_least, option
from vgbench.training.optimisation.options import OptimOptions, ScheduleOptions

_COUNT = at_least(1)
JOINT_MODES = ("triplets", "places", "classes", "distill")
"""Ways to train whose losses can be summed."""


@dataclass(frozen=True)
class MiningOptions(Options, needs="train_mode=triplets|geowarp or train_modes=triplets", topic="training"):
    """What a round mines."""

    train_batch_size: int = option(
        4, "queries in a training step, each with its positive and negatives", range=_COUNT, common=True
    )
    cache_refresh_rate: int = option(
        1000, "queries mined at a time, after which their negatives are chosen again", range=_COUNT
    )
    queries_per_epoch: int = option(
        5000, "queries in an epoch; need not be a multiple of --cache_refresh_rate", range=_COUNT, common=True
    )


@dataclass(frozen=True)
class TripletOptions(Options, needs="train_mode=triplets or train_modes=triplets", topic="training"):
    """How negatives are chosen, and what their loss is."""

    criterion: str = option("triplet", "loss of triplets", registry="vgbench.training.tables:LOSSES", common=True)
    criterion_args: tuple[str, ...] | None = arguments("criterion")
    margin: float = option(
        0.1, "margin of the triplet loss, in descriptor distance", range=at_least(0), needs="criterion=triplet"
    )
    negs_num_per_query: int = option(10, "negatives of each query in the loss", range=_COUNT)
    neg_samples_num: int = option(
        1000,
        "database images among which a query's hardest negatives are looked for",
        range=_COUNT,
        needs="mining=partial|full|msls_weighted",
    )
    mining: str = option("partial", "how negatives are chosen", registry="vgbench.training.tables:MINERS", common=True)
    mining_args: tuple[str, ...] | None = arguments("mining")


@dataclass(frozen=True)
class TrainOptions(TripletOptions, MiningOptions, ScheduleOptions, OptimOptions, topic="training"):
    """Options of training (names and defaults of the Deep Visual Geo-localization Benchmark).

    Raises:
        UserError: a value is out of its range.
    """

    train_mode: str = option("triplets", "way to train", registry="vgbench.training.tables:TRAINING_MODES", common=True)
    train_modes: tuple[str, ...] | None = option(
        None, "way to train on each of several datasets, one for each name of --train_dataset_name",
        choices=JOINT_MODES, unset="--train_mode", needs="train_dataset_name", metavar="MODE",
    )  # fmt: skip
    train_mode_args: tuple[str, ...] | None = arguments("train_mode")
    start_from: Path | None = option(
        None,
        "a checkpoint whose network and weights a new run begins with",
        common=True,
    )
    epochs_num: int = option(1000, "epochs at most; 0: the network stays as it begins", range=at_least(0), common=True)
    patience: int = option(
        3, "stop after this many epochs without a better R@5 on val (R@1 at the same R@5)", range=_COUNT, common=True
    )
    freeze_bn: bool = option(False, "keep the running statistics of BatchNorm layers as they are")
    cache_frozen: bool = option(
        False, "run the layers before the first trained one once, keep their features on disk, and train and mine from "
        "those; these layers are then in eval mode (BatchNorm by its running statistics). Without augmentation",
        needs="train_mode=triplets|places",
    )  # fmt: skip
    frozen_folder: Path | None = option(
        None, "keep those features in this folder, for other runs too", needs="cache_frozen",
        unset="the run's, until it is trained", marks=Mark.NO_RESULT,
    )  # fmt: skip
    wandb: str | None = option(
        None, "send the run's numbers to this project of Weights & Biases too; WANDB_MODE=offline keeps them here",
        metavar="PROJECT", marks=Mark.THIS_RUN | Mark.NO_RESULT,
    )  # fmt: skip
    dry_run: bool = option(
        False, "one step of everything on a few images, to find wrong settings early",
        marks=Mark.THIS_RUN, common=True,
    )  # fmt: skip

    def check_together(self) -> None:
        """Raise UserError for a schedule that has no effect within the training."""
        length = self.schedule_epochs or self.epochs_num
        if length and self.schedule in ("cosine", "linear", "onecycle") and self.warmup_epochs >= length:
            raise UserError(
                f"--warmup_epochs {self.warmup_epochs:g}: leaves nothing of the {length} epochs of --schedule "
                f"{self.schedule}. Expected fewer than --schedule_epochs or --epochs_num"
            )
        if self.schedule == "plateau" and self.patience_of_plateau >= self.patience:
            raise UserError(
                f"--plateau_patience {self.patience_of_plateau}: training stops at --patience {self.patience} before "
                "rates drop. Expected less than --patience; raise that"
            )

    @property
    def rounds_per_epoch(self) -> int:
        """How often an epoch mines."""
        return -(-self.queries_per_epoch // self.cache_refresh_rate)

    def queries_in_round(self, index: int) -> int:
        """How many queries round `index` of an epoch mines; the last round takes what is left."""
        size = min(self.cache_refresh_rate, self.queries_per_epoch - index * self.cache_refresh_rate)
        return min(size, self.train_batch_size * self.accumulate_steps) if self.dry_run else size
