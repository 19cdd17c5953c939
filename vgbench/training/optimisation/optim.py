"""Optimisers, with a learning rate for each part of a network."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vgbench.errors import UserError, in_short
from vgbench.models.weights import is_finite
from vgbench.options import shown
from vgbench.training.optimisation.options import OptimOptions
from vgbench.training.options import TrainOptions
from vgbench.training.tables import OPTIMIZERS

SGD_MOMENTUM = 0.9
WEIGHT_DECAY = {"sgd": 1e-3, "adamw": 1e-2}
CLASSIFIER_LR = 0.01
_FUSED, _FUSED_ON = ("adam", "adamw", "sgd"), ("cuda",)  # optimisers and devices with one kernel for all weights
_HIDDEN = "__dynamo_disable"  # where torch._compile keeps the function that it calls instead of a method


def build_optimizer(network: nn.Module, options: OptimOptions) -> torch.optim.Optimizer:
    """Return the optimiser of the network's trainable parameters, a group a part, in the order of `parts_of`.

    Every group has its `part` and its base rate `initial_lr`, which schedules multiply.

    Raises:
        UserError: nothing in the network can be trained; CRN's rates are given for a network without it.
    """
    groups = parts_of(network)
    if not groups:
        raise UserError("network: every parameter is frozen. Expected at least one to train; freeze fewer stages")
    if "crn" not in groups:
        for name in ("lr_crn_layer", "lr_crn_net"):
            if getattr(options, name) != getattr(OptimOptions, name):
                raise UserError(
                    f"--{name} {getattr(options, name)}: this network has no CRN layer to train. "
                    "Expected --aggregation crn; leave it out"
                )
    rates = _rates(options, with_crn="crn" in groups)
    return _build(
        [{"params": group, "lr": rates[part], "part": part} for part, group in groups.items()], options, options.lr
    )


def build_own_optimizer(
    parameters: Iterable[nn.Parameter], options: OptimOptions, lr: float | None = None
) -> torch.optim.Optimizer:
    """Return the optimiser of a training mode's own parameters, a classifier's say.

    Args:
        parameters: what it trains.
        options: the same optimiser, momentum and weight decay as the network's.
        lr: base learning rate; None: `--lr_classifier`, which is 0.01 where it is not set.
    """
    if lr is None:
        lr = CLASSIFIER_LR if options.lr_classifier is None else options.lr_classifier
    return _build([{"params": list(parameters), "lr": lr, "part": "classifier"}], options, lr)


def parts_of(network: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Return the trainable parameters by part: crn, backbone, head, geowarp and network (none of these), where any."""
    parts: dict[str, list[nn.Parameter]] = {"crn": [], "backbone": [], "head": [], "network": [], "geowarp": []}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            parts[_part(name)].append(parameter)
    return {part: parameters for part, parameters in parts.items() if parameters}


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Take back an optimiser's state, but go on with this run's rates: they may have been changed on purpose.

    Raises:
        ValueError, KeyError: it is the state of another optimiser, or holds what no optimiser can go on with.
    """
    own = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    old = state["param_groups"]
    if any(mine.keys() != theirs.keys() - {"params"} for mine, theirs in zip(own, old, strict=True)):
        raise ValueError("it is of another kind")
    # Where fused kernels count their steps is where weights are: this run's kernels say so, not those that wrote it.
    groups = [{**theirs, **_kernels(mine)} for mine, theirs in zip(own, old, strict=True)]
    optimizer.load_state_dict({**state, "param_groups": groups})
    for group, values in zip(optimizer.param_groups, own, strict=True):
        group.update(values)
        for parameter in group["params"]:
            _check_state(parameter, optimizer.state.get(parameter, {}))


def _kernels(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: group[name] for name in ("fused", "foreach") if name in group}


def _check_state(parameter: Tensor, state: Mapping[str, Any]) -> None:
    """Raise ValueError if what an optimiser remembers of a parameter is not of its shape, or not finite."""
    for name, value in state.items():
        if isinstance(value, Tensor):
            fits = value.dim() == 0 or value.shape == parameter.shape
            if not fits or value.is_complex() or (value.is_floating_point() and not is_finite(value)):
                raise ValueError(f"{name} is of another shape, or not finite")
        elif value is not None and not isinstance(value, (int, float)):
            raise ValueError(f"{name} is a {type(value).__name__}")


def optimizer_line(optimizer: torch.optim.Optimizer, options: TrainOptions) -> str:
    """Return one line for the log: the optimiser, the base rate of each part, the schedule."""
    rates = [f"{group['part']} {group['initial_lr']:g}" for group in optimizer.param_groups]
    warmup = f" after a warm-up of {options.warmup_epochs:g} epochs" if options.warmup_epochs else ""
    return f"{options.optim}, learning rates: {', '.join(rates)}; schedule: {options.schedule}{warmup}"


def with_gradient(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return the parameters [...] of an optimiser that have a gradient."""
    return [
        parameter for group in optimizer.param_groups for parameter in group["params"] if parameter.grad is not None
    ]


