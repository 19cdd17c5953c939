"""Training with places: batches of P places of K images, a metric loss and an online miner (GSV-Cities, 2022)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vgbench import parallel
from vgbench.data.augment import BatchAugment
from vgbench.data.cells import Rows, derive_places
from vgbench.data.encoded import reader_of
from vgbench.data.labelled import LabelledBatch, labelled_loader, own_part
from vgbench.data.places import read_known_places, read_train_images
from vgbench.data.table import ImageTable
from vgbench.data.translated import build_views
from vgbench.errors import UserError
from vgbench.models import Network
from vgbench.randomness import numpy_stream, stream_seed
from vgbench.retrieval.extraction.extract import describe_rows
from vgbench.training.losses.metric import build_metric_loss, build_metric_miner, loss_of, miner_beside, needs_classes
from vgbench.training.modes.base import Forward, Round
from vgbench.training.modes.cliques import CliqueBatch, Clusters, draw_clique_batches
from vgbench.training.modes.places_options import PlacesOptions
from vgbench.training.modes.sample_places import Sites, draw_batches
from vgbench.training.modes.table import Recipe
from vgbench.training.optimisation.optim import build_own_optimizer, load_optimizer
from vgbench.training.pictures import hardest_grid

_FEW_CELLS = 64  # that are described in a dry run


def from_recipe(recipe: Recipe) -> PlacesMode:
    """Read the places and make the mode; raises UserError."""
    known = read_known_places(recipe.data, recipe.root, recipe.places.cities or ())
    if known is not None:
        recipe.places.check_known_places()
        return PlacesMode(known.table, known.labels, recipe)
    return PlacesMode(read_train_images(recipe.data, recipe.root), None, recipe)


class PlacesMode:
    """Passes over all places, `img_per_place` random images of each.

    Args:
        images: all training images.
        labels: int64 [N], the place of each; None: places are derived from coordinates and headings, on a grid that
            is laid anew for every pass.
        recipe: everything else.

    Raises:
        UserError: no two places with enough images; a loss or miner that is not known or does not fit.
    """

    def __init__(self, images: ImageTable, labels: Rows | None, recipe: Recipe) -> None:
        self.images, self.labels, self.recipe = images, labels, recipe
        self.miner_name = miner_beside(recipe.places.loss, recipe.places.miner)
        self.options: PlacesOptions = recipe.places
        if needs_classes(self.options.loss):
            if self.hard:
                raise UserError(
                    f"--loss {self.options.loss}: learns something of each place, and --place_batches cliques makes "
                    "new ones in each batch. Expected another --loss, such as MultiSimilarity"
                )
            # What the loss learns of each place would be lost with every new grid.
            self.options = dataclasses.replace(self.options, place_shift=False)
        first = self._sites(0, 0)
        if first.count < 2 and not self.hard:
            raise UserError(
                f"{images.root}: {first.count} places with {self.options.min_img_per_place} images or more. Expected "
                "at least two; lower --min_img_per_place, or raise --place_cell where places are derived"
            )
        self.found = first.count
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(recipe.seed, "loss"))  # of what the loss learns of each place
            self.criterion = build_metric_loss(
                self.options.loss,
                self.options.loss_args or (),
                self.options.loss_distance,
                places=first.labels_count,
                dim=recipe.descriptors_dim,
            ).to(recipe.inference.runtime.device)
        self.miner = build_metric_miner(self.miner_name, self.options.miner_args or (), self.options.miner_distance)
        own = [parameter for parameter in self.criterion.parameters() if parameter.requires_grad]
        if not own and recipe.training.lr_classifier is not None:
            raise UserError(
                f"--lr_classifier {recipe.training.lr_classifier}: --loss {self.options.loss} learns nothing of its "
                "own. Expected a loss that does, such as ArcFace or ProxyAnchor; leave it out"
            )
        self.own_optimizers = (build_own_optimizer(own, recipe.training),) if own else ()
        self.augment = BatchAugment(recipe.augmentation)
        self._hardest: Tensor | None = None
        self.views = build_views(
            recipe.augmentation.translated_folder, recipe.augmentation.translated_probability, recipe.seed, images
        )

    @property
    def tables(self) -> tuple[ImageTable, ...]:
        """All images that it looks at."""
        return (self.images,)

    @property
    def hard(self) -> bool:
        """Whether batches are made of what the network finds alike."""
        return self.options.place_batches == "cliques"

    @property
    def rounds_per_epoch(self) -> int:
        """How often an epoch goes through all places."""
        return self.options.passes_per_epoch

    def round(self, network: Network, epoch: int, index: int) -> Round[LabelledBatch]:
        """Draw a pass over all places; returns its batches.

        Raises:
            UserError: no two places may share a batch, or no batch has an image for every rank.
        """
        return self.again(network, epoch, index, 0)

    def again(self, network: Network, epoch: int, index: int, times: int) -> Round[LabelledBatch]:
        """Draw the pass that follows after `times` others in one place of the run; raises UserError as `round`."""
        self._hardest = None
        self.augment.multiple = network.resize_multiple
        rng = numpy_stream(self.recipe.seed, "places", epoch, index, *([times] if times else []))
        world = parallel.world()
        together = dataclasses.replace(self.options, places_per_batch=self.options.places_per_batch * world)
        if self.hard:
            drawn = self._cliques(network, self._labels(epoch, index), together, rng)
        else:
            drawn = draw_batches(self._sites(epoch, index), together, rng)
        batches = [own_part(batch) for batch in drawn if len(batch[0]) >= world]
        if not batches:
            raise UserError(self._nothing_drawn(epoch, index, len(drawn)))
        return labelled_loader(
            self.images,
            batches,
            size=self.recipe.data.resize,
            num_workers=self.recipe.data.workers,
            views=self.views,
            position=(epoch, index),
            read=None if self.views else reader_of(self.recipe.inference),
        )

    def loss(self, forward: Forward, batch: LabelledBatch, generator: torch.Generator) -> Tensor:
        """Return the metric loss [] of a batch on what the miner chose of it."""
        images = self.augment.augment_places(batch.images, batch.labels, generator)
        descriptors = forward(images)
        # Of the round's first batch, where it is made of photographs and not of features.
        if self._hardest is None and images.dtype == torch.uint8:
            self._hardest = hardest_grid(images, batch.labels, descriptors.detach())
        return self._part(descriptors, batch)

    def judge(self, descriptors: Tensor, batch: LabelledBatch) -> Tensor | None:
        """Return this rank's part of the loss [] of other descriptors [B,N]; None of a loss that learns of places."""
        return None if self.own_optimizers else self._part(descriptors, batch)

    def _part(self, descriptors: Tensor, batch: LabelledBatch) -> Tensor:
        # Every rank has the loss of all images, and takes its part of it.
        whole = loss_of(self.criterion, self.miner, parallel.all_gather(descriptors), parallel.all_gather(batch.labels))
        return whole / parallel.world()

    def pictures(self) -> Mapping[str, Tensor]:
        """Return where the first batch of the round was most confused."""
        return {} if self._hardest is None else {"image, farthest of its place, nearest of others": self._hardest}

    def optimizers(self, epoch: int) -> Sequence[torch.optim.Optimizer]:
        """Return the optimiser of what the loss learns of places, where it does."""
        return self.own_optimizers

    def state_dict(self) -> dict[str, Any]:
        """Return what the loss has learnt."""
        return {
            "loss": self.options.loss,
            "criterion": self.criterion.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.own_optimizers],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what the loss had learnt; raises UserError if it was another loss or other places."""
        if state.get("loss") != self.options.loss:
            raise UserError(
                f"--loss {self.options.loss}: the interrupted run had {state.get('loss', 'another way to train')}. "
                "Expected the same loss; start a new run to change it"
            )
        try:
            self.criterion.load_state_dict(state["criterion"])
        except RuntimeError as error:
            raise UserError(
                f"--loss {self.options.loss}: the interrupted run had other places ({str(error).splitlines()[-1]})"
            ) from error
        for optimizer, saved in zip(self.own_optimizers, state["optimizers"], strict=True):
            load_optimizer(optimizer, saved)

    def summary(self) -> str:
        """Return one line for the log."""
        options = self.options
        if self.hard:
            return (
                f"cliques of {options.img_per_place} images within {options.place_gap:g} m among {len(self.images)} "
                f"images, in cells of {options.place_cell:g} m that look alike: {options.loss} loss, miner "
                f"{self.miner_name}, at most {options.places_per_batch} places per batch"
            )
        origin = "known" if self.labels is not None else f"cells of {options.place_cell:g} m"
        return (
            f"{self.found} places ({origin}) of {options.min_img_per_place} images or more among {len(self.images)} "
            f"images: {options.loss} loss, miner {self.miner_name}, at most {options.places_per_batch} places of "
            f"{options.img_per_place} images per batch"
        )

    def _cliques(
        self, network: Network, labels: Rows, options: PlacesOptions, rng: np.random.Generator
    ) -> list[tuple[Rows, Rows]]:
        """Describe an image of each cell, and draw the batches of a pass."""
        few = self.recipe.training.dry_run
        clusters = Clusters.of(self.images, labels, _FEW_CELLS if few else options.clique_cells, rng)
        described = describe_rows(network, self.images, clusters.samples(rng), self.recipe.inference)
        wanted = CliqueBatch(options.places_per_batch, options.img_per_place, options.clique_similar, options.place_gap)
        batches = options.clique_batches or -(-len(self.images) // (wanted.places * wanted.images))
        batches = min(batches, self.recipe.training.accumulate_steps) if few else batches
        unit = F.normalize(described, dim=1)
        # On one rank: the products of several may differ in their last bits, and so the draws.
        return parallel.on_main(lambda: draw_clique_batches(clusters, unit, wanted, batches, rng))

    def _nothing_drawn(self, epoch: int, index: int, drawn: int) -> str:
        """Say why a pass has no batch."""
        options, places = self.options, self._sites(epoch, index).count
        if self.hard and not drawn:
            return (
                f"--place_batches cliques: no two places of {options.img_per_place} images within "
                f"{options.place_gap:g} m of one another that lie farther apart. Expected denser images; lower "
                "--img_per_place, raise --clique_similar or --clique_cells"
            )
        if drawn:
            return (
                f"--img_per_place {options.img_per_place}: no batch of the {places} places has an image for each of "
                f"{parallel.world()} ranks. Expected as many images at least; start fewer ranks"
            )
        return (
            f"--place_gap {options.place_gap:g}: no two of the {places} places are far enough apart to share a batch "
            f"(--place_cell {options.place_cell:g}, --places_per_batch {options.places_per_batch}). Expected two a "
            "batch at least; lower --place_gap or --place_cell"
        )

    def _sites(self, epoch: int, index: int) -> Sites:
        """The places of a pass."""
        labels, least = self._labels(epoch, index), self.options.min_img_per_place
        return Sites.known(labels, least) if self.labels is not None else Sites.derived(labels, least, self.images)

    def _labels(self, epoch: int, index: int) -> Rows:
        """The place of each image in a pass, int64 [N]."""
        options = self.options
        if self.labels is not None:
            return self.labels
        origin = np.zeros(2)
        if options.place_shift:
            rng = numpy_stream(self.recipe.seed, "grid", epoch, index)
            origin = rng.random(2) * options.place_cell
        return derive_places(
            self.images,
            side=options.place_cell,
            bin_width=options.place_heading,
            origin=(float(origin[0]), float(origin[1])),
            # Headings of 0, 90, 180 and 270 degrees are the middles of bins, not their borders.
            turn=-options.place_heading / 2,
        )
