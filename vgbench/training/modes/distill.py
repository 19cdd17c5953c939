"""Training by distillation: a network, the student, says of images what another one, its teacher, says of them.

The teacher describes the images once, as they are; the student sees them varied. No coordinates are used. What follows
the teacher are the similarities of the images of a batch (Tung and Mori, 2019; Park et al., 2019),

    L = mean over pairs i != j of (s_i . s_j - t_i . t_j)^2,

or the descriptors themselves, projected to the student's dimensions where the teacher has more (Romero et al., 2015):

    L = mean over i of |s_i - P t_i|^2,

with s, t and P t of unit length. Most images of a place recognition set have nothing in common, so that a batch holds
images beside those that the teacher finds most similar.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vgbench import parallel
from vgbench.data import ImageTable
from vgbench.data.augment import BatchAugment
from vgbench.data.decode import decode_image
from vgbench.data.loader import Batches, BatchLoader, stack_images
from vgbench.data.places import read_train_images
from vgbench.data.unlabelled import read_unlabelled
from vgbench.errors import UserError
from vgbench.models import Network
from vgbench.randomness import numpy_stream
from vgbench.training.losses.similarity import similarity_loss
from vgbench.training.modes.base import Forward, Round
from vgbench.training.modes.table import Recipe
from vgbench.training.modes.teacher import Teaching, seen_at

Keys = NDArray[np.int64]

_POOL = 2048  # images among which neighbours are looked for, so that the work grows with the images alone


@dataclass(frozen=True, eq=False)
class DistillBatch:
    """B images and what the teacher says of them.

    Attributes:
        images: uint8 [B,3,H,W].
        taught: float32 [B,T], of unit length.
    """

    images: Tensor
    taught: Tensor

    def to(self, device: torch.device) -> DistillBatch:
        """Return the batch on a device."""
        return DistillBatch(self.images.to(device, non_blocking=True), self.taught.to(device, non_blocking=True))


class _Images(Batches[Tensor]):
    """The images of keys, of several tables, mirrored where the key says so."""

    def __init__(self, tables: Sequence[ImageTable], batches: Sequence[Keys], size: tuple[int, int]) -> None:
        self.tables, self.batches, self.size = tables, batches, size
        self.starts = np.cumsum([0, *map(len, tables)])

    def __len__(self) -> int:
        return len(self.batches)

    def make(self, index: int) -> Tensor:
        return stack_images([self._image(int(key)) for key in self.batches[index]])

    def _image(self, key: int) -> Tensor:
        mirrored, place = divmod(key, int(self.starts[-1]))
        number = int(np.searchsorted(self.starts, place, side="right")) - 1
        table = self.tables[number]
        image = decode_image(table.path(place - int(self.starts[number])), self.size, upright=table.upright)
        return image.flip(-1) if mirrored else image


class _DistillRound:
    def __init__(self, teaching: Teaching, images: BatchLoader[Tensor], batches: Sequence[Keys]) -> None:
        self.teaching, self.images, self.batches = teaching, images, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[DistillBatch]:
        return self.after(0)

    def after(self, done: int) -> Iterator[DistillBatch]:
        """Yield the batches after the first `done`."""
        for images, keys in zip(self.images.after(done), self.batches[done:], strict=True):
            yield DistillBatch(images, self.teaching.of(keys))


class DistillMode:
    """Passes over all images, each once, in batches of images and their neighbours in the teacher's eyes.

    Args:
        tables: the images: the train split's first.
        recipe: everything else; with `horizontal_flip`, the teacher describes mirrored images too, and every second
            image is mirrored.

    Raises:
        UserError: no teacher, one that cannot be read, or fewer than two images.
    """

    def __init__(self, tables: Sequence[ImageTable], recipe: Recipe) -> None:
        self.options, self.recipe, self.tables = recipe.distill, recipe, tuple(tables)
        if self.options.distill_from is None:
            raise UserError(
                "--train_mode distill: no teacher. Expected --distill_from <a checkpoint or a run's folder>"
            )
        if sum(map(len, tables)) < 2:
            raise UserError(f"{tables[0].root}: one image. Expected two or more, which the teacher compares")
        self.teaching = Teaching(
            self.options.distill_from,
            self.tables,
            seen_at(recipe.inference, self.options.distill_resize),
            mirrored=recipe.augmentation.horizontal_flip,
            own=recipe.own_code,
        )
        device = recipe.inference.runtime.device
        self.projection: Tensor | None = None
        if self.options.distill_loss != "similarity":
            found = self.teaching.projection(recipe.descriptors_dim)
            self.projection = None if found is None else found.to(device)
        # Mirroring is drawn with the batches, since the teacher has to know.
        self.augment = BatchAugment(dataclasses.replace(recipe.augmentation, horizontal_flip=False))

    @property
    def images(self) -> ImageTable:
        """The train split's."""
        return self.tables[0]

    @property
    def rounds_per_epoch(self) -> int:
        """How often an epoch goes through all images."""
        return self.options.distill_passes

    def round(self, network: Network, epoch: int, index: int) -> Round[DistillBatch]:
        """Draw a pass over all images; returns its batches."""
        return self.again(network, epoch, index, 0)

    def again(self, network: Network, epoch: int, index: int, times: int) -> Round[DistillBatch]:
        """Draw the pass that follows after `times` others in one place of the run."""
        self.augment.multiple = network.resize_multiple
        rng = numpy_stream(self.recipe.seed, "distill", epoch, index, *([times] if times else []))
        world = parallel.world()
        drawn = self._draw(rng, self.options.distill_batch_size * world)
        batches = [keys[parallel.share(len(keys))] for keys in drawn if len(keys) >= max(world, 2)]
        data = self.recipe.data
        return _DistillRound(
            self.teaching, BatchLoader(_Images(self.tables, batches, data.resize), data.workers), batches
        )

    def loss(self, forward: Forward, batch: DistillBatch, generator: torch.Generator) -> Tensor:
        """Return the loss [] of a batch, which ranks share."""
        found = forward(self.augment(batch.images, generator))
        student = F.normalize(parallel.all_gather(found).float(), dim=1)
        taught = parallel.all_gather(batch.taught)
        kind, total = self.options.distill_loss, student.new_zeros(())
        if kind != "descriptor":
            total = total + similarity_loss(student, taught)
        if kind != "similarity":
            total = total + descriptor_loss(student, taught, self.projection)
        return total / parallel.world()

    def optimizers(self, epoch: int) -> Sequence[torch.optim.Optimizer]:
        """Return (): nothing but the network learns."""
        return ()

    def state_dict(self) -> dict[str, Any]:
        """Return what tells one teacher and its images from others."""
        return {"teaching": self.teaching.fingerprint, "loss": self.options.distill_loss}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back; raises UserError if the interrupted run had another teacher, images or loss."""
        if dict(state) != self.state_dict():
            raise UserError(
                f"--distill_from {self.options.distill_from}: the interrupted run learned from another teacher, other "
                "images, or by another --distill_loss. Expected the same; to go on from its network use --start_from"
            )

    def summary(self) -> str:
        """Return one line for the log."""
        teaching, options = self.teaching, self.options
        mirrored = ", and mirrored" if teaching.mirrored else ""
        return (
            f"distillation from {teaching.name}, {teaching.dim} dimensions, by {options.distill_loss}: {len(teaching)} "
            f"images as they are{mirrored}, {options.distill_batch_size} in a step"
        )

    def _draw(self, rng: np.random.Generator, size: int) -> list[Keys]:
        """Return all images in batches of `size`, each image beside its neighbours, mirrored or not: int64 [B] each."""
        count = len(self.teaching)
        order = rng.permutation(count).astype(np.int64)
        pools = [order[start : start + _POOL] for start in range(0, count, _POOL)]
        groups = [group for pool in pools for group in self._groups(pool, 1 + self.options.distill_neighbours)]
        keys = np.concatenate([groups[number] for number in rng.permutation(len(groups))])
        if self.teaching.mirrored:
            keys = keys + count * rng.integers(0, 2, count)
        return [keys[start : start + size] for start in range(0, count, size)]

    def _groups(self, pool: Keys, size: int) -> list[Keys]:
        """Part images, int64 [P], into groups: the first that is left and those left that are most similar to it."""
        if size == 1:
            return [pool[place : place + 1] for place in range(len(pool))]
        descriptors = self.teaching.of(pool).to(self.recipe.inference.runtime.device)
        alike: NDArray[np.float32] = (descriptors @ descriptors.T).cpu().numpy()
        left, groups = np.ones(len(pool), bool), []
        for place in range(len(pool)):
            if left[place]:
                left[place] = False
                nearest = np.argsort(-np.where(left, alike[place], -np.inf), kind="stable")[: size - 1]
                chosen = nearest[left[nearest]]
                left[chosen] = False
                groups.append(pool[[place, *chosen]])
        return groups


def descriptor_loss(student: Tensor, taught: Tensor, projection: Tensor | None) -> Tensor:
    """Return the mean squared distance [] of descriptors and what the teacher says, both of unit length.

    Args:
        student: [B,D], of unit length.
        taught: [B,T], of unit length.
        projection: [T,D]; None, where T is at most D: zeros are put behind.
    """
    wanted = taught @ projection if projection is not None else F.pad(taught, (0, student.shape[1] - taught.shape[1]))
    return (student - F.normalize(wanted, dim=1)).square().sum(1).mean()


def from_recipe(recipe: Recipe) -> DistillMode:
    """Read the train split and the folders, have the teacher describe them, and make the mode; raises UserError."""
    tables = [read_train_images(recipe.data, recipe.root)]
    tables += [read_unlabelled(folder, "--distill_folder") for folder in recipe.distill.distill_folder or ()]
    if recipe.training.dry_run:
        tables = [table.select(np.arange(min(len(table), recipe.distill.distill_batch_size))) for table in tables]
    return DistillMode(tables, recipe)
