"""Compact convolutional transformer, CCT-14/7x2 for 384x384 images (Hassani et al., 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.backbones.pretrained import check_pretrain, published_weights
from vgbench.models.backbones.stages import check_number
from vgbench.models.base import Backbone

WEIGHTS = "http://ix.cs.uoregon.edu/~alih/compact-transformers/checkpoints/finetuned/cct_14_7x2_384_imagenet.pth"
IMAGE_SIZE, STRIDE = 384, 16
BLOCKS, HEADS, DIM, MLP_DIM = 14, 6, 384, 1152
ATTENTION_DROPOUT, STOCHASTIC_DEPTH = 0.1, 0.1


class Tokenizer(nn.Module):
    """Images [B,3,384,384] to tokens [B,576,384], by two convolutions with pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_layers = nn.Sequential(_stem(3, 64), _stem(64, DIM))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.conv_layers(images)
        return features.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention over tokens [B,N,DIM]."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(DIM, 3 * DIM, bias=False)
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, HEADS, DIM // HEADS).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=ATTENTION_DROPOUT if self.training else 0.0)
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, tokens, DIM))
        return projected


class Block(nn.Module):
    """A transformer layer that normalises before the attention and after its sum."""

    def __init__(self, drop: float) -> None:
        """`drop`: the chance, in training, that an image skips a branch (Huang et al., 2016)."""
        super().__init__()
        self.pre_norm = nn.LayerNorm(DIM)
        self.self_attn = Attention()
        self.linear1 = nn.Linear(DIM, MLP_DIM)
        self.norm1 = nn.LayerNorm(DIM)
        self.linear2 = nn.Linear(MLP_DIM, DIM)
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self._skip(self.self_attn(self.pre_norm(x))))
        return x + self._skip(self.linear2(F.gelu(self.linear1(x))))

    def _skip(self, branch: Tensor) -> Tensor:
        if not self.training or self.drop == 0:
            return branch
        kept = torch.rand(len(branch), 1, 1, device=branch.device) >= self.drop
        return branch * kept / (1 - self.drop)


class Encoder(nn.Module):
    """The transformer, with its positions, its pooling and its last norm."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.positional_emb = nn.Parameter(torch.zeros(1, (IMAGE_SIZE // STRIDE) ** 2, DIM))
        nn.init.trunc_normal_(self.positional_emb, std=0.2)
        self.attention_pool = nn.Linear(DIM, 1)
        # A cut network keeps the chances of the whole one.
        self.blocks = nn.ModuleList([Block(STOCHASTIC_DEPTH * index / (BLOCKS - 1)) for index in range(blocks)])
        self.norm = nn.LayerNorm(DIM)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def pool(self, tokens: Tensor) -> Tensor:
        """Return the average of tokens [B,N,C], weighted by learned attention, as [B,C]."""
        weights = self.attention_pool(tokens).float().softmax(dim=1)
        pooled: Tensor = (weights * tokens).sum(dim=1)
        return pooled


class CCT384(Backbone):
    """Images [B,3,384,384] to tokens [B,576,384], or pooled to [B,384] once `pool_sequence` is set."""

    out_channels = DIM
    pool_sequence = False
    class_token = False  # it has none: for `cls`, the Deep VG Benchmark takes the first patch's token
    l2_over = "positions"  # as in the Deep VG Benchmark, which normalises tokens along the same dimension as maps

    def __init__(self, pretrain: str, *, trunc_te: int | None = None, freeze_te: int | None = None) -> None:
        """Build it.

        Args:
            pretrain: "imagenet" or "none".
            trunc_te: keep this many of the 14 transformer layers, from the first.
            freeze_te: train nothing but the transformer layers after this one, counted from 0 (-1: all of them).

        Raises:
            UserError: there are no such layers, or the weights cannot be had.
        """
        check_pretrain("cct384", pretrain)
        check_number("--trunc_te", trunc_te, 1, BLOCKS, "cct384", "layer")
        kept = trunc_te or BLOCKS
        check_number("--freeze_te", freeze_te, -1, kept - 1, "cct384", "layer")
        super().__init__()
        self.tokenizer = Tokenizer()
        self.classifier = Encoder(kept)
        if pretrain == "imagenet":
            weights = published_weights("cct384", WEIGHTS)
            self.load_state_dict({key: weights[key] for key in self.state_dict()})
        if freeze_te is not None:
            self.requires_grad_(False)
            for block in self.classifier.blocks[freeze_te + 1 :]:
                block.requires_grad_(True)

    @property
    def kind(self) -> str:  # type: ignore[override]  # it follows from `pool_sequence`
        return "vector" if self.pool_sequence else "tokens"

    def enter(self, images: Tensor) -> Tensor:
        """Return tokens [B,N,C] of images [B,3,H,W]; raises UserError for another size, as positions are learned."""
        if tuple(images.shape[2:]) != (IMAGE_SIZE, IMAGE_SIZE):
            raise UserError(
                f"--backbone cct384: the images are {images.shape[2]}x{images.shape[3]}. "
                f"Expected {IMAGE_SIZE}x{IMAGE_SIZE}; use --resize {IMAGE_SIZE} {IMAGE_SIZE}"
            )
        tokens: Tensor = self.tokenizer(images)
        return tokens + self.classifier.positional_emb

    def steps(self) -> list[nn.Module]:
        """Return the transformer's layers."""
        return list(self.classifier.blocks.children())

    def leave(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the tokens [B,N,C] after the last norm, or what they are pooled to, [B,C]."""
        tokens: Tensor = self.classifier.norm(features)
        return self.classifier.pool(tokens) if self.pool_sequence else tokens


def _stem(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(conv.weight)
    return nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1))
