"""What a user can set about training."""

from __future__ import annotations

from dataclasses import dataclass

from vgbench.errors import UserError
from vgbench.options import option


@dataclass(frozen=True)
class TrainOptions:
    """Options of training with triplets (names and defaults of the Deep Visual Geo-localization Benchmark).

    Raises:
        UserError: a value is out of its range.
    """

    train_batch_size: int = option(4, "queries in a training step, each with its positive and negatives")
    criterion: str = option("triplet", "loss: triplet, sare_ind, sare_joint, or your own as package.module:Class")
    margin: float = option(0.1, "margin of the triplet loss, in descriptor distance")
    epochs_num: int = option(1000, "epochs to train at most")
    patience: int = option(3, "epochs without a better val R@5 (or R@1 at the same R@5) after which training stops")
    lr: float = option(1e-5, "learning rate")
    optim: str = option("adam", "optimiser", choices=("adam", "sgd"))
    weight_decay: float | None = option(None, "weight decay; unset: 0 for adam, 0.001 for sgd")
    cache_refresh_rate: int = option(1000, "queries mined at a time, after which their negatives are refreshed")
    queries_per_epoch: int = option(5000, "queries in an epoch, a multiple of cache_refresh_rate or not")
    negs_num_per_query: int = option(10, "negatives of a query in the loss")
    neg_samples_num: int = option(1000, "database images among which a query's hardest negatives are looked for")
    mining: str = option("partial", "miner: partial, full, random, msls_weighted, or your own as package.module:Class")
    freeze_bn: bool = option(False, "keep the running statistics of BatchNorm layers as they are")

    def __post_init__(self) -> None:
        for name in (
            "train_batch_size",
            "epochs_num",
            "patience",
            "cache_refresh_rate",
            "queries_per_epoch",
            "negs_num_per_query",
            "neg_samples_num",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} {getattr(self, name)}: too small. Expected a whole number of at least 1")
        for name in ("lr", "margin"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"--{name} {getattr(self, name)}: out of range. Expected a finite number of at least 0")
        if self.weight_decay is not None and not 0 <= self.weight_decay < float("inf"):
            raise UserError(f"--weight_decay {self.weight_decay}: out of range. Expected at least 0")
        if self.optim not in ("adam", "sgd"):
            raise UserError(f"--optim {self.optim}: not known. Expected adam or sgd")

    @property
    def rounds_per_epoch(self) -> int:
        """How often an epoch mines."""
        return -(-self.queries_per_epoch // self.cache_refresh_rate)

    def queries_in_round(self, index: int) -> int:
        """How many queries round `index` of an epoch mines; the last round takes what is left."""
        return min(self.cache_refresh_rate, self.queries_per_epoch - index * self.cache_refresh_rate)
