"""Training with mined triplets (NetVLAD: Arandjelovic et al., 2016; the Deep VG benchmark: Berton et al., 2022)."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from vgbench import parallel
from vgbench.data import ImageTable, Split, TripletBatch, triplet_loader
from vgbench.data.augment import BatchAugment
from vgbench.data.encoded import reader_of
from vgbench.data.positives import BY_DISTANCE
from vgbench.data.splits import read_checked_split
from vgbench.data.translated import build_views
from vgbench.data.triplets import Triplets
from vgbench.errors import UserError
from vgbench.models import Network
from vgbench.retrieval.extraction.extract import describe
from vgbench.training.ahead import begun
from vgbench.training.losses import build_loss
from vgbench.training.mining import Task, build_miner
from vgbench.training.mining.hardest import Rows
from vgbench.training.modes.base import Forward, Round
from vgbench.training.modes.table import Recipe
from vgbench.training.pictures import triplet_grid

LOG = logging.getLogger(__name__)


def from_recipe(recipe: Recipe) -> TripletMode:
    """Read the train split and make the mode; raises UserError."""
    split = read_checked_split(recipe.data, recipe.root, "train", few=recipe.training.dry_run, rules=recipe.rules)
    return TripletMode(split, recipe)


class TripletMode:
    """Rounds of `cache_refresh_rate` queries, each with its nearest positive and its hardest negatives.

    Args:
        split: the training images.
        recipe: everything else; its augmentation is of the queries' pixels, and of whole triplets.

    Raises:
        UserError: no query has a positive; the miner or the loss is not known; a folder of the augmentation's has
            nothing that fits.
    """

    def __init__(self, split: Split, recipe: Recipe) -> None:
        self.split, self.recipe, self.options, self.data = split, recipe, recipe.training, recipe.data
        options, data, augmentation, seed = recipe.training, recipe.data, recipe.augmentation, recipe.seed
        self.criterion = build_loss(options)
        self.augment = BatchAugment(augmentation)
        self.views = build_views(
            augmentation.translated_folder, augmentation.translated_probability, seed, split.queries, split.database
        )
        queries, database = split.queries, split.database
        near = float(data.train_positives_dist_threshold)
        # A positive is never also a negative, whichever threshold is larger.
        far = max(near, float(data.val_positive_dist_threshold))
        self.task = Task(
            split.database,
            split.queries,
            BY_DISTANCE.positives(queries, database, near),
            BY_DISTANCE.positives(queries, database, far),
        )
        self.miner = build_miner(options, self.task, seed)
        self._mined: Triplets | None = None

    @property
    def images(self) -> ImageTable:
        """The database."""
        return self.split.database

    @property
    def tables(self) -> tuple[ImageTable, ...]:
        """All images that it looks at: the queries and the database."""
        return self.split.queries, self.split.database

    @property
    def rounds_per_epoch(self) -> int:
        """How often an epoch mines."""
        return self.options.rounds_per_epoch

    def round(self, network: Network, epoch: int, index: int) -> Round[TripletBatch]:
        """Mine with the network as it is now; returns the batches of triplets."""
        look = functools.partial(self._describe, network)
        mined = self.miner.round(look, epoch, index, self.options.queries_in_round(index))
        if mined.left_out or mined.repeated:
            all_drawn = self.options.mining == "random" or self.options.neg_samples_num >= len(self.task.database)
            LOG.info(
                "%d of the round's queries have no valid negative and are left out, %d have fewer than %d and repeat "
                "them%s",
                mined.left_out, mined.repeated, self.options.negs_num_per_query,
                "" if all_drawn else "; a larger --neg_samples_num finds more",
            )  # fmt: skip
        self._mined = mined.triplets
        self.augment.multiple = network.resize_multiple
        return self._batches(mined.triplets, epoch, index)

    def loss(self, forward: Forward, batch: TripletBatch, generator: torch.Generator) -> Tensor:
        """Return the loss [] of a batch: the sum over queries and negatives divided by their number."""
        batch = self.augment.augment_triplets(batch, generator)
        return self.judge(forward(batch.units), batch)

    def judge(self, descriptors: Tensor, batch: TripletBatch) -> Tensor:
        """Return the loss [] of the descriptors [B,N] of a batch's images, or of others in their place."""
        total = self.criterion(descriptors[batch.query], descriptors[batch.positive], descriptors[batch.negatives])
        # This rank's part: the step's triplets are shared out.
        return total / (batch.step_size * batch.negatives.shape[1])

    def pictures(self) -> Mapping[str, Tensor]:
        """Return the round's first triplets with their hardest negatives."""
        return (
            {} if self._mined is None else {"query, positive, hardest negatives": triplet_grid(self.split, self._mined)}
        )

    def optimizers(self, epoch: int) -> Sequence[torch.optim.Optimizer]:
        """Return (): triplets have no parameters of their own."""
        return ()

    def state_dict(self) -> dict[str, Any]:
        """Return the miner's memory."""
        return {"mining": self.options.mining, "miner": self.miner.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back the miner's memory; raises UserError if another miner wrote it."""
        if state.get("mining") != self.options.mining:
            raise UserError(
                f"--mining {self.options.mining}: the interrupted run mined {state.get('mining', 'otherwise')}. "
                "Expected the same miner; start a new run to change it"
            )
        self.miner.load_state_dict(state["miner"])

    def summary(self) -> str:
        """Return one line for the log."""
        task, options = self.task, self.options
        aside = f", {task.set_aside} without a positive set aside" if task.set_aside else ""
        return (
            f"triplets from {len(task.queries)} queries{aside} and {len(task.database)} database images: "
            f"{options.mining} mining, {options.criterion} loss, {options.rounds_per_epoch} rounds of at most "
            f"{min(options.cache_refresh_rate, int(task.eligible.size))} queries an epoch"
        )

    def _batches(self, triplets: Triplets, epoch: int, index: int) -> Round[TripletBatch]:
        """The steps of a round, which ranks share."""
        world = parallel.world()
        if len(triplets) < world:
            raise UserError(
                f"epoch {epoch}, round {index}: {len(triplets)} triplets for {world} ranks. Expected one for each at "
                "least; raise --cache_refresh_rate"
            )
        batch_size = self.options.train_batch_size * world
        return triplet_loader(
            self.split,
            triplets,
            size=self.data.resize,
            batch_size=batch_size,
            num_workers=self.data.workers,
            # A round smaller than one batch is that batch, rather than nothing.
            drop_last=len(triplets) >= batch_size,
            views=self.views.at(epoch, index) if self.views else reader_of(self.recipe.inference),
        )

    def _describe(self, network: Network, table: ImageTable, rows: Rows) -> Iterator[tuple[Tensor, Tensor]]:
        described = self._described(network, table, rows)
        # Beside a GPU cores are free to decode what is described next; a CPU's are not.
        return begun(described) if self.recipe.inference.runtime.device.type == "cuda" else described

    def _described(self, network: Network, table: ImageTable, rows: Rows) -> Iterator[tuple[Tensor, Tensor]]:
        title = f"mining, {table.root.name}"
        with tqdm(total=len(rows), desc=title, unit="img", leave=False, disable=None) as bar:
            yield from describe(network, table, rows, self.recipe.inference, progress=bar.update)
