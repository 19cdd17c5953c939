"""Any network of the timm collection (Wightman, 2019) as a backbone: `timm:<name>`."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from vgbench.errors import UserError
from vgbench.models.backbones.pretrained import check_pretrain, fetch
from vgbench.models.backbones.stages import check_multiple, check_number
from vgbench.models.backbones.tokens import TokenTrunk
from vgbench.models.base import Backbone


@dataclass(frozen=True)
class Facts:
    """What a network is called here, and the images that its weights were made for: sides in pixels, and statistics."""

    name: str
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class TimmMap(Backbone):
    """A network whose features are a map: [B,3,H,W] to [B,C,h,w]."""

    kind = "map"

    def __init__(self, facts: Facts, model: nn.Module, channels: int, channels_last: bool) -> None:
        super().__init__()
        self.facts, self.mean, self.std = facts, facts.mean, facts.std
        self.model = model
        self.out_channels = channels
        self.channels_last = channels_last

    def forward(self, images: Tensor) -> Tensor:
        """Return local features of images [B,3,H,W]; raises UserError if the network does not take their size."""
        features = _features(self.facts, self.model, images)
        return features.permute(0, 3, 1, 2) if self.channels_last else features


class TimmPatches(TimmMap):
    """A network whose features are a sequence without a class token, given as the map that they are of."""

    def __init__(self, facts: Facts, model: nn.Module, channels: int, stride: int, prefix: int) -> None:
        """`stride`: pixels from patch to patch. `prefix`: how many tokens come before the patches."""
        super().__init__(facts, model, channels, channels_last=False)
        self.stride = self.multiple = stride
        self.prefix = prefix

    def forward(self, images: Tensor) -> Tensor:
        """Return local features of images [B,3,H,W]; raises UserError if the network does not take their size."""
        height, width = _grid(self.facts, images, self.stride)
        patches = _features(self.facts, self.model, images)[:, self.prefix :]
        return patches.transpose(1, 2).reshape(images.shape[0], -1, height, width)


class TimmTokens(TokenTrunk):
    """A transformer with a class token: [B,3,H,W] to tokens [B,1+hw,C], a map [B,C,h,w], or a map and a token [B,C]."""

    kind = "tokens"

    def __init__(self, facts: Facts, model: nn.Module, channels: int, stride: int) -> None:
        """`stride`: pixels from patch to patch."""
        super().__init__()
        self.facts, self.mean, self.std = facts, facts.mean, facts.std
        self.model = model
        self.out_channels = channels
        self.stride = self.multiple = stride

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return local features of images [B,3,H,W]; raises UserError if the network does not take their size."""
        height, width = _grid(self.facts, images, self.stride)
        return self.hand_on(_features(self.facts, self.model, images), height, width)


def timm_backbone(
    name: str,
    architecture: str,
    pretrain: str,
    *,
    cut: int | None = None,
    freeze: int | None = None,
    unfreeze_blocks: int | None = None,
) -> TimmMap | TimmTokens:
    """Return a network of timm without its classifier; its features are a map or, with a class token, tokens.

    Args:
        name: what it is called here.
        architecture: as `timm.list_models()` knows it, with or without a tag (`resnet50.a1_in1k`).
        pretrain: "imagenet" (the weights of that name and tag, whatever they were learned from) or "none".
        cut: keep this many of the stages whose features timm gives, from the first, and give the map of the last.
        freeze: do not train this many stages, from the first, and what comes before them (None: train everything).
        unfreeze_blocks: train only this many layers of a transformer, counted from the last, and the norm after them.

    Raises:
        UserError: timm is not installed or does not know the name; no such stages or layers; or no weights.
    """
    check_pretrain(name, pretrain)
    extra: dict[str, Any] = {"num_classes": 0}
    if cut is not None:
        stages = stages_of(name, _created(name, architecture, "none", extra))
        check_number("--cut", cut, 1, len(stages), name, "stage")
        extra = {"features_only": True, "out_indices": (cut - 1,)}
    model = _created(name, architecture, pretrain, extra)
    if freeze is not None:
        stages = stages_of(name, model)
        check_number("--freeze", freeze, 0, cut or len(stages), name, "stage")
        freeze_until(model, stages[freeze - 1] if freeze else None)
    if unfreeze_blocks is not None:
        train_last_blocks(name, model, unfreeze_blocks)
    return _wrapped(_facts(name, architecture), model)


def stages_of(name: str, model: nn.Module) -> list[str]:
    """Return the modules after which a network's stages end; raises UserError if timm does not tell."""
    info = getattr(model, "feature_info", [])
    stages = [str(stage["module"]) for stage in getattr(info, "info", info)]
    if not stages:
        raise UserError(
            f"--backbone {name}: timm does not tell where its stages end. Expected neither --cut nor --freeze; "
            "leave them out"
        )
    return stages


def freeze_until(model: nn.Module, stage: str | None) -> None:
    """Do not train what comes before the end of the module `stage`, in the order in which the network has them."""
    if stage is None:
        return
    # Networks that timm has cut have their stages' modules beside one another, or all of them one level deeper.
    ends = (f"{stage}.", f"{stage.replace('.', '_')}.", f"model.{stage}.")
    names = [name for name, _ in model.named_modules()]
    last = max(index for index, name in enumerate(names) if f"{name}.".startswith(ends))
    for name in names[: last + 1]:
        for parameter in model.get_submodule(name).parameters(recurse=False):
            parameter.requires_grad_(False)


