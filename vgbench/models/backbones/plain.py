"""AlexNet (Krizhevsky et al., 2012) and VGG-16 (Simonyan and Zisserman, 2014), cut before their last pooling."""

from __future__ import annotations

from functools import partial

from torch import nn

from vgbench.models.backbones.pretrained import torchvision_model


class PlainTrunk(nn.Sequential):
    """The convolutions up to the last one, whose responses are signed: its ReLU goes with the pooling."""

    kind = "map"

    def __init__(self, architecture: str, frozen: int, pretrain: str) -> None:
        """`frozen`: how many of the layers are not trained; counted from the end if negative."""
        features = torchvision_model(architecture, pretrain).get_submodule("features")
        layers = list(features.children())[:-2]
        super().__init__(*layers)
        self.out_channels: int = [layer for layer in layers if isinstance(layer, nn.Conv2d)][-1].out_channels
        for layer in layers[:frozen]:
            layer.requires_grad_(False)


# AlexNet trains from its third convolution, VGG-16 its last three.
alexnet = partial(PlainTrunk, "alexnet", 5)
vgg16 = partial(PlainTrunk, "vgg16", -5)
