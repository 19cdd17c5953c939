"""What a user can set about optimisers and schedules."""

from __future__ import annotations

from dataclasses import dataclass

from vgbench.errors import UserError
from vgbench.options import check_above_zero, check_at_least, check_from_zero, option

OPTIMIZERS = ("adam", "adamw", "sgd", "asgd", "rmsprop", "adagrad")
SCHEDULES = ("none", "step", "multistep", "cosine", "plateau", "onecycle", "exponential")
# Which schedules have a use for an option.
_USES = {
    "schedule_epochs": ("cosine", "onecycle"),
    "schedule_step": ("step",),
    "schedule_gamma": ("step", "multistep", "exponential", "plateau"),
    "milestones": ("multistep",),
    "min_lr_fraction": ("step", "multistep", "cosine", "plateau", "onecycle", "exponential"),
    "plateau_patience": ("plateau",),
    "onecycle_rise": ("onecycle",),
}
_GAMMAS = {"exponential": 0.95, "plateau": 0.5}


@dataclass(frozen=True)
class OptimOptions:
    """What an optimiser does with gradients.

    Raises:
        UserError: a value is out of its range, or of no use to the chosen optimiser.
    """

    optim: str = option("adam", "optimiser", choices=OPTIMIZERS)
    lr: float = option(1e-5, "learning rate")
    lr_backbone: float | None = option(None, "learning rate of the backbone; unset: --lr")
    lr_head: float | None = option(None, "learning rate of the aggregation and what follows it; unset: --lr")
    lr_classifier: float | None = option(
        None,
        "learning rate of a training mode's own parameters, its classifiers for one; unset: 0.01",
        needs="train_mode=places|classes",
    )
    lr_crn_layer: float = option(
        5e-3, "learning rate of CRN's own layer; only with --aggregation crn", needs="aggregation=crn"
    )
    lr_crn_net: float = option(
        5e-4,
        "learning rate of the rest of a network with CRN, in the place of --lr; only with --aggregation crn",
        needs="aggregation=crn",
    )
    lr_geowarp: float = option(1e-4, "learning rate of what --train_mode geowarp trains", needs="train_mode=geowarp")
    momentum: float | None = option(None, "momentum of sgd and rmsprop; unset: 0.9 for sgd, 0 for rmsprop")
    nesterov: bool = option(False, "Nesterov's momentum, for sgd")
    weight_decay: float | None = option(None, "weight decay; unset: 0.01 for adamw, 0.001 for sgd, 0 for the others")
    clip_grad_norm: float | None = option(
        None, "scale gradients down to this L2 norm where theirs is larger, an optimiser at a time; unset: never"
    )
    accumulate_steps: int = option(1, "batches whose losses are averaged into one optimiser step")
    ema_decay: float | None = option(
        None,
        "validate, keep as best and test an exponential moving average of the weights with this decay a step "
        "(0.999, say); unset: the weights themselves",
    )

    def __post_init__(self) -> None:
        check_from_zero(
            self, "lr", "lr_backbone", "lr_head", "lr_classifier", "lr_crn_layer", "lr_crn_net", "lr_geowarp",
            "weight_decay",
        )  # fmt: skip
        if self.optim not in OPTIMIZERS:
            raise UserError(f"--optim {self.optim}: not known. Expected one of {', '.join(OPTIMIZERS)}")
        if self.momentum is not None and self.optim not in ("sgd", "rmsprop"):
            raise UserError(f"--momentum {self.momentum}: {self.optim} has none. Expected --optim sgd or rmsprop")
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise UserError(f"--momentum {self.momentum}: out of range. Expected at least 0 and less than 1")
        if self.nesterov and self.optim != "sgd":
            raise UserError(f"--nesterov: {self.optim} has none. Expected --optim sgd")
        if self.nesterov and self.momentum == 0:
            raise UserError("--nesterov: there is no momentum. Expected --momentum above 0 beside it")
        check_above_zero(self, "clip_grad_norm")
        check_at_least(self, 1, "accumulate_steps")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise UserError(f"--ema_decay {self.ema_decay}: out of range. Expected a number between 0 and 1")


@dataclass(frozen=True)
class ScheduleOptions:
    """How learning rates change over a run; epochs of a schedule count from the end of the warm-up.

    Raises:
        UserError: a value is out of its range, or of no use to the chosen schedule.
    """

    schedule: str = option("none", "how learning rates change over the run", choices=SCHEDULES)
    warmup_epochs: float = option(0.0, "epochs, or a part of one, over which rates rise linearly before the schedule")
    schedule_epochs: int | None = option(
        None, "epochs after which cosine and onecycle, warm-up included, have come to their end; unset: --epochs_num"
    )
    schedule_step: int | None = option(None, "epochs between the drops of step; unset: 5")
    schedule_gamma: float | None = option(
        None,
        "what rates are multiplied with at a drop of step, multistep and plateau, and each epoch by exponential; "
        "unset: 0.1, 0.1, 0.5 and 0.95",
    )
    milestones: tuple[int, ...] | None = option(None, "epochs of multistep's drops", metavar="N")
    min_lr_fraction: float | None = option(
        None, "rates fall to this fraction of where they started and no lower; unset: 0"
    )
    plateau_patience: int | None = option(
        None, "epochs without a better val recall after which plateau drops the rates; unset: 2"
    )
    onecycle_rise: float | None = option(None, "part of onecycle in which rates rise, 0 to 1; unset: 0.3")

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise UserError(f"--schedule {self.schedule}: not known. Expected one of {', '.join(SCHEDULES)}")
        for name, users in _USES.items():
            value = getattr(self, name)
            if value is not None and self.schedule not in users:
                shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
                raise UserError(
                    f"--{name} {shown}: --schedule {self.schedule} has no use for it. Expected {' or '.join(users)}"
                )
        check_at_least(self, 1, "schedule_epochs", "schedule_step", "plateau_patience")
        if not 0 <= self.warmup_epochs < float("inf"):
            raise UserError(f"--warmup_epochs {self.warmup_epochs}: out of range. Expected a finite number from 0")
        for name, low, high in (("schedule_gamma", 0, 1), ("onecycle_rise", 0, 1)):
            value = getattr(self, name)
            if value is not None and not low < value < high:
                raise UserError(f"--{name} {value}: out of range. Expected a number between {low} and {high}")
        if self.min_lr_fraction is not None and not 0 <= self.min_lr_fraction <= 1:
            raise UserError(f"--min_lr_fraction {self.min_lr_fraction}: out of range. Expected a number from 0 to 1")
        self._check_milestones()

    def _check_milestones(self) -> None:
        if self.schedule == "multistep" and not self.milestones:
            raise UserError("--schedule multistep: has no drops. Expected --milestones, the epochs of its drops")
        found = list(self.milestones or ())
        if found != sorted(set(found)) or any(value < 1 for value in found):
            raise UserError(
                f"--milestones {' '.join(map(str, found))}: out of order. Expected rising epochs, each at least 1"
            )

    @property
    def gamma(self) -> float:
        """The factor of one drop."""
        return _GAMMAS.get(self.schedule, 0.1) if self.schedule_gamma is None else self.schedule_gamma

    @property
    def patience_of_plateau(self) -> int:
        """Epochs without a better recall after which plateau drops the rates."""
        return 2 if self.plateau_patience is None else self.plateau_patience