def train_last_blocks(name: str, model: nn.Module, count: int) -> None:
    """Train the last `count` layers of a transformer with the norm after them, and nothing else.

    Raises:
        UserError: the network is no transformer with layers in a row.
    """
    blocks = getattr(model, "blocks", None)
    if not isinstance(blocks, (nn.Sequential, nn.ModuleList)) or not hasattr(model, "num_prefix_tokens"):
        raise UserError(
            f"--unfreeze_blocks {count}: {name} is no transformer with layers in a row. Expected --freeze, or neither"
        )
    check_number("--unfreeze_blocks", count, 0, len(blocks), name, "number of layers")
    model.requires_grad_(False)
    if count:
        blocks[-count:].requires_grad_(True)
        model.get_submodule("norm").requires_grad_(True)


def _facts(name: str, architecture: str) -> Facts:
    import timm

    settings = timm.get_pretrained_cfg(architecture)
    _, height, width = settings.input_size
    return Facts(name, height, width, tuple(settings.mean), tuple(settings.std))


def _created(name: str, architecture: str, pretrain: str, options: dict[str, Any]) -> nn.Module:
    try:
        # Importing it takes seconds, which the other backbones need not wait for.
        import timm
    except ImportError as error:
        raise UserError(
            f"--backbone {name}: timm is not installed. Expected it; python3 -m pip install timm"
        ) from error
    base = architecture.partition(".")[0]
    known = [*timm.list_models(), *timm.list_pretrained(f"{base}.*")]
    if architecture not in known:
        near = difflib.get_close_matches(architecture, known, n=1)
        hint = f" Did you mean timm:{near[0]}?" if near else ""
        raise UserError(f"--backbone {name}: timm does not know it.{hint} Expected a name of timm.list_models()")
    # Networks that can take images of any size do so; the others say which they take.
    try:
        return _loaded(timm, name, architecture, pretrain, {**options, "dynamic_img_size": True})
    except TypeError:
        return _loaded(timm, name, architecture, pretrain, options)


def _loaded(timm: Any, name: str, architecture: str, pretrain: str, options: dict[str, Any]) -> nn.Module:
    model: nn.Module
    if pretrain == "none":
        model = timm.create_model(architecture, pretrained=False, **options)
        return model
    settings = timm.get_pretrained_cfg(architecture)
    if not settings.has_weights:
        raise UserError(f"--pretrain imagenet: timm has no weights of {name}. Expected --pretrain none")
    hub = settings.hf_hub_id
    source = f"https://huggingface.co/{hub}" if hub else settings.url
    folder = f"$HF_HOME, as `hf download {hub}` does" if hub else None
    model = fetch(name, source, lambda: timm.create_model(architecture, pretrained=True, **options), folder)
    return model


@torch.no_grad()
def _wrapped(facts: Facts, model: nn.Module) -> TimmMap | TimmTokens:
    """Look at the features of one empty image of the network's own size, and put it into the form that fits them."""
    empty = torch.zeros(1, 3, facts.height, facts.width, device=next(model.parameters()).device)
    was_training = model.training
    features = _features(facts, model.eval(), empty)
    model.train(was_training)
    if features.ndim == 4:
        info: Any = getattr(model, "feature_info", None)
        told = info.channels()[-1] if hasattr(info, "channels") else getattr(model, "num_features", None)
        channels_last = features.shape[1] != told and features.shape[3] == told
        return TimmMap(facts, model, features.shape[3 if channels_last else 1], channels_last)
    prefix = int(getattr(model, "num_prefix_tokens", 0))
    patches = features.shape[1] - prefix
    stride = round((facts.height * facts.width / max(patches, 1)) ** 0.5)
    if (facts.height // stride) * (facts.width // stride) != patches:
        raise UserError(f"--backbone {facts.name}: its features are no map of patches. Expected another network")
    if getattr(model, "cls_token", None) is None:
        return TimmPatches(facts, model, features.shape[2], stride, prefix)
    return TimmTokens(facts, model, features.shape[2], stride)


def _features(facts: Facts, model: Any, images: Tensor) -> Tensor:
    try:
        # What timm has cut answers with a list of the stages that were asked for.
        features: Any = model.forward_features(images) if hasattr(model, "forward_features") else model(images)[-1]
    except AssertionError as error:
        raise UserError(
            f"--backbone {facts.name}: the images are {images.shape[2]}x{images.shape[3]} ({error}). "
            f"Expected another size; use --resize {facts.height} {facts.width}"
        ) from error
    if not isinstance(features, Tensor) and not _is_symbolic(features):
        raise UserError(
            f"--backbone {facts.name}: its features are a {type(features).__name__}. Expected a map or tokens; "
            "use another network"
        )
    tensor: Tensor = features
    return tensor


def _is_symbolic(value: object) -> bool:
    """Tell whether a value stands for another, while a network is rewritten into its fast form."""
    return isinstance(value, fx.Proxy)


def _grid(facts: Facts, images: Tensor, stride: int) -> tuple[int, int]:
    check_multiple(facts.name, images.shape[2], images.shape[3], stride, f"its patches are {stride}x{stride}")
    return images.shape[2] // stride, images.shape[3] // stride
