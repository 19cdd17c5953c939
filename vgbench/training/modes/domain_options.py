"""What a user can set about domain-adversarial training (Ganin and Lempitsky, 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vgbench.options import Options, at_least, option

_COUNT, _FROM_0 = at_least(1), at_least(0)


@dataclass(frozen=True)
class DomainOptions(Options, needs="grl_folder"):
    """Descriptors that do not tell the training images' domain from that of a folder of unlabelled images.

    Raises:
        UserError: a value is out of its range.
    """

    grl_folder: Path | None = option(
        None, "train against a domain classifier with gradient reversal: the folder of unlabelled target images"
    )
    grl_weight: float = option(0.1, "weight of the reversed gradient once it is fully grown", range=_FROM_0)
    grl_batch_size: int = option(4, "target images in a training step", range=_COUNT)
    grl_ramp_epochs: float = option(
        5.0, "epochs in which the reversed gradient grows from 0 to its weight", range=_FROM_0
    )
    grl_lr: float = option(1e-4, "learning rate of the domain classifier (Adam)", range=_FROM_0)
    grl_hidden: int = option(256, "channels of the domain classifier's two hidden layers", range=_COUNT)
