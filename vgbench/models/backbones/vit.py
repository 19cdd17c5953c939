"""Vision transformer ViT-B/16 (Dosovitskiy et al., 2021), from torchvision, for images of any size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vgbench.models.backbones.pretrained import torchvision_model
from vgbench.models.backbones.stages import check_multiple, check_number
from vgbench.models.backbones.tokens import TokenTrunk, resized_positions

NAME = "vit_b_16"
PATCH, LAYERS = 16, 12


class ViT(TokenTrunk):
    """[B,3,H,W], both sides multiples of 16, to tokens [B,1+HW/256,768], the class token first; or to their map."""

    kind = "tokens"

    def __init__(self, pretrain: str, *, trunc_te: int | None = None, freeze_te: int | None = None) -> None:
        """Build it.

        Args:
            pretrain: "imagenet" or "none".
            trunc_te: keep so many of the 12 transformer layers.
            freeze_te: train nothing but the transformer layers after this one, counted from 0 (-1: all of them).

        Raises:
            UserError: there are no such layers, or the weights cannot be had.
        """
        check_number("--trunc_te", trunc_te, 1, LAYERS, NAME, "layer")
        kept = trunc_te or LAYERS
        check_number("--freeze_te", freeze_te, -1, kept - 1, NAME, "layer")
        model = torchvision_model(NAME, pretrain)
        super().__init__()
        self.multiple = PATCH
        self.conv_proj = model.get_submodule("conv_proj")
        self.class_embedding = model.get_parameter("class_token")
        self.pos_embedding = model.get_parameter("encoder.pos_embedding")
        self.layers = nn.Sequential(*list(model.get_submodule("encoder.layers").children())[:kept])
        self.norm = model.get_submodule("encoder.ln")
        self.out_channels = self.pos_embedding.shape[2]
        if freeze_te is not None:
            self.requires_grad_(False)
            self.layers[freeze_te + 1 :].requires_grad_(True)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Raise UserError for images of another size; their positions are interpolated from those of 224x224."""
        check_multiple(NAME, images.shape[2], images.shape[3], PATCH, "its patches are 16x16")
        height, width = images.shape[2] // PATCH, images.shape[3] // PATCH
        patches = self.conv_proj(images).flatten(2).transpose(1, 2)
        of_class, of_patches = self.pos_embedding[:, :1], self.pos_embedding[:, 1:]
        patches = patches + resized_positions(of_patches, height, width, antialias=True)
        token = (self.class_embedding + of_class).expand(len(images), -1, -1)
        tokens: Tensor = self.norm(self.layers(torch.cat([token.to(patches.dtype), patches], dim=1)))
        return self.hand_on(tokens, height, width)
