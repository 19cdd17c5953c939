"""What a user can set about training with places."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from vgbench.errors import UserError
from vgbench.options import check_at_least, option

_option = partial(option, needs="train_mode=places")

# What says how places are derived; where a dataset knows its places, there is nothing to derive.
_DERIVED = ("place_cell", "place_heading", "place_gap", "place_spread", "place_shift")


@dataclass(frozen=True)
class PlacesOptions:
    """Options of --train_mode places: which images are one place, how batches are drawn, loss and miner.

    Raises:
        UserError: a value is out of its range.
    """

    cities: tuple[str, ...] | None = _option(
        None, "cities of GSV-Cities or GSV-XS to train on; unset: all", metavar="C"
    )
    place_cell: float = _option(20.0, "places derived from coordinates: side of a cell, metres")
    place_heading: float = _option(90.0, "places derived from coordinates: width of a bin of headings, degrees")
    place_gap: float = _option(
        25.0, "places derived from coordinates: least distance of images of two in a batch, metres"
    )
    place_spread: float | None = _option(
        None,
        "places derived from coordinates: fill batches with places this near to one another first, metres: next-door "
        "places are the hard negatives; unset: from anywhere",
    )
    place_shift: bool = _option(True, "places derived from coordinates: lay the grid anew for every pass over them")
    places_per_batch: int = _option(60, "places in a training step")
    img_per_place: int = _option(4, "images of a place in a training step")
    min_img_per_place: int = _option(4, "places with fewer images are left out")
    passes_per_epoch: int = _option(1, "how often an epoch goes through all places; the run is saved after each")
    loss: str = _option("MultiSimilarity", "any loss of pytorch-metric-learning on embeddings and labels, by its name")
    loss_args: tuple[str, ...] | None = _option(None, "its arguments, e.g. alpha=1 beta=50", metavar="NAME=VALUE")
    loss_distance: str | None = _option(
        None, "what the loss compares by; unset: as its paper does", choices=("cosine", "euclidean", "snr")
    )
    miner: str | None = _option(
        None,
        "any miner of pytorch-metric-learning, by its name, or none; unset: MultiSimilarity, or none where the loss "
        "takes none",
    )
    miner_args: tuple[str, ...] | None = _option(None, "its arguments, e.g. epsilon=0.1", metavar="NAME=VALUE")
    miner_distance: str | None = _option(
        None, "what the miner compares by; unset: as is usual", choices=("cosine", "euclidean", "snr")
    )

    def __post_init__(self) -> None:
        if (self.loss, self.miner) == ("MultiSimilarity", "MultiSimilarity"):
            # Settings that were written down when this was the default say it beside every way to train.
            object.__setattr__(self, "miner", None)
        check_at_least(self, 2, "places_per_batch", "img_per_place", "min_img_per_place")
        check_at_least(self, 1, "passes_per_epoch")
        if self.min_img_per_place < self.img_per_place:
            raise UserError(
                f"--min_img_per_place {self.min_img_per_place}: fewer than --img_per_place {self.img_per_place}. "
                "Expected at least as many; lower --img_per_place"
            )
        if not 0 < self.place_cell < float("inf"):
            raise UserError(f"--place_cell {self.place_cell}: expected a length above 0, metres")
        if not 0 < self.place_heading <= 360:
            raise UserError(f"--place_heading {self.place_heading}: expected an angle above 0, at most 360 degrees")
        if not 0 <= self.place_gap < float("inf"):
            raise UserError(f"--place_gap {self.place_gap}: expected a distance of at least 0, metres")
        if self.place_spread is not None and not 0 < self.place_spread < float("inf"):
            raise UserError(f"--place_spread {self.place_spread}: expected a distance above 0, metres")
        for name in ("loss_distance", "miner_distance"):
            if getattr(self, name) not in (None, "cosine", "euclidean", "snr"):
                raise UserError(f"--{name} {getattr(self, name)}: not known. Expected cosine, euclidean or snr")

    def check_known_places(self) -> None:
        """Raise UserError for an option on deriving places, which a dataset with places of its own has no use for."""
        for name in _DERIVED:
            value = getattr(self, name)
            if value != getattr(PlacesOptions, name):
                raise UserError(
                    f"--{name} {value}: is for places derived from coordinates, and this dataset knows its places. "
                    "Expected none; leave it out"
                )
