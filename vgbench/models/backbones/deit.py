"""DeiT with its distillation token (Touvron et al., 2021), as R2Former (Zhu et al., 2023) reads it."""

from __future__ import annotations

from functools import partial
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from vgbench.errors import UserError, in_short
from vgbench.models.backbones.pretrained import check_pretrain
from vgbench.models.backbones.stages import check_multiple, check_number
from vgbench.models.base import Backbone

PATCH = 16
GRID = (30, 40)  # positions are of the patches of an image of 480x640
EARLIER = "earlier map+2 tokens+attention"


class DeiT(Backbone):
    """[B,3,H,W], both sides multiples of 16, to what R2Former takes.

    That is the sequence before the last layer, without its last two patches, as a map [B,C,h,w]; the class and the
    distillation token after it, [B,2,C]; and the attention [B,hw] of the last layer from these two to the patches,
    summed over them and the heads.
    """

    kind = EARLIER

    def __init__(self, name: str, pretrain: str, *, unfreeze_blocks: int | None = None) -> None:
        """Build it.

        Args:
            name: as timm calls it, without the end of the name that says which weights.
            pretrain: "imagenet" or "none".
            unfreeze_blocks: train only this many transformer layers, from the last, and the norm; None trains all.

        Raises:
            UserError: there are fewer layers, or the weights cannot be had.
        """
        check_pretrain(name, pretrain)
        super().__init__()
        self.name, self.multiple = name, PATCH
        size = tuple(cells * PATCH for cells in GRID)
        try:
            model: Any = timm.create_model(name, pretrained=pretrain == "imagenet", num_classes=0, img_size=size)
        except Exception as error:  # whatever fetching its weights raises
            raise UserError(
                f"--backbone {name}: its ImageNet weights cannot be fetched ({in_short(error)}). Expected a network to "
                "fetch them from; use --pretrain none"
            ) from error
        self.model, self.out_channels = model, int(model.embed_dim)
        check_number("--unfreeze_blocks", unfreeze_blocks, 0, len(model.blocks), name, "number of layers")
        if unfreeze_blocks is not None:
            self.requires_grad_(False)
            model.blocks[len(model.blocks) - unfreeze_blocks :].requires_grad_(True)
            model.norm.requires_grad_(unfreeze_blocks > 0)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return map, tokens and attention; raises UserError for sides that 16 does not divide."""
        check_multiple(self.name, images.shape[2], images.shape[3], PATCH, "its patches are 16x16")
        height, width = images.shape[2] // PATCH, images.shape[3] // PATCH
        model, batch = self.model, images.shape[0]
        patches = model.patch_embed.proj(images).flatten(2).transpose(1, 2)
        first = torch.cat([model.cls_token, model.dist_token], dim=1).expand(batch, -1, -1)
        tokens = torch.cat([first, patches], dim=1) + self._positions(height, width)
        for block in model.blocks[:-1]:
            tokens = block(tokens)
        last = model.blocks[-1]
        attention = _attention_of_two(last.attn, last.norm1(tokens))
        # Its authors' code counts from the class token here, so each cell has what stands two places before it; the
        # released weights were trained with that.
        earlier = tokens[:, :-2].transpose(1, 2).reshape(batch, -1, height, width)
        return earlier, model.norm(last(tokens)[:, :2]), attention

    def _positions(self, height: int, width: int) -> Tensor:
        """Return those of the two tokens and of the patches, [1,2+hw,C].

        Another size than the learned one is cut from the middle of the learned grid where a square of its long side
        fits into that, and else from the middle of the grid stretched to such a square, as its authors' code does.
        """
        learned = self.model.pos_embed
        grid = learned[:, 2:].unflatten(1, GRID)
        side = max(height, width)
        if (height, width) != GRID and side > min(GRID):
            grid = _stretched(grid, side)
        rows, columns = grid.shape[1:3]
        if (height, width) != GRID:
            top, left = rows // 2 - height // 2, columns // 2 - width // 2
            grid = grid[:, top : top + height, left : left + width]
        return torch.cat([learned[:, :2], grid.flatten(1, 2)], dim=1)


def _stretched(grid: Tensor, side: int) -> Tensor:
    """Return positions [1,h,w,C] bicubically stretched to [1,side,side,C].

    They are then scaled around the one in the middle, so that the one h // 2 rows above it is as far from it as it was.
    """
    height, width = grid.shape[1:3]
    wide = F.interpolate(grid.permute(0, 3, 1, 2).float(), size=(side, side), mode="bicubic").permute(0, 2, 3, 1)
    middle, centre = wide[:, side // 2, side // 2], grid[:, height // 2, width // 2]
    before = (grid[:, 0, width // 2] - centre).float().norm(dim=1)
    now = (wide[:, side // 2 - height // 2, side // 2] - middle).norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
    scaled: Tensor = (wide - middle[:, None, None]) * (before / now)[:, None, None, None] + middle[:, None, None]
    return scaled.to(grid.dtype)


def _attention_of_two(attention: Any, tokens: Tensor) -> Tensor:
    """Return how much the first two of tokens [B,2+N,C] look at each of the others, summed: float32 [B,N]."""
    qkv = attention.qkv(tokens).unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    scores = torch.matmul(qkv[0][:, :, :2], qkv[1].transpose(2, 3)) * attention.scale
    shares: Tensor = scores.float().softmax(dim=-1)[..., 2:].sum(dim=(1, 2))
    return shares


deit_small = partial(DeiT, "deit_small_distilled_patch16_224")
