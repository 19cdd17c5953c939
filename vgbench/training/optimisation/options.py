"""What a user can set about optimisers and schedules."""

from __future__ import annotations

from dataclasses import dataclass

from vgbench.errors import UserError
from vgbench.options import RISING, Options, above, arguments, at_least, between, option

_GAMMAS = {"exponential": 0.95, "plateau": 0.5}
_COUNT, _FROM_0, _INSIDE = at_least(1), at_least(0), above(0, below=1)


@dataclass(frozen=True)
class CrnRatesOptions(Options, needs="aggregation=crn", topic="optimiser"):
    """Learning rates of a network with CRN."""

    lr_crn_layer: float = option(5e-3, "learning rate of CRN's own layer", range=_FROM_0)
    lr_crn_net: float = option(
        5e-4, "learning rate of the rest of a network with CRN, instead of --lr",
        range=_FROM_0,
    )  # fmt: skip


@dataclass(frozen=True)
class MomentumOptions(Options, strict=True, topic="optimiser"):
    """Which optimiser, and its momentum."""

    optim: str = option("adam", "optimiser", registry="vgbench.training.tables:OPTIMIZERS", common=True)
    optim_args: tuple[str, ...] | None = arguments("optim", "its keywords, e.g. betas=(0.9,0.98) eps=1e-6")
    momentum: float | None = option(
        None, "momentum", range=at_least(0, below=1), needs="optim=sgd|rmsprop", unset="0.9 for sgd, 0 for rmsprop"
    )
    nesterov: bool = option(False, "use Nesterov's momentum", needs="optim=sgd")

    def check_together(self) -> None:
        """Raise UserError for Nesterov's momentum without a momentum."""
        if self.nesterov and self.momentum == 0:
            raise UserError("--nesterov: there is no momentum. Expected --momentum above 0 beside it")


@dataclass(frozen=True)
class OptimOptions(CrnRatesOptions, MomentumOptions, topic="optimiser"):
    """What an optimiser does with gradients.

    Raises:
        UserError: a value is out of its range, or of no use to the chosen optimiser.
    """

    lr: float = option(1e-5, "learning rate", range=_FROM_0, common=True)
    lr_backbone: float | None = option(None, "learning rate of the backbone", range=_FROM_0, unset="--lr")
    lr_head: float | None = option(
        None, "learning rate of the aggregation and what follows it", range=_FROM_0, unset="--lr"
    )
    lr_classifier: float | None = option(
        None,
        "learning rate of a training mode's own parameters, its classifiers for example",
        range=_FROM_0,
        unset="0.01",
        needs="train_mode=places|classes or train_modes=places|classes",
    )
    lr_geowarp: float = option(1e-4, "learning rate of geowarp's own layers", range=_FROM_0, needs="train_mode=geowarp")
    weight_decay: float | None = option(
        None, "weight decay", range=_FROM_0, unset="0.01 for adamw, 0.001 for sgd, 0 for the others"
    )
    clip_grad_norm: float | None = option(
        None, "scale gradients down to this L2 norm where theirs is larger, for each optimiser", range=above(0),
        unset="never",
    )  # fmt: skip
    checkpoint_activations: bool = option(
        False, "keep only what goes into each block of the backbone, and compute the rest again in the backward pass: "
        "less memory, more time",
    )  # fmt: skip
    grad_cache_chunk: int | None = option(
        None, "images that go through the network together, where a whole batch is more than memory holds; its loss "
        "stays that of the batch (a gradient cache)", range=_COUNT, unset="the whole batch",
        needs="train_mode=triplets|places|classes or train_modes=triplets|places|classes",
    )  # fmt: skip
    accumulate_steps: int = option(1, "batches whose losses are averaged into one optimiser step", range=_COUNT)
    ema_decay: float | None = option(
        None,
        "decay at each step of a moving average of the weights, such as 0.999, which is then validated and tested",
        range=_INSIDE,
        unset="the weights themselves",
    )


@dataclass(frozen=True)
class ScheduleOptions(Options, strict=True, topic="optimiser"):
    """How learning rates change over a run; epochs of a schedule count from the end of the warm-up.

    Raises:
        UserError: a value is out of its range, or of no use to the chosen schedule.
    """

    schedule: str = option(
        "none",
        "how learning rates change over the run",
        registry="vgbench.training.tables:SCHEDULES",
        common=True,
    )
    schedule_args: tuple[str, ...] | None = arguments("schedule")
    warmup_epochs: float = option(
        0.0, "epochs, or a part of one, over which rates rise linearly before the schedule", range=_FROM_0
    )
    schedule_epochs: int | None = option(
        None, "epochs after which the schedule, warm-up included, has come to its end", range=_COUNT,
        needs="schedule=cosine|linear|onecycle", unset="--epochs_num",
    )  # fmt: skip
    schedule_iterations: int | None = option(
        None, "the same in steps of the optimiser, whatever an epoch has of them", range=_COUNT,
        needs="schedule=cosine|linear|onecycle", unset="--schedule_epochs", metavar="STEPS",
    )  # fmt: skip
    schedule_step: int | None = option(None, "epochs between drops", range=_COUNT, needs="schedule=step", unset="5")
    schedule_gamma: float | None = option(
        None,
        "what rates are multiplied with at a drop, and by exponential each epoch",
        range=_INSIDE,
        needs="schedule=step|multistep|exponential|plateau",
        unset="0.1 for step and multistep, 0.5 for plateau, 0.95 for exponential",
    )
    milestones: tuple[int, ...] | None = option(
        None, "epochs of the drops", range=_COUNT, together=RISING, needs="schedule=multistep", metavar="N"
    )
    min_lr_fraction: float | None = option(
        None, "rates fall to this fraction of where they started and no lower", range=between(0, 1),
        needs="schedule=step|multistep|cosine|linear|plateau|onecycle|exponential", unset="0",
    )  # fmt: skip
    plateau_patience: int | None = option(
        None, "epochs without a better val recall after which the rates drop", range=_COUNT,
        needs="schedule=plateau", unset="2",
    )  # fmt: skip
    onecycle_rise: float | None = option(
        None, "part of the schedule in which rates rise, 0 to 1", range=_INSIDE, needs="schedule=onecycle", unset="0.3"
    )

    def check_together(self) -> None:
        """Raise UserError for drops without their epochs, or a length that is said twice."""
        if self.schedule == "multistep" and not self.milestones:
            raise UserError("--schedule multistep: has no drops. Expected --milestones, the epochs of its drops")
        if self.schedule_iterations is None:
            return
        for name, value in (("schedule_epochs", self.schedule_epochs), ("warmup_epochs", self.warmup_epochs)):
            if value:
                raise UserError(
                    f"--schedule_iterations {self.schedule_iterations}: counts steps, and --{name} {value:g} epochs. "
                    "Expected one of them; leave one out"
                )

    @property
    def gamma(self) -> float:
        """The factor of one drop."""
        return _GAMMAS.get(self.schedule, 0.1) if self.schedule_gamma is None else self.schedule_gamma

    @property
    def patience_of_plateau(self) -> int:
        """Epochs without a better recall after which plateau drops the rates."""
        return 2 if self.plateau_patience is None else self.plateau_patience
