"""DINOv2's vision transformers (Oquab et al., 2023), without and with register tokens (Darcet et al., 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.backbones.pretrained import check_pretrain, load_published
from vgbench.models.backbones.stages import check_multiple, check_number
from vgbench.models.backbones.tokens import TokenTrunk, resized_positions

WEIGHTS = "https://dl.fbaipublicfiles.com/dinov2/dinov2_{size}14/dinov2_{size}14{registers}_pretrain.pth"
PATCH = 14
GRID = 37  # positions were learned for images of 518x518
REGISTERS = 4
MLP_RATIO = 4
NORM_EPS = 1e-6
# The published networks without registers were evaluated with this much added to the size of the grid before its
# ratio to the learned one is taken; those with registers with exact sizes, and smoothing.
OFFSET = 0.1
POSITIONS = ("published", "offset")
ATTENTION_TOO = "map+token+attention"
AGGREGATION_TOKENS = 8  # ImAge's (Lu et al., 2025)
MOST_TOKENS = 256


@dataclass(frozen=True)
class Size:
    """Channels, layers and attention heads; and whether the MLPs are gated."""

    dim: int
    depth: int
    heads: int
    gated: bool = False


SIZES = {
    "vits": Size(384, 12, 6),
    "vitb": Size(768, 12, 12),
    "vitl": Size(1024, 24, 16),
    "vitg": Size(1536, 40, 24, gated=True),
}


class Attention(nn.Module):
    """Multi-head self-attention over tokens [B,N,C]."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, tokens, dim))
        return projected

    def of_first(self, x: Tensor) -> Tensor:
        """Return how much the first of tokens [B,N,C] looks at each, [B,N]: shares of 1, summed over the heads."""
        batch, tokens, dim = x.shape
        q, k, _ = self.qkv(x).view(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        scores = torch.matmul(q[:, :, :1], k.transpose(2, 3)) * (dim // self.heads) ** -0.5
        shares: Tensor = scores.float().softmax(dim=-1).sum(dim=1)[:, 0]
        return shares


class MLP(nn.Module):
    """Two layers with a GELU between them, on every token."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, MLP_RATIO * dim)
        self.fc2 = nn.Linear(MLP_RATIO * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return projected


class SwiGLU(nn.Module):
    """An MLP whose hidden layer is gated by another (Shazeer, 2020), two thirds as wide, so that it costs the same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = (MLP_RATIO * dim * 2 // 3 + 7) // 8 * 8
        self.w12 = nn.Linear(dim, 2 * hidden)
        self.w3 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x).chunk(2, dim=-1)
        projected: Tensor = self.w3(F.silu(gate) * value)
        return projected


class LayerScale(nn.Module):
    """A learned factor for each channel (Touvron et al., 2021)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """A transformer layer; tokens [B,N,C] to the same."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(size.dim, eps=NORM_EPS)
        self.attn = Attention(size.dim, size.heads)
        self.ls1 = LayerScale(size.dim)
        self.norm2 = nn.LayerNorm(size.dim, eps=NORM_EPS)
        self.mlp = SwiGLU(size.dim) if size.gated else MLP(size.dim)
        self.ls2 = LayerScale(size.dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        y: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return y


class PatchEmbedding(nn.Module):
    """Images [B,3,H,W] to a map of patches [B,C,H/14,W/14]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, PATCH, stride=PATCH)

    def forward(self, images: Tensor) -> Tensor:
        patches: Tensor = self.proj(images)
        return patches


class DINOv2(TokenTrunk):
    """[B,3,H,W], both sides multiples of 14, to the patches' map [B,C,H/14,W/14] and the class token [B,C].

    The map alone and the tokens [B,1+HW/196,C] can be had too, and the attention [B,HW/196] of the last layer's class
    token to the patches. The state dict has the published files' keys.
    """

    kinds = (*TokenTrunk.kinds, ATTENTION_TOO)

    def __init__(
        self,
        size: str,
        registers: int,
        pretrain: str,
        *,
        unfreeze_blocks: int = 4,
        norm_layer: bool = True,
        positions: str = "published",
        num_tokens: int = AGGREGATION_TOKENS,
    ) -> None:
        """Build it.

        Args:
            size: "vits", "vitb", "vitl" or "vitg".
            registers: how many register tokens; the published networks have none or 4.
            pretrain: "imagenet" (its published weights, though those were learned from LVD-142M) or "none".
            unfreeze_blocks: train only this many transformer layers, from the last, and the norm that follows them; 4
                as in SALAD (Izquierdo and Civera, 2024), 0 trains nothing.
            norm_layer: apply the final norm. Where it is not applied it is kept all the same, as files of such networks
                may have its weights (BoQ's has them) or not.
            positions: how learned positions become those of another grid: "published", as its authors' code for this
                network does, or "offset", as their code for networks without registers does. ImAge (Lu et al., 2025)
                trains one with registers in the second way.
            num_tokens: of the tokens that aggregate, where the aggregation needs them (ImAge). They are put among the
                others before the first layer that is trained.

        Raises:
            UserError: there are fewer layers, the weights cannot be had, or a word that is not known.
        """
        name = f"dinov2_{size}14" + ("_reg" if registers else "")
        shape = SIZES[size]
        check_pretrain(name, pretrain)
        check_number("--unfreeze_blocks", unfreeze_blocks, 0, shape.depth, name, "number of layers")
        if positions not in POSITIONS:
            raise UserError(f"{name}: positions {positions} are not known. Expected one of {', '.join(POSITIONS)}")
        super().__init__()
        self.name = name
        self.multiple = PATCH
        self.out_channels = shape.dim
        self.patch_embed = PatchEmbedding(shape.dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + GRID**2, shape.dim))
        # Stood for hidden patches where it was learned; here it is only part of the published files.
        self.mask_token = nn.Parameter(torch.zeros(1, shape.dim))
        self.register_tokens = nn.Parameter(torch.zeros(1, registers, shape.dim)) if registers else None
        self.blocks = nn.ModuleList([Block(shape) for _ in range(shape.depth)])
        self.norm = nn.LayerNorm(shape.dim, eps=NORM_EPS)
        self.norm_layer = norm_layer
        self.with_offset = positions == "offset" or not registers
        self.learnable_aggregation_tokens: nn.Parameter | None = None
        self.insertion_pos, self._token_count = shape.depth - unfreeze_blocks, num_tokens
        # Files of trained networks may be without it (MegaLoc's is).
        self.spare_keys = ("mask_token",) if norm_layer else ("mask_token", "norm.weight", "norm.bias")
        if pretrain == "imagenet":
            url = WEIGHTS.format(size=size, registers=f"_reg{registers}" if registers else "")
            load_published(self, name, url)
        else:
            self._draw()
        self.requires_grad_(False)
        if unfreeze_blocks:
            self.blocks[-unfreeze_blocks:].requires_grad_(True)
            self.norm.requires_grad_(norm_layer)

    @property
    def aggregation_tokens(self) -> bool:
        """Whether there are tokens that aggregate: [B,num_tokens*C] of them are then all that is handed on."""
        return self.learnable_aggregation_tokens is not None

    @aggregation_tokens.setter
    def aggregation_tokens(self, wanted: bool) -> None:
        if wanted == self.aggregation_tokens:
            return
        assert wanted, "they are part of the network once they are there"
        if self.insertion_pos == len(self.blocks):
            raise UserError(f"--unfreeze_blocks 0: no layer of {self.name} would see its tokens. Expected 1 or more")
        check_number("num_tokens", self._token_count, 1, MOST_TOKENS, self.name, "a few")
        tokens = torch.empty(1, self._token_count, self.norm.normalized_shape[0])
        self.learnable_aggregation_tokens = nn.Parameter(nn.init.normal_(tokens, std=1e-6))
        self.out_channels *= self._token_count
        self.kinds, self.kind = ("vector",), "vector"

    def _draw(self) -> None:
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for tokens in (self.cls_token, self.register_tokens):
            if tokens is not None:
                nn.init.normal_(tokens, std=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def enter(self, images: Tensor) -> Tensor:
        """Return tokens [B,1+R+hw,C] of images [B,3,H,W].

        Positions are interpolated from those of 518x518; raises UserError if 14 does not divide a side.
        """
        check_multiple(self.name, images.shape[2], images.shape[3], PATCH, "its patches are 14x14")
        height, width = images.shape[2] // PATCH, images.shape[3] // PATCH
        patches = self.patch_embed(images).flatten(2).transpose(1, 2) + self._positions(height, width)
        first = [self.cls_token + self.pos_embed[:, :1]]
        if self.register_tokens is not None:
            first.append(self.register_tokens)
        return torch.cat(
            [*(token.expand(images.shape[0], -1, -1).to(patches.dtype) for token in first), patches], dim=1
        )

    def steps(self) -> list[nn.Module]:
        """Return the layers before `leave`; none beside a branch, or where tokens are put among the others."""
        if hasattr(self, "side") or self.learnable_aggregation_tokens is not None:
            return []
        layers = list(self.blocks.children())
        return layers[:-1] if self.kind == ATTENTION_TOO else layers

    def leave(self, features: Tensor, size: tuple[int, int]) -> Tensor | tuple[Tensor, ...]:
        """Return tokens [B,1+R+hw,C] in the form that `kind` says."""
        height, width = size[0] // PATCH, size[1] // PATCH
        if self.kind == ATTENTION_TOO:
            return self._with_attention(features, height, width)
        return self.hand_on(self.norm(features) if self.norm_layer else features, height, width)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return a map [B,C,h,w], and the class token [B,C] where it is asked for, of images [B,3,H,W]."""
        if hasattr(self, "side") and self.kind in ("vector", ATTENTION_TOO):
            raise UserError(
                f"--adapter multiconv, parallel_multiconv and lopa: give no {self.kind} of {self.name}. Expected "
                "another --adapter or --aggregation"
            )
        if self.learnable_aggregation_tokens is not None:
            return self._aggregated(self.enter(images), self.learnable_aggregation_tokens)
        if hasattr(self, "side"):
            size = images.shape[2], images.shape[3]
            return self.leave(self.encode(self.enter(images), size[0] // PATCH, size[1] // PATCH), size)
        found: Tensor | tuple[Tensor, ...] = super().forward(images)
        return found

    def encode(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Return what the layers make of tokens [B,1+R+hw,C], in the same shape, before the last norm."""
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

    def _aggregated(self, tokens: Tensor, more: Tensor) -> Tensor:
        """Return what tokens [1,A,C] among the others have become, [B,A*C] (ImAge: Lu et al., 2025)."""
        for index, block in enumerate(self.blocks):
            if index == self.insertion_pos:
                tokens = torch.cat([more.expand(tokens.shape[0], -1, -1).to(tokens.dtype), tokens], dim=1)
            tokens = block(tokens)
        aggregated = tokens[:, : more.shape[1]]
        return (self.norm(aggregated) if self.norm_layer else aggregated).flatten(1)

    def _with_attention(self, tokens: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the map, the class token, and its attention [B,hw] to the patches in the last layer, of its tokens."""
        last = cast(Block, self.blocks[-1])
        attention = last.attn.of_first(last.norm1(tokens))[:, -height * width :]
        tokens = last(tokens)
        features, token = self.hand_on(self.norm(tokens) if self.norm_layer else tokens, height, width)
        return features, token, attention

    def _positions(self, height: int, width: int) -> Tensor:
        learned = self.pos_embed[:, 1:]
        if self.with_offset:
            return resized_positions(learned, height, width, antialias=False, offset=OFFSET)
        return resized_positions(learned, height, width, antialias=True)


dinov2_vits14 = partial(DINOv2, "vits", 0)
dinov2_vitb14 = partial(DINOv2, "vitb", 0)
dinov2_vitl14 = partial(DINOv2, "vitl", 0)
dinov2_vitg14 = partial(DINOv2, "vitg", 0)
dinov2_vits14_reg = partial(DINOv2, "vits", REGISTERS)
dinov2_vitb14_reg = partial(DINOv2, "vitb", REGISTERS)
dinov2_vitl14_reg = partial(DINOv2, "vitl", REGISTERS)
dinov2_vitg14_reg = partial(DINOv2, "vitg", REGISTERS)
