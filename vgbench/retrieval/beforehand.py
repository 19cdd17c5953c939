"""What can be known before anything is described: refused now, and not after hours of extraction."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from vgbench.data.decode import image_size
from vgbench.data.protocol import Split
from vgbench.data.table import ImageTable
from vgbench.errors import UserError, in_short
from vgbench.models.hashing import hashing_of
from vgbench.models.network import Network, for_inference
from vgbench.quantities import bytes_text, duration_text
from vgbench.retrieval.extraction.crops import Views
from vgbench.retrieval.options import LEARNED, EvalOptions
from vgbench.retrieval.searching.exact import check_search, finder_of
from vgbench.retrieval.searching.pca import check_components, pca_images
from vgbench.runtime import Inference

_PACE_SECONDS = 3.0  # of describing that say how long the rest takes
_SHORT_SECONDS = 10.0  # what ends within that needs no forecast


def check_beforehand(
    network: Network, split: Split, options: EvalOptions, inference: Inference, views: tuple[Views, Views], weights: str
) -> ImageTable | None:
    """Refuse what cannot end well; return the images that the PCA is fitted to, None where there are none.

    Args:
        views: of database images and of queries.
        weights: `weights_hash` of the network.

    Raises:
        UserError: empty tables, absent libraries or folders, a PCA of another network, more components, cells or
            centroids than there are images, or a network that does not take the sizes that the views ask for.
    """
    for table, what in ((split.queries, "queries"), (split.database, "database images")):
        if len(table) == 0:
            raise UserError(f"{table.root}: no {what}. Expected at least one image (.jpg, .jpeg, .png)")
    finder_of(options)
    if options.quantise == LEARNED:
        _check_codes(network, options, views)
    dim = views[0].dim(int(network.descriptors_dim))
    images = None
    if options.is_reduced:
        images = pca_images(split, options)
        dim = check_components(options, images, dim, weights)
    check_search(options, (len(split.database), dim))
    if not (views[0].plain and views[1].plain):
        _try_views(network, split, inference, views)
    return images


def _check_codes(network: Network, options: EvalOptions, views: tuple[Views, Views]) -> None:
    """Raise UserError where the network has learned no codes of what is searched."""
    if hashing_of(network) is None:
        raise UserError(
            f"--quantise hash: {network.name} has learned no codes. Expected a network trained with --hash_bits, or "
            "--quantise binary"
        )
    dim = int(network.descriptors_dim)
    if options.is_reduced or views[0].dim(dim) != dim:
        other = "--pca_dim" if options.is_reduced else "--scale_pooling concat"
        raise UserError(
            f"--quantise hash: its codes are of descriptors as the network gives them. Expected no {other} beside it; "
            "leave that out, or --quantise binary"
        )


def _try_views(network: Network, split: Split, inference: Inference, views: tuple[Views, Views]) -> None:
    """Describe a blank image of each table's kind: a head of one size fails at the first of another."""
    infer = for_inference(network, inference.runtime)
    for table, one in ((split.database, views[0]), (split.queries, views[1])):
        size = image_size(table.path(0), upright=table.upright) if one.method.keeps_ratio else one.largest
        blank = torch.zeros(1, 3, *one.decoded(size), dtype=torch.uint8)
        try:
            one.describe(infer, inference.runtime.to_device(blank))
        except UserError:
            raise
        except RuntimeError as error:  # what torch says of shapes that do not fit
            if isinstance(error, torch.OutOfMemoryError) or "memory" in str(error):
                raise
            raise UserError(
                f"{network.name}: does not take images of {blank.shape[2]}x{blank.shape[3]} ({in_short(error)}). "
                "Expected a --test_method and --scales whose images it takes; leave them out"
            ) from error


@dataclass
class Forecast:
    """Says once, from the first seconds of describing, how long all of it takes, and how much is written.

    Attributes:
        images: that are described, those of an earlier run left out once they are `skipped`.
        bytes: of all descriptors.
        clock: seconds that never go back.
    """

    images: int
    bytes: int
    clock: Callable[[], float] = time.monotonic
    _began: float | None = None
    _done: int = 0
    _said: bool = field(default=False)

    def skipped(self, images: int) -> None:
        """Some need not be described."""
        self.images -= images

    def described(self, images: int) -> str | None:
        """Return the line, where it is time to say it; the first batch, which also warms up, is not counted."""
        if self._began is None:
            self._began, self.images = self.clock(), self.images - images
            return None
        self._done += images
        spent = self.clock() - self._began
        if self._said or spent < _PACE_SECONDS:
            return None
        self._said = True
        left = spent / self._done * (self.images - self._done)
        if left < _SHORT_SECONDS:
            return None
        return (
            f"describing {self.images:,} images: about {duration_text(left)}, {bytes_text(self.bytes)} of descriptors"
        )
