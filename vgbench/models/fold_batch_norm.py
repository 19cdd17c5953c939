"""Rewrite an evaluated backbone into fewer, larger steps: BatchNorm into convolutions, then what follows them too."""

from __future__ import annotations

import copy
import operator
from collections import Counter
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vgbench.models.base import Backbone
from vgbench.models.layers import SameConv2d, same_padding
from vgbench.models.network import CompositeTrunk

# What oneDNN computes on the output of a convolution while it is still in registers: name and parameters.
RELU: tuple[str, list[float]] = ("relu", [])
RELU6: tuple[str, list[float]] = ("hardtanh", [0.0, 6.0])
NOTHING: tuple[str, list[float]] = ("none", [])
ADDITIONS = (operator.add, operator.iadd, torch.add)
ACTIVATION_MODULES: dict[type[nn.Module], tuple[str, list[float]]] = {nn.ReLU: RELU, nn.ReLU6: RELU6}
ACTIVATION_FUNCTIONS: dict[Any, tuple[str, list[float]]] = {F.relu: RELU, torch.relu: RELU, F.relu6: RELU6}


class FusedConv2d(nn.Module):
    """convolution (+ another map) (+ activation) in one pass of oneDNN over the output, on a CPU."""

    def __init__(self, conv: nn.Conv2d, activation: tuple[str, list[float]]) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.dilation, self.groups = list(conv.stride), list(conv.dilation), conv.groups
        self.padding = [int(p) for p in conv.padding]
        self.same = isinstance(conv, SameConv2d)
        self.activation = activation
        self.register_parameter("even_weight", None)
        if self.same and conv.stride[0] > 1:
            # An even size wants one row of zeros more at the end than at the beginning, which oneDNN is not told
            # through torch; a kernel with a leading row and column of zeros, padded alike on both sides, is the same
            # and saves a copy of the map.
            self.even_weight = nn.Parameter(F.pad(conv.weight.detach(), (1, 0, 1, 0)), requires_grad=False)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        weight, padding = self.weight, self.padding
        if self.same:
            x, weight, padding = self._same(x)
        name, scalars = self.activation
        if other is not None and other.shape != self._output_shape(x, weight, padding):
            # A sum that broadcasts is not one that oneDNN knows.
            total = F.conv2d(x, weight, self.bias, self.stride, padding, self.dilation, self.groups) + other
            return F.relu(total) if self.activation is RELU else total
        convolve = torch.ops.mkldnn._convolution_pointwise
        size = [padding, self.stride, self.dilation, self.groups]
        fused: Tensor
        if other is None:
            fused = convolve(x, weight, self.bias, *size, name, scalars, "")
        else:
            fused = convolve.binary(
                x, other, weight, self.bias, *size, "add", 1.0, name if name == "relu" else None, [], None
            )
        return fused

    def _output_shape(self, x: Tensor, weight: Tensor, padding: list[int]) -> torch.Size:
        sizes = [
            (x.shape[axis + 2] + 2 * padding[axis] - self.dilation[axis] * (weight.shape[axis + 2] - 1) - 1)
            // self.stride[axis]
            + 1
            for axis in (0, 1)
        ]
        return torch.Size([x.shape[0], weight.shape[0], *sizes])

    def _same(self, x: Tensor) -> tuple[Tensor, Tensor, list[int]]:
        kernel, stride = self.weight.shape[-1], self.stride[0]
        top, bottom = same_padding(x.shape[-2], kernel, stride)
        left, right = same_padding(x.shape[-1], kernel, stride)
        if (top, left) == (bottom, right):
            return x, self.weight, [top, left]
        if self.even_weight is not None and (top + 1, left + 1) == (bottom, right):
            return x, self.even_weight, [bottom, right]
        return F.pad(x, (left, right, top, bottom)), self.weight, [0, 0]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d) or super().is_leaf_module(m, module_qualified_name)


