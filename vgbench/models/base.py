"""What a backbone and an aggregation say of themselves; everything else reads these attributes and nothing besides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

from torch import Tensor, nn

from vgbench.errors import UserError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Networks that look at all images of a batch are described in batches of this many, as CricaVPR's authors test theirs.
MIXED_BATCH = 16


class Backbone(nn.Module):
    """Normalised images, float [B,3,H,W], to local features.

    One that is made of steps in a row says so by `steps`, and needs no `forward` of its own; what comes before its
    first trained step can then be computed once and kept (`--cache_frozen`). An nn.Sequential is one as it is.

    Attributes:
        out_channels: C, channels of the features.
        kind: their form: "map" [B,C,h,w], "tokens" [B,N,C], "map+token", a pair of [B,C,h,w] and [B,C], or "vector"
            [B,C]; "map+token+attention" has the attention [B,hw] of the class token too.
        kinds: the forms that it can give, where it has a choice, the one that it prefers first: `build_network` sets
            `kind` to the first of them that the aggregation takes. Empty: `kind` alone.
        l2_over: what an L2 normalisation before its tokens are pooled goes over: the "channels" of each token, or the
            "positions" of each channel (as in the Deep VG Benchmark).
        mean, std: of its pixels in 0..1, a channel each; ImageNet's if not said.
        multiple: the sides of its images are multiples of this many pixels.
        mixes_batch: whether an image's features depend on the other images of its batch. They are then described in
            batches of one fixed size, whatever `--infer_batch_size` says.
        mixed_batch: how many images such batches have: what its authors test with.
        as_it_is: whether it is never rewritten into a faster form for inference.
        shared: whether it is not copied either, because a copy would not work; it is then in eval mode afterwards.
        spare_keys: keys of its state dict that a file of weights may lack.
    """

    out_channels: int
    kind: str = "map"
    kinds: tuple[str, ...] = ()
    l2_over: str = "channels"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    multiple: int = 1
    mixes_batch: bool = False
    mixed_batch: int = MIXED_BATCH
    as_it_is: bool = False
    shared: bool = False
    spare_keys: tuple[str, ...] = ()

    def enter(self, images: Tensor) -> Tensor:
        """Return what the first step takes, [B,...], of normalised images [B,3,H,W].

        Raises:
            UserError: the images have a size that it does not take.
        """
        return images

    def steps(self) -> Sequence[nn.Module]:
        """Return the modules that follow one another, each of one tensor [B,...]; (): it is not made of such."""
        return tuple(self.children()) if isinstance(self, nn.Sequential) else ()

    def leave(self, features: Tensor, size: tuple[int, int]) -> Any:
        """Return what the last step gave, [B,...], in the form that `kind` says; `size`: the images', in pixels."""
        return features

    def forward(self, images: Tensor) -> Any:
        """Return the local features of normalised images [B,3,H,W], in the form that `kind` says."""
        steps = self.steps()
        if not steps:
            raise NotImplementedError(f"{type(self).__name__} has neither `steps` nor a `forward` of its own")
        features = self.enter(images)
        for step in steps:
            features = step(features)
        return self.leave(features, (images.shape[2], images.shape[3]))


class Aggregation(nn.Module):
    """Local features to descriptors, float32 [B,D].

    Attributes:
        descriptors_dim: D.
        takes: the forms of features that it takes: one, or a tuple of them (see `Backbone.kind`).
        needs: an attribute of the backbone without which it cannot work; it is set to True.
        places_l2: whether `--l2` says where the L2 normalisation around it sits.
        mixes_batch: as of `Backbone`.
        mixed_batch: how many images such batches have: what its authors test with.
        spare_keys: as of `Backbone`.
        reranked_by: the re-ranker (`--rerank`) that compares its local tokens, "" where it has none. It then has
            `token_dim` and `pair_tokens`, see `LocalTokens`.
        pair_parts: the names of its modules and parameters on which only re-ranking depends, no descriptor.
    """

    descriptors_dim: int
    takes: str | tuple[str, ...] = "map"
    needs: str | None = None
    places_l2: bool = False
    mixes_batch: bool = False
    mixed_batch: int = MIXED_BATCH
    spare_keys: tuple[str, ...] = ()
    reranked_by: str = ""
    pair_parts: tuple[str, ...] = ()


class LocalTokens(Protocol):
    """What an aggregation offers a re-ranker.

    Attributes:
        token_dim: C, numbers of a token.
    """

    token_dim: int

    def pair_tokens(self, features: Any) -> list[tuple[Tensor, Tensor]]:
        """Return what is kept of each image: where its tokens are, float [T,2], x and y as shares of width and height,
        and the tokens, float [T,C].

        Args:
            features: of B images, as the aggregation itself takes them.
        """


class PairNetwork(LocalTokens, Protocol):
    """The same, and a network that looks at the tokens of two images."""

    def pair_scores(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Return a score a pair, float32 [B], the larger the likelier the same place, of tokens [B,T,C] each."""

    def pair_logits(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Return the logit of "the same place" that training sees, float32 [B], of tokens [B,T,C] each."""


def as_backbone(name: str, module: nn.Module) -> Backbone:
    """Return a module as a backbone: one without the base is given the attributes that it does not declare, once.

    Args:
        name: what it is called, for messages.

    Raises:
        UserError: it is no module, or does not say its `out_channels`.
    """
    return cast(Backbone, _adapted(f"backbone {name}", module, Backbone, "out_channels"))


def as_aggregation(name: str, module: nn.Module) -> Aggregation:
    """Return a module as an aggregation, as `as_backbone` does; raises UserError without its `descriptors_dim`."""
    return cast(Aggregation, _adapted(f"aggregation {name}", module, Aggregation, "descriptors_dim"))


def declared(thing: Any, base: type[nn.Module]) -> dict[str, Any]:
    """Return what a module, a class or a function says of a base's attributes, and the base's defaults for the rest."""
    names = [name for name in base.__annotations__ if hasattr(base, name)]
    return {name: getattr(thing, name, getattr(base, name)) for name in names}


def _adapted(what: str, module: nn.Module, base: type[nn.Module], required: str) -> nn.Module:
    if not isinstance(module, nn.Module):
        raise UserError(f"{what}: is a {type(module).__name__}. Expected a torch.nn.Module")
    if not hasattr(module, required):
        raise UserError(
            f"{what}: says no {required}. Expected a module that declares what it gives; see "
            f"vgbench.models.base.{base.__name__}"
        )
    if not isinstance(module, base):
        for name, value in declared(module, base).items():
            if not hasattr(module, name):
                setattr(module, name, value)
    return module
