"""Training GeoWarp, the homography that re-ranks (Berton et al., ICCV 2021): self-supervised, on a frozen network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vgbench.data import Split, TripletBatch
from vgbench.data.loader import decode_batch
from vgbench.data.splits import read_checked_split
from vgbench.data.triplets import Triplets
from vgbench.errors import UserError
from vgbench.models import Network
from vgbench.models.geowarp import WHOLE, attach, difference, mirrored, random_views, warp
from vgbench.models.network import features_for_inference
from vgbench.randomness import numpy_stream, torch_stream
from vgbench.training.mining.base import Describe, Miner, Task
from vgbench.training.mining.hardest import Rows
from vgbench.training.modes.base import Forward, Round
from vgbench.training.modes.table import Recipe
from vgbench.training.modes.triplets import TripletMode
from vgbench.training.pictures import BLUE, GREEN, ROWS, SIZE, grid

# Augmentation that moves pixels would move the corners away from where they are known to be.
_MOVING = ("rand_perspective", "random_resized_crop", "random_rotation")


def from_recipe(recipe: Recipe) -> GeowarpMode:
    """Read the train split, give the network its GeoWarp, freeze the rest, and make the mode; raises UserError."""
    return GeowarpMode(read_checked_split(recipe.data, recipe.root, "train", few=recipe.training.dry_run), recipe)


class PositiveMiner(Miner):
    """Each query with the nearest of its positives in descriptor space, and no negatives.

    The network is frozen, so that a query's positive is looked for once in a run.
    """

    def __init__(self, task: Task, seed: int) -> None:
        super().__init__(task, 1, 1, seed)
        self.known = np.full(len(task.queries), -1, np.int64)

    def candidates(self, rng: np.random.Generator, queries: Rows) -> Rows:
        """Return none: int64 [T,0]."""
        return np.empty((queries.size, 0), np.int64)

    def pairs(self, describe: Describe, epoch: int, index: int, queries_num: int) -> Triplets:
        """Draw a round's queries, distinct ones, and choose their positives; the triplets have no negatives."""
        rng = numpy_stream(self.seed, "mining", epoch, index)
        queries = self.sample_queries(rng, min(queries_num, int(self.task.eligible.size)))
        new = queries[self.known[queries] < 0]
        if new.size:
            self.known[new], _ = self.choose(describe, new, self.candidates(rng, new))
        return Triplets(queries, self.known[queries], np.empty((queries.size, 0), np.int64))

    def state_dict(self) -> dict[str, Any]:
        """Return each query's positive, as far as known."""
        return {"positives": torch.from_numpy(self.known)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned; raises UserError if it is not of these images."""
        if len(state.get("positives", ())) != len(self.known):
            raise UserError("checkpoint: of other training images. Expected those of the interrupted run")
        self.known[:] = state["positives"].numpy()


class GeowarpMode(TripletMode):
    """Rounds of queries and their nearest positives; only the network's GeoWarp learns.

    Three losses: on two random views of each image, whose common part is known; on real pairs, whose answer must be
    mirrored when both images are; and on the local features of real pairs, which should be alike in what the answer
    says they share.

    Args:
        split: the training images.
        recipe: everything else. Its network is given a GeoWarp and frozen otherwise; of its training options, rounds
            and the batch size (`train_batch_size` pairs) are used, miner and criterion are not; each view is varied
            on its own.

    Raises:
        UserError: no network, one that gives no map, or an augmentation that moves pixels.
    """

    def __init__(self, split: Split, recipe: Recipe) -> None:
        network, augmentation, seed = recipe.network, recipe.augmentation, recipe.seed
        if network is None:
            raise UserError("--train_mode geowarp: no network to train it on. Expected one in the recipe")
        moving = [name for name in _MOVING if getattr(augmentation, name)]
        moving += ["rand_augment"] if augmentation.rand_augment[0] else []
        moving += ["multi_resolution"] if len(augmentation.multi_resolution) > 1 else []
        if moving:
            raise UserError(
                f"--{moving[0]}: moves pixels, so that the corners of views are no longer known. Expected colours and "
                "erasing only with --train_mode geowarp; leave it out"
            )
        super().__init__(split, recipe)
        self.pairs = PositiveMiner(self.task, seed)
        self.geowarp, self.network, self.seed = recipe.geowarp, network, seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_stream(seed, "geowarp").initial_seed())
            attach(network)
        for part in (network.backbone, network.aggregation):
            part.requires_grad_(False)
        self._maps: Callable[[Tensor], Tensor] | None = None

    def round(self, network: Network, epoch: int, index: int) -> Round[TripletBatch]:
        """Draw queries and choose their positives; returns the batches of pairs."""
        self.network, self._maps = network, features_for_inference(network, self.recipe.inference.runtime)
        self._mined = self.pairs.pairs(
            lambda table, rows: self._describe(network, table, rows), epoch, index, self.options.queries_in_round(index)
        )
        return self._batches(self._mined, epoch, index)

    def loss(self, forward: Forward, batch: TripletBatch, generator: torch.Generator) -> Tensor:
        """Return the weighted sum [] of the losses, each a mean over the step's pairs (this rank's part of it)."""
        options, pairs = self.geowarp, torch.stack([batch.query, batch.positive], 1)
        views, right = self._views(batch, pairs, generator)
        firsts, seconds = [views[:, 0]], [views[:, 1]]
        if options.uses_pairs:
            images = self._normalised(batch.images)
            query, positive = self._frozen(images)[pairs].unbind(1)
            firsts += [query, query.flip(-1)]
            seconds += [positive, positive.flip(-1)]
        # In one batch, so that all share the statistics of its normalisation.
        answers = attach(self.network)(torch.cat(firsts), torch.cat(seconds))
        total = options.geowarp_views_weight * _apart(answers[: len(views)], right).sum() / 2
        if options.uses_pairs:
            plain, flipped = answers[len(views) :].chunk(2)
            total = total + options.geowarp_consistency_weight * _apart(mirrored(flipped), plain).sum()
            if options.geowarp_features_weight:
                total = total + options.geowarp_features_weight * self._features_apart(images[pairs], plain).sum()
        part: Tensor = total / batch.step_size
        return part

    def pictures(self) -> Mapping[str, Tensor]:
        """Return the round's first pairs, query (blue) and positive (green), whole and as cut by the answer."""
        if self._mined is None or self._maps is None:
            return {}
        chosen = self._mined.query[:ROWS], self._mined.positive[:ROWS]
        tables = self.split.queries, self.split.database
        size = self.data.resize
        photos = [decode_batch(table, rows, size) for table, rows in zip(tables, chosen, strict=True)]
        maps = [self._maps(self.recipe.inference.runtime.to_device(photo)) for photo in photos]
        geowarp = attach(self.network).eval()
        with torch.inference_mode():
            quads = geowarp.both_ways(*maps).cpu()
            cut = [warp(photo.float(), quads[:, side], SIZE).clamp(0, 255).byte() for side, photo in enumerate(photos)]
            whole = [warp(photo.float(), _whole(len(photo)), SIZE).clamp(0, 255).byte() for photo in photos]
        rows = zip(*whole, *cut, strict=True)
        return {"pairs, whole and cut": grid([list(zip(row, [BLUE, GREEN] * 2, strict=True)) for row in rows])}

    def state_dict(self) -> dict[str, Any]:
        """Return the positives that are known."""
        return {"mining": "geowarp", "miner": self.pairs.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back; raises UserError if another way to train wrote the state."""
        if state.get("mining") != "geowarp":
            raise UserError(
                "--train_mode geowarp: the interrupted run trained otherwise. Expected a run of geowarp; to start from "
                "that run's network use --start_from"
            )
        self.pairs.load_state_dict(state["miner"])

    def summary(self) -> str:
        """Return one line for the log."""
        return (
            f"GeoWarp on the frozen network: views of images cut by up to {self.geowarp.geowarp_cut / 2:.0%} a side, "
            f"and {len(self.task.eligible)} queries with the nearest of their positives"
        )

    def _normalised(self, images: Tensor) -> Tensor:
        return self.network.normalise(self.recipe.inference.runtime.to_device(images))

    @torch.no_grad()
    def _frozen(self, images: Tensor) -> Tensor:
        """Maps [B,C,h,w] of normalised images, which nothing is learnt through."""
        if self._maps is None:
            raise RuntimeError("a round comes before its losses")
        return self._maps(images).clone()  # a normal tensor, for autograd

    def _views(self, batch: TripletBatch, pairs: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Maps of two views of each query and of each positive [2B,2,C,h,w], and what they share [2B,2,4,2]."""
        sources = batch.images[pairs.flatten()]
        views, right = random_views(len(sources), self.geowarp.geowarp_cut, generator)
        views, right = views.to(sources.device), right.to(sources.device)
        twice = torch.stack([self.augment.vary(sources, generator) for _ in range(2)], 1).flatten(0, 1)
        maps = self._frozen(warp(self._normalised(twice), views.flatten(0, 1)))
        return torch.stack([maps[::2], maps[1::2]], 1), right

    def _features_apart(self, images: Tensor, quads: Tensor) -> Tensor:
        """How different the local features of pairs [B,2,3,H,W] are where they are cut as answered [B,2,4,2]: [B]."""
        self.network.backbone.eval()
        cut = warp(images.flatten(0, 1), quads.flatten(0, 1))
        with self.recipe.inference.runtime.autocast():
            maps = self.network.local_features(self.recipe.inference.runtime.to_device(cut))
        return difference(maps[::2], maps[1::2])


def _apart(answers: Tensor, others: Tensor) -> Tensor:
    """Mean squared differences of coordinates [B,2,4,2]: [B]."""
    return (answers - others).square().mean((1, 2, 3))


def _whole(count: int) -> Tensor:
    """The whole image as quadrilaterals [count,4,2]."""
    return torch.tensor(WHOLE).expand(count, 4, 2)
