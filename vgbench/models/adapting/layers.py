"""Where a transformer has its attention and its MLPs, and how a module is given something more in place."""

from __future__ import annotations

import functools
from typing import Any

from torch import nn

ATTENTION = ("attn", "self_attn", "self_attention")


def attention_layers(trunk: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """Return the layers of a transformer and the attention of each; [] where a backbone has none."""
    found = []
    for layer in trunk.modules():
        for name, child in layer.named_children():
            if name in ATTENTION:
                found.append((layer, child))
    return found


def become(module: nn.Module, more: Any) -> None:
    """Make a module, in place, one of its own class and of `more` before it: names of its weights stay."""
    kind: Any = type(module)
    module.__class__ = _both(more, kind)


def unbecome(module: nn.Module, more: Any) -> None:
    """Take back what `become` did."""
    first, before = type(module).__bases__
    assert first is more
    module.__class__ = before


@functools.cache
def _both(more: Any, kind: Any) -> Any:
    return type(f"{more.__name__}{kind.__name__}", (more, kind), {"__doc__": more.__doc__})
