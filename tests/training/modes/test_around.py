"""What a way to train around another hands on."""

from __future__ import annotations

from pathlib import Path

import torch
from recipes import network_of, recipe_of
from tiny_city import write_image

from vgbench.training.modes.around import ModeAround
from vgbench.training.modes.base import Tells
from vgbench.training.modes.domain import DomainMode
from vgbench.training.modes.domain_classifier import DomainOptions
from vgbench.training.modes.table import build_mode


class Inner:
    """A mode that tells something of everything."""

    images, rounds_per_epoch, calls_apart = "images", 3, True

    def numbers(self) -> dict[str, float]:
        return {"loss_inner": 0.5}

    def pictures(self) -> dict[str, torch.Tensor]:
        return {"seen": torch.ones(1)}

    def optimizers(self, epoch: int) -> tuple[int]:
        return (epoch,)

    def state_dict(self) -> dict[str, int]:
        return {"kept": 4}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.loaded = state


def test_all_that_is_not_changed_is_the_inner_modes() -> None:
    inner = Inner()
    mode = ModeAround(inner)
    assert (mode.images, mode.rounds_per_epoch, mode.calls_apart) == ("images", 3, True)
    assert mode.numbers() == {"loss_inner": 0.5} and list(mode.pictures()) == ["seen"]
    assert mode.optimizers(7) == (7,) and mode.state_dict() == {"kept": 4}
    mode.load_state_dict({"kept": 5})
    assert inner.loaded == {"kept": 5}


def test_numbers_come_through_a_domain_classifier(tiny_dataset: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "night", 0, 0, 1.0)
    recipe = recipe_of(tiny_dataset, "places", network=network_of())
    mode = DomainMode(build_mode(recipe), DomainOptions(grl_folder=tmp_path / "night"), recipe)
    assert isinstance(mode, Tells) and mode.numbers() == {} and not mode.calls_apart
    mode.mode = Inner()  # a joint mode, say, or codes that learn
    assert mode.numbers() == {"loss_inner": 0.5} and mode.calls_apart
