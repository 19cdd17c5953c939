"""Losses and online miners of pytorch-metric-learning, by their names there (Musgrave et al., 2020)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vgbench.arguments import parameters_of, read_arguments
from vgbench.errors import UserError, did_you_mean
from vgbench.registry import Registry
from vgbench.training.losses.centroid_triplet import CentroidTripletLoss

# What the field trains places with, where that is not the library's default (Ali-bey et al., "GSV-Cities", 2022).
USUAL: dict[str, dict[str, Any]] = {
    "MultiSimilarityLoss": {"alpha": 1.0, "beta": 50.0, "base": 0.0},
    "TripletMarginLoss": {"margin": 0.1},
    "SupConLoss": {"temperature": 0.07},
    "FastAPLoss": {"num_bins": 30},
    "GeneralizedLiftedStructureLoss": {"neg_margin": 0.0, "pos_margin": 1.0},
    "RankedListLoss": {"margin": 0.4, "Tn": 10.0},  # Wang et al., 2019
    "SphereFaceLoss": {"margin": 1.5, "scale": 30.0},
    "LargeMarginSoftmaxLoss": {"scale": 30.0},
    "HistogramLoss": {"n_bins": 100},
    "TripletMarginMiner": {"margin": 0.1, "type_of_triplets": "semihard"},
    "MultiSimilarityMiner": {"epsilon": 0.1},
    "PairMarginMiner": {"pos_margin": 0.7, "neg_margin": 0.3},
    "UniformHistogramMiner": {"pos_per_bin": 10, "neg_per_bin": 10},
}
USUAL_MINER = "MultiSimilarity"
# The pairs or triplets of a miner are refused by these, or, where a loss looks at whole places, change nothing.
_WITHOUT_MINER = {"CentroidTripletLoss", "P2SGradLoss", "PNPLoss", "RankedListLoss"}
USUAL_DISTANCE = {"GeneralizedLiftedStructureLoss": "cosine", "PairMarginMiner": "cosine"}
# Made to wrap another loss, or in need of more than descriptors and places. InstanceLoss makes each image its own
# class; DynamicSoftMarginLoss keeps the graph of the step before, which cannot be trained through twice; ManifoldLoss
# wants proxies of its own beside the labels.
_UNFIT = {
    "DynamicSoftMarginLoss", "InstanceLoss", "ManifoldLoss",
    "BaseLossWrapper", "BaseMetricLossFunction", "CrossBatchMemory", "EmbeddingRegularizerMixin", "GenericPairLoss",
    "MultipleLosses", "SelfSupervisedLoss", "VICRegLoss", "WeightRegularizerMixin", "BaseMiner",
    "EmbeddingsAlreadyPackagedAsTriplets",
}  # fmt: skip
# Objects, which no word on a command line stands for.
_NOT_WORDS = ("distance", "reducer", "embedding_regularizer", "collect_stats")
_DISTANCES = {"cosine": "CosineSimilarity", "euclidean": "LpDistance", "snr": "SNRDistance"}


def loss_names() -> list[str]:
    """Return the losses on descriptors and places, by class name."""
    return sorted(_losses())


def miner_names() -> list[str]:
    """Return the online miners, by class name."""
    return sorted(_classes("miners"))


def build_metric_loss(name: str, arguments: Sequence[str], distance: str | None, *, places: int, dim: int) -> nn.Module:
    """Return a loss on (embeddings [B,D], labels [B], pairs or triplets of a miner or None) -> scalar.

    Args:
        name: a class of pytorch_metric_learning.losses, with or without its ending "Loss", or package.module:Class.
        arguments: "name=value", on top of what is usual in the field.
        distance: cosine, euclidean or snr; None: the loss's own.
        places: how many there are, for losses that learn something of each.
        dim: of the descriptors.

    Raises:
        UserError: no such loss, or not with these arguments.
    """
    given = {"num_classes": places, "embedding_size": dim, "descriptors_dim": dim, "l": dim}
    built = _build("--loss", name, "Loss", _losses(), arguments, distance, given)
    assert isinstance(built, nn.Module)
    return built


def needs_classes(name: str) -> bool:
    """Whether a loss learns weights of each place, so that places must stay the same from epoch to epoch."""
    return "num_classes" in parameters_of(_find("--loss", name, "Loss", _losses()))


def miner_beside(loss: str, miner: str | None) -> str:
    """Return which miner a loss is trained with: the one asked for, else the usual one, or "none" if it takes none.

    Args:
        loss: as `build_metric_loss`; whatever is derived from a loss that takes no miner takes none either.
        miner: as `build_metric_miner`; None: nobody asked for one.

    Raises:
        UserError: no such loss, or a miner that it would ignore or fail with.
    """
    bases = {base.__name__ for base in inspect.getmro(_find("--loss", loss, "Loss", _losses()))}
    if bases.isdisjoint(_WITHOUT_MINER):
        return miner or USUAL_MINER
    if miner not in (None, "none"):
        raise UserError(f"--miner {miner}: --loss {loss} takes no miner. Expected --miner none beside it")
    return "none"


def build_metric_miner(
    name: str, arguments: Sequence[str], distance: str | None
) -> Callable[[Tensor, Tensor], Any] | None:
    """Return a miner on (embeddings [B,D], labels [B]), None for "none"; arguments as `build_metric_loss`.

    Raises:
        UserError: an unknown name, or arguments that the miner does not take.
    """
    if name == "none":
        if arguments or distance:
            raise UserError("--miner none: takes no --miner_args and no --miner_distance. Leave them out")
        return None
    built = _build("--miner", name, "Miner", _classes("miners"), arguments, distance, {})
    assert callable(built)
    return built  # type: ignore[no-any-return]


def _losses() -> dict[str, Any]:
    return _classes("losses") | {"CentroidTripletLoss": CentroidTripletLoss}


def _classes(module: str) -> dict[str, Any]:
    import importlib  # the library is slow to import, and only this way of training needs it

    loaded = importlib.import_module(f"pytorch_metric_learning.{module}")
    return {name: thing for name, thing in vars(loaded).items() if inspect.isclass(thing) and name not in _UNFIT}


def _find(flag: str, name: str, ending: str, known: dict[str, Any]) -> Any:
    if ":" in name:
        return Registry(flag.removeprefix("--"), {}).resolve(name)
    if name in known:
        return known[name]
    if name + ending in known:
        return known[name + ending]
    names = [cls.removesuffix(ending) for cls in known]
    raise UserError(
        f"{flag} {name}: not known.{did_you_mean(name, names)} Expected one of {', '.join(sorted(known))}, or "
        "package.module:Class"
    )


def check_metric_loss(loss: str, loss_args: Sequence[str], miner: str | None, miner_args: Sequence[str]) -> None:
    """Raise UserError for a loss or miner that nobody knows, that do not go together, or have no such keywords."""
    _arguments("--loss", loss, _find("--loss", loss, "Loss", _losses()), loss_args)
    chosen = miner_beside(loss, miner)
    if chosen != "none":
        _arguments("--miner", chosen, _find("--miner", chosen, "Miner", _classes("miners")), miner_args)


def _build(
    flag: str, name: str, ending: str, known: dict[str, Any], arguments: Sequence[str], distance: str | None,
    given: dict[str, Any],
) -> Any:  # fmt: skip
    cls = _find(flag, name, ending, known)
    parameters = parameters_of(cls)
    values = dict(USUAL.get(cls.__name__, {})) | {key: value for key, value in given.items() if key in parameters}
    values |= _arguments(flag, name, cls, arguments)
    distance = distance or USUAL_DISTANCE.get(cls.__name__)
    if distance:
        if "distance" not in parameters:
            raise UserError(f"{flag}_distance {distance}: {name} has no choice of distance. Leave it out")
        from pytorch_metric_learning import distances

        values["distance"] = getattr(distances, _DISTANCES[distance])()
    try:
        return cls(**values)
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(f"{flag} {name}: cannot be made with {values} ({error}); see {flag}_args") from error


def _arguments(flag: str, name: str, cls: Any, words: Sequence[str]) -> dict[str, Any]:
    return read_arguments(flag, name, cls, words, _NOT_WORDS)


def loss_of(
    criterion: nn.Module, miner: Callable[[Tensor, Tensor], Any] | None, descriptors: Tensor, labels: Tensor
) -> Tensor:
    """Return the loss of a batch of descriptors float32 [B,D] with the pairs or triplets that the miner chooses."""
    chosen = None
    if miner is not None:
        with torch.no_grad():
            chosen = miner(descriptors, labels)
    loss: Tensor = criterion(descriptors, labels, chosen)
    return loss
