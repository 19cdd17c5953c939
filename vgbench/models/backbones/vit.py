"""Vision transformer ViT-B/16 (Dosovitskiy et al., 2021), from torchvision, for images of any size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vgbench.models.backbones.pretrained import torchvision_model
from vgbench.models.backbones.stages import check_multiple, check_number
from vgbench.models.backbones.tokens import TokenTrunk, resized_positions

NAME = "vit_b_16"
PATCH, LAYERS = 16, 12
LARGE_SIDE = 384  # of the images of the larger of the two networks that the Deep VG Benchmark knows


class ViT(TokenTrunk):
    """[B,3,H,W], both sides multiples of 16, to tokens [B,1+HW/256,768], the class token first; or to their map."""

    kind = "tokens"

    def __init__(self, pretrain: str, *, trunc_te: int | None = None, freeze_te: int | None = None) -> None:
        """Build it.

        Args:
            pretrain: "imagenet" or "none".
            trunc_te: keep this many of the 12 transformer layers, from the first.
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

    def enter(self, images: Tensor) -> Tensor:
        """Return tokens [B,1+N,C] of images [B,3,H,W], whose positions are interpolated from those of 224x224.

        Raises:
            UserError: 16 does not divide a side.
        """
        check_multiple(NAME, images.shape[2], images.shape[3], PATCH, "its patches are 16x16")
        height, width = images.shape[2] // PATCH, images.shape[3] // PATCH
        patches = self.conv_proj(images).flatten(2).transpose(1, 2)
        of_class, of_patches = self.pos_embedding[:, :1], self.pos_embedding[:, 1:]
        patches = patches + resized_positions(of_patches, height, width, antialias=True)
        token = (self.class_embedding + of_class).expand(images.shape[0], -1, -1)
        return torch.cat([token.to(patches.dtype), patches], dim=1)

    def steps(self) -> list[nn.Module]:
        """Return the transformer's layers."""
        return list(self.layers.children())

    def leave(self, features: Tensor, size: tuple[int, int]) -> Tensor | tuple[Tensor, Tensor]:
        """Return tokens [B,1+N,C] in the form that `kind` says, after the last norm."""
        return self.hand_on(self.norm(features), size[0] // PATCH, size[1] // PATCH)


class DeepVGViT(ViT):
    """ViT-B/16 as the Deep VG Benchmark builds it: `gem` and `netvlad` get the patches' tokens, `cls` the class token.

    Its published networks add 1e-12 to the variance of a LayerNorm, and learn positions of their own for 384x384.
    """

    kinds = ("tokens", "map+token", "map")
    class_token = False
    l2_over = "positions"

    def __init__(
        self,
        pretrain: str,
        *,
        trunc_te: int | None = None,
        freeze_te: int | None = None,
        resize: Sequence[int] | None = None,
    ) -> None:
        """`resize`: height and width of the images in pixels; 384x384 has 24x24 positions to learn, any other 14x14.

        The other options and what is raised are those of `ViT`.
        """
        super().__init__(pretrain, trunc_te=trunc_te, freeze_te=freeze_te)
        for layer in self.modules():
            if isinstance(layer, nn.LayerNorm):
                layer.eps = 1e-12
        if resize is not None and tuple(resize) == (LARGE_SIDE, LARGE_SIDE):
            learned, side = self.pos_embedding, LARGE_SIDE // PATCH
            patches = resized_positions(learned[:, 1:], side, side, antialias=True)
            larger = torch.cat([learned[:, :1], patches], dim=1).detach()
            self.pos_embedding = nn.Parameter(larger, requires_grad=learned.requires_grad)

    def hand_on(self, tokens: Tensor, height: int, width: int) -> Tensor | tuple[Tensor, Tensor]:
        """Return tokens [B,N,C] without the class token, which is the first, unless the aggregation wants it."""
        handed = super().hand_on(tokens, height, width)
        return handed[:, 1:] if isinstance(handed, Tensor) and handed.dim() == 3 and not self.class_token else handed
