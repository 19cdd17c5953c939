"""What backbones made of stages share: where they are cut, which stages are not trained, and what a person is told."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from vgbench.errors import UserError
from vgbench.models.base import Backbone


class StageTrunk(Backbone):
    """Stages in a row: images [B,3,H,W] to a map [B,C,h,w]. The stem belongs to the first stage."""

    kind = "map"

    def __init__(
        self,
        backbone: str,
        stages: Sequence[Sequence[nn.Module]],
        default_freeze: int,
        cut: int | None,
        freeze: int | None,
        pixels: tuple[float, float] | None = None,
    ) -> None:
        """Keep the first `cut` stages (None: all) and do not train the first `freeze`.

        `freeze` None is `default_freeze`, but the last stage that is kept is then trained; 0 trains everything.

        Args:
            backbone: its name, for messages.
            stages: the layers of each stage.
            pixels: mean and standard deviation of the pixels that its weights were trained on, if not ImageNet's.

        Raises:
            UserError: there are no such stages.
        """
        check_number("--cut", cut, 1, len(stages), backbone, "stage")
        kept = stages[:cut]
        check_number("--freeze", freeze, 0, len(kept), backbone, "stage")
        super().__init__()
        self.stages = nn.Sequential(*[nn.Sequential(*layers) for layers in kept])
        self.stages[: frozen_stages(freeze, default_freeze, len(kept))].requires_grad_(False)
        self.out_channels = width(self.stages)
        if pixels is not None:
            self.mean, self.std = (pixels[0],) * 3, (pixels[1],) * 3

    def steps(self) -> list[nn.Module]:
        """Return the layers of all stages."""
        return [layer for stage in self.stages.children() for layer in stage.children()]


def frozen_stages(freeze: int | None, default: int, kept: int) -> int:
    """Return how many stages are not trained: by default not the last one of those that are kept."""
    return min(default, kept - 1) if freeze is None else freeze


def width(module: nn.Module) -> int:
    """Return the channels that come out of the last convolution or linear layer of `module`."""
    last = [layer for layer in module.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))][-1]
    return last.out_channels if isinstance(last, nn.Conv2d) else last.out_features


def check_number(option: str, value: int | None, lowest: int, highest: int, backbone: str, what: str) -> None:
    """Raise UserError if `value` is given and there is no such `what` ("layer", "stage") of the backbone."""
    if value is not None and not lowest <= value <= highest:
        raise UserError(
            f"{option} {value}: {backbone} has no such {what}. Expected a number from {lowest} to {highest}"
        )


def check_multiple(backbone: str, height: int, width: int, step: int, why: str) -> None:
    """Raise UserError unless both sides of the images are multiples of `step` pixels, with a size that is."""
    if height % step or width % step or not (height and width):
        near = [max(round(side / step), 1) * step for side in (height, width)]
        raise UserError(
            f"--backbone {backbone}: the images are {height}x{width}. Expected sides that are multiples of {step} "
            f"({why}); use --resize {near[0]} {near[1]}"
        )
