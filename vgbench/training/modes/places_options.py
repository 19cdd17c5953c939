"""What a user can set about training with places."""

from __future__ import annotations

from dataclasses import dataclass

from vgbench.errors import UserError
from vgbench.options import Options, above, arguments, at_least, changed_options, option, option_names

_MODE = "train_mode=places or train_modes=places"
_SEVERAL = at_least(2)
BATCHES = ("passes", "cliques")
_DISTANCES = ("cosine", "euclidean", "snr")


@dataclass(frozen=True)
class DerivedPlacesOptions(Options, needs=_MODE, topic="places"):
    """How places are derived from coordinates; where a dataset knows its places, there is nothing to derive."""

    place_cell: float = option(20.0, "places derived from coordinates: side of a cell, metres", range=above(0))
    place_heading: float = option(
        90.0, "places derived from coordinates: width of a bin of headings, degrees", range=above(0, at_most=360)
    )
    place_gap: float = option(
        25.0, "places derived from coordinates: least distance between images of two places in one batch, metres",
        range=at_least(0),
    )  # fmt: skip
    place_spread: float | None = option(
        None,
        "places derived from coordinates: fill a batch first with places within this distance of one another, metres: "
        "neighbouring places are the hard negatives",
        range=above(0),
        unset="places from anywhere",
    )
    place_shift: bool = option(
        True, "places derived from coordinates: put the grid somewhere else for every pass over them"
    )
    place_batches: str = option(
        "passes",
        "places derived from coordinates: passes, each place once, in random batches; cliques: hard batches "
        "(CliqueMining), of cells that the network finds alike, whose images nearer than --place_gap to one another "
        "are a place",
        choices=BATCHES,
    )  # fmt: skip
    clique_similar: int = option(
        15, "cells that are most similar to a random one, which places are then made of", range=at_least(1),
        needs="place_batches=cliques",
    )  # fmt: skip
    clique_cells: int = option(
        10000, "cells of which an image is described before a pass, at most", range=_SEVERAL,
        needs="place_batches=cliques",
    )  # fmt: skip
    clique_batches: int | None = option(
        None, "batches of a pass", range=at_least(1), needs="place_batches=cliques",
        unset="as many as hold every image once",
    )  # fmt: skip


@dataclass(frozen=True)
class PlacesOptions(DerivedPlacesOptions, needs=_MODE, topic="places"):
    """Options of --train_mode places: which images are one place, how batches are drawn, loss and miner.

    Raises:
        UserError: a value is out of its range.
    """

    cities: tuple[str, ...] | None = option(
        None, "cities of GSV-Cities or GSV-XS to train on", unset="all", metavar="CITY"
    )
    places_per_batch: int = option(60, "places in a training step", range=_SEVERAL)
    img_per_place: int = option(4, "images of each place in a training step", range=_SEVERAL)
    min_img_per_place: int = option(4, "places with fewer images are left out", range=_SEVERAL)
    passes_per_epoch: int = option(
        1, "how often an epoch goes through all places; the run is saved after each", range=at_least(1)
    )
    loss: str = option(
        "MultiSimilarity",
        "loss of places, of pytorch-metric-learning; --help loss lists them",
        common=True,
    )
    loss_args: tuple[str, ...] | None = arguments("loss", "its keywords, e.g. alpha=1 beta=50")
    loss_distance: str | None = option(
        None, "the distance that the loss compares by", choices=_DISTANCES, unset="that of its paper"
    )
    miner: str | None = option(
        None,
        "a miner of pytorch-metric-learning, by its name there, or none; --help miner lists them",
        unset="MultiSimilarity, or none where the loss takes none",
    )
    miner_args: tuple[str, ...] | None = arguments("miner", "its keywords, e.g. epsilon=0.1")
    miner_distance: str | None = option(
        None, "the distance that the miner compares by", choices=_DISTANCES, unset="its usual one"
    )

    def check_together(self) -> None:
        """Raise UserError where places would be left out that a step could use."""
        if (self.loss, self.miner) == ("MultiSimilarity", "MultiSimilarity"):
            # Settings that were written down when this was the default say it beside every way to train.
            object.__setattr__(self, "miner", None)
        if self.place_batches == "cliques":
            for name in ("min_img_per_place", "place_spread"):
                if getattr(self, name) != getattr(PlacesOptions, name):
                    raise UserError(
                        f"--{name} {getattr(self, name)}: is of passes, and --place_batches is cliques. Expected it "
                        "without; leave it out"
                    )
        elif self.min_img_per_place < self.img_per_place:
            raise UserError(
                f"--min_img_per_place {self.min_img_per_place}: fewer than --img_per_place {self.img_per_place}. "
                "Expected at least as many; lower --img_per_place"
            )

    def check_known_places(self) -> None:
        """Raise UserError for an option on deriving places, which a dataset with places of its own has no use for."""
        derived = option_names(DerivedPlacesOptions)
        for name, value in changed_options(self).items():
            if name in derived:
                raise UserError(
                    f"--{name} {value}: is for places derived from coordinates, and this dataset knows its places. "
                    "Expected none; leave it out"
                )