def fuse(backbone: Backbone, pointwise: bool) -> nn.Module:
    """Return an equal, faster form of a backbone in eval mode; the backbone itself is left as it is.

    Args:
        pointwise: also fold activations and shortcuts into the convolutions, which needs a CPU with oneDNN.

    A backbone whose forward pass depends on its data, so that it cannot be traced, comes back as a plain copy. A part
    that says `shared` is not copied: it is the backbone's own, put in eval mode.
    """
    shared = {id(part): part for part in backbone.modules() if isinstance(part, Backbone) and part.shared}
    backbone = copy.deepcopy(backbone, dict(shared)).eval()
    if not shared:  # what is shared may be in training
        backbone.requires_grad_(False)
    if isinstance(backbone, CompositeTrunk):
        for member in dict.fromkeys(backbone.networks()):  # one that is a member twice is rewritten once
            member.backbone = fuse(member.backbone, pointwise)  # type: ignore[assignment]
    if backbone.as_it_is:
        return backbone
    try:
        graph = _Tracer().trace(backbone)
    except Exception:  # a user's own code can fail under tracing in any way; then it just stays as fast as it was
        return backbone
    module = fx.GraphModule(backbone, graph)
    _fold_batch_norms(module)
    if pointwise:
        _fold_pointwise(module)
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()
    module.delete_all_unused_submodules()
    return module


def _modules_used_once(module: fx.GraphModule) -> dict[str, nn.Module]:
    calls = Counter(str(node.target) for node in module.graph.nodes if node.op == "call_module")
    return {name: module.get_submodule(name) for name, count in calls.items() if count == 1}


def _fold_batch_norms(module: fx.GraphModule) -> None:
    once = _modules_used_once(module)
    for node in list(module.graph.nodes):
        norm = once.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None:
            continue
        source = node.args[0]
        conv = once.get(str(source.target)) if source.op == "call_module" else None
        if _is_plain(conv) and len(source.users) == 1:
            module.set_submodule(str(source.target), fuse_conv_bn_eval(conv, norm))
            node.replace_all_uses_with(source)
            module.graph.erase_node(node)


def _fold_pointwise(module: fx.GraphModule) -> None:
    once = _modules_used_once(module)
    for node in list(module.graph.nodes):
        conv = once.get(str(node.target)) if node.op == "call_module" else None
        if not _is_plain(conv) or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            continue
        chain, inputs, kind = [node], [node.args[0]], NOTHING
        addition = _only_user(node)
        if addition is not None and addition.target in ADDITIONS and not addition.kwargs:
            other = next((arg for arg in addition.args if arg is not node), None)
            if isinstance(other, fx.Node):
                chain, inputs = [node, addition], [node.args[0], other]
        activation = _only_user(chain[-1])
        if activation is not None:
            kind = _activation(activation, module)
            if len(inputs) == 2 and kind is RELU6:  # oneDNN, as torch calls it, follows a sum by nothing but a ReLU
                kind = NOTHING
            chain += [activation] if kind is not NOTHING else []
        module.set_submodule(str(node.target), FusedConv2d(conv, kind))
        with module.graph.inserting_before(chain[-1]):
            fused = module.graph.call_module(str(node.target), tuple(inputs))
        chain[-1].replace_all_uses_with(fused)
        for replaced in reversed(chain):
            module.graph.erase_node(replaced)


def _is_plain(module: nn.Module | None) -> TypeGuard[nn.Conv2d]:
    """Whether a module computes what its class says: a subclass of somebody else's may pad or scale in its own way."""
    return type(module) in (nn.Conv2d, SameConv2d)


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _activation(node: fx.Node, module: fx.GraphModule) -> tuple[str, list[float]]:
    if node.op == "call_module":
        return ACTIVATION_MODULES.get(type(module.get_submodule(str(node.target))), NOTHING)
    if node.op == "call_function":
        return ACTIVATION_FUNCTIONS.get(node.target, NOTHING)
    return NOTHING
