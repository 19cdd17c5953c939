"""AlexNet (Krizhevsky et al., 2012) and VGG-16 (Simonyan and Zisserman, 2014), cut before their last pooling."""

from __future__ import annotations

from functools import partial

from torch import nn

from vgbench.models.backbones.pretrained import torchvision_model
from vgbench.models.backbones.stages import check_number
from vgbench.models.base import Backbone


class PlainTrunk(Backbone, nn.Sequential):
    """The convolutions up to the last one, whose responses are signed: its ReLU goes with the pooling."""

    kind = "map"

    def __init__(self, architecture: str, frozen: int, pretrain: str, *, freeze: int | None = None) -> None:
        """`freeze`: do not train this many convolutions, from the first (None: `frozen`). Raises UserError: fewer."""
        features = torchvision_model(architecture, pretrain).get_submodule("features")
        layers = list(features.children())[:-2]
        convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
        check_number("--freeze", freeze, 0, len(convolutions), architecture, "convolution")
        super().__init__(*layers)
        self.out_channels: int = convolutions[-1].out_channels
        for layer in convolutions[: frozen if freeze is None else freeze]:
            layer.requires_grad_(False)


# AlexNet trains from its third convolution, VGG-16 its last three.
alexnet = partial(PlainTrunk, "alexnet", 2)
vgg16 = partial(PlainTrunk, "vgg16", 10)
