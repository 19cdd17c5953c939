"""What a user can set about training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vgbench.errors import UserError
from vgbench.options import check_at_least, check_from_zero, option
from vgbench.training.optimisation.options import OptimOptions, ScheduleOptions


@dataclass(frozen=True)
class TrainOptions(ScheduleOptions, OptimOptions):
    """Options of training with triplets (names and defaults of the Deep Visual Geo-localization Benchmark).

    Raises:
        UserError: a value is out of its range.
    """

    train_mode: str = option(
        "triplets",
        "way to train: triplets, places, classes, geowarp, or your own as package.module:function of a Recipe",
    )
    start_from: Path | None = option(
        None, "a checkpoint of this project, whose network and weights a new run starts from; the run is not resumed"
    )
    train_batch_size: int = option(
        4, "queries in a training step, each with its positive and negatives", needs="train_mode=triplets|geowarp"
    )
    criterion: str = option(
        "triplet",
        "loss: triplet, sare_ind, sare_joint, or your own as package.module:Class",
        needs="train_mode=triplets",
    )
    margin: float = option(
        0.1, "margin of the triplet loss, in descriptor distance", needs="train_mode=triplets,criterion=triplet"
    )
    epochs_num: int = option(1000, "epochs to train at most")
    patience: int = option(3, "epochs without a better val R@5 (or R@1 at the same R@5) after which training stops")
    cache_refresh_rate: int = option(
        1000, "queries mined at a time, after which their negatives are refreshed", needs="train_mode=triplets|geowarp"
    )
    queries_per_epoch: int = option(
        5000, "queries in an epoch, a multiple of cache_refresh_rate or not", needs="train_mode=triplets|geowarp"
    )
    negs_num_per_query: int = option(10, "negatives of a query in the loss", needs="train_mode=triplets")
    neg_samples_num: int = option(
        1000,
        "database images among which a query's hardest negatives are looked for",
        needs="train_mode=triplets,mining=partial|full|msls_weighted",
    )
    mining: str = option(
        "partial",
        "miner: partial, full, random, msls_weighted, or your own as package.module:Class",
        needs="train_mode=triplets",
    )
    freeze_bn: bool = option(False, "keep the running statistics of BatchNorm layers as they are")
    dry_run: bool = option(
        False, "one step of everything on a few images (mine, train, validate, test), to find wrong settings early"
    )

    def __post_init__(self) -> None:
        OptimOptions.__post_init__(self)
        ScheduleOptions.__post_init__(self)
        check_at_least(
            self, 1, "train_batch_size", "epochs_num", "patience", "cache_refresh_rate", "queries_per_epoch",
            "negs_num_per_query", "neg_samples_num",
        )  # fmt: skip
        check_from_zero(self, "margin")
        self._check_schedule()

    def _check_schedule(self) -> None:
        length = self.schedule_epochs or self.epochs_num
        if self.schedule in ("cosine", "onecycle") and self.warmup_epochs >= length:
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