_PARTS = {"backbone": "backbone", "aggregation": "head", "sequence": "head", "geowarp": "geowarp", "hashing": "head"}


def _part(name: str) -> str:
    if name.startswith("aggregation.") and "crn" in name.split("."):
        return "crn"
    return _PARTS.get(name.partition(".")[0], "network")


def _rates(options: OptimOptions, *, with_crn: bool) -> dict[str, float]:
    base = options.lr_crn_net if with_crn else options.lr
    return {
        "crn": options.lr_crn_layer,
        "backbone": base if options.lr_backbone is None else options.lr_backbone,
        "head": base if options.lr_head is None else options.lr_head,
        "network": base,
        "geowarp": options.lr_geowarp,
    }


def _without_compiler(kind: type[Any]) -> type[Any]:
    """Return a class of optimisers whose methods do not import torch's compiler, only to keep it off themselves.

    That import takes a second and a half, before the first step. Nothing here compiles an optimiser.
    """
    for method in vars(torch.optim.Optimizer).values():
        inner, code = getattr(method, "__wrapped__", None), getattr(method, "__code__", None)
        hidden = inner is not None and code is not None and code.co_filename.endswith("_compile.py")
        if hidden and not hasattr(inner, _HIDDEN):
            setattr(inner, _HIDDEN, inner)
    step = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), {"step": step, "__doc__": kind.__doc__})


def _build(groups: list[dict[str, Any]], options: OptimOptions, lr: float) -> torch.optim.Optimizer:
    values: dict[str, Any] = {"lr": lr}
    if options.weight_decay is not None or options.optim in OPTIMIZERS:  # one's own has a usual value of its own
        values["weight_decay"] = _or(options.weight_decay, WEIGHT_DECAY.get(options.optim, 0.0))
    if options.optim == "sgd":
        values["momentum"] = SGD_MOMENTUM if options.momentum is None else options.momentum
        values["nesterov"] = options.nesterov
    if options.optim == "rmsprop":
        values["momentum"] = options.momentum or 0.0
    keywords = OPTIMIZERS.keywords("optim", options.optim, options.optim_args)
    values |= _fused(options.optim, groups, keywords) | keywords
    optimizer = _made(options.optim, groups, values)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def _fused(name: str, groups: Sequence[Mapping[str, Any]], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return {"fused": True} where one kernel can change all weights: on a GPU, by an optimiser that has such a kernel.

    Elsewhere {}, as where the user has said what to do by `--optim_args`. On a CPU it saves a hundredth of a step, and
    runs would not go on from their older checkpoints to the same bits.
    """
    if name not in _FUSED or not {"fused", "foreach", "differentiable"}.isdisjoint(keywords):
        return {}
    weights = [parameter for group in groups for parameter in group["params"]]
    fits = all(weight.device.type in _FUSED_ON and weight.is_floating_point() for weight in weights)
    return {"fused": True} if fits else {}


def _or(value: float | None, usual: float) -> float:
    return usual if value is None else value


def _made(name: str, groups: list[dict[str, Any]], values: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Return an optimiser of a table; raises UserError where a user's own cannot be made so."""
    make = OPTIMIZERS.resolve(name)
    if name in OPTIMIZERS:
        make = _without_compiler(make)
    try:
        optimizer: torch.optim.Optimizer = make(groups, **values)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"--optim {name}: cannot be made with {shown(sorted(values))} ({in_short(error)}). Expected a class of "
            "parameter groups with these keywords; see --optim_args"
        ) from error
    return optimizer
