"""What a user can set about training by distillation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vgbench.options import Options, at_least, option

_COUNT = at_least(1)
DISTILL_LOSSES = ("similarity", "descriptor", "both")


@dataclass(frozen=True)
class DistillOptions(Options, needs="train_mode=distill or train_modes=distill"):
    """Options of --train_mode distill: a network that learns what another one, its teacher, says of images.

    Raises:
        UserError: a value is out of its range.
    """

    distill_from: Path | None = option(
        None,
        "the teacher: a checkpoint of train.py or of combine (an ensemble, say), or a run's folder",
        metavar="PATH",
    )  # fmt: skip
    distill_loss: str = option(
        "similarity",
        "what follows the teacher: the similarities of the images of a batch; each descriptor, projected to the "
        "network's dimensions where the teacher has more; or both",
        choices=DISTILL_LOSSES,
    )
    distill_folder: tuple[Path, ...] | None = option(
        None, "folders of unlabelled images to learn from besides the train split's", unset="the train split alone"
    )
    distill_resize: tuple[int, int] | None = option(
        None, "height and width at which the teacher sees images, pixels", range=(_COUNT, _COUNT),
        unset="--resize", metavar="H W",
    )  # fmt: skip
    distill_batch_size: int = option(32, "images in a training step", range=at_least(2))
    distill_neighbours: int = option(
        1, "a batch has each of its images beside this many that the teacher finds most similar", range=at_least(0)
    )
    distill_passes: int = option(1, "how often an epoch goes through all images", range=_COUNT)
