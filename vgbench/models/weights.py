"""Load published weights: strict, converting the keys of known checkpoint styles."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vgbench.errors import UserError, about, in_short
from vgbench.files import is_file
from vgbench.models.base import Aggregation, Backbone
from vgbench.models.foreign import own_keys, read_inert
from vgbench.models.options import PLACED_BY_L2
from vgbench.models.pretrained_folder import with_configuration
from vgbench.models.safetensors_file import is_safetensors, read_safetensors

# Options that change which weights a network has.
_SHAPING = (
    "method", "backbone", "aggregation", "l2", "netvlad_clusters", "fc_output_dim", "trunc_te", "cut", "num_non_local",
    "out_dim", "out_channels", "out_rows", "num_clusters", "cluster_dim", "token_dim",
)  # fmt: skip
CONTAINERS = ("model_state_dict", "state_dict")
# What training objects of other projects hold beside the network.
SURPLUS = ("loss_fn.", "loss.", "criterion.", "miner.")


def extract_state_dict(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the network's tensors in a checkpoint, or in a bare state dict, without `module.` prefixes.

    Raises:
        UserError: there are no tensors in it.
    """
    inner: Any = checkpoint
    for container in CONTAINERS:
        if isinstance(checkpoint.get(container), Mapping):
            inner = checkpoint[container]
            break
    tensors = {
        _plain_key(key): value for key, value in inner.items() if isinstance(value, Tensor) and isinstance(key, str)
    }
    if len(tensors) != len(inner):
        raise UserError(
            "checkpoint: holds no state dict. Expected a dict of tensors, or a dict with model_state_dict; "
            f"it has the keys {', '.join(map(str, list(checkpoint)[:5]))}"
        )
    return tensors


def load_state_dict(module: nn.Module, state_dict: Mapping[str, Any]) -> None:
    """Load weights into a network or an aggregation, every key or none.

    Args:
        module: where they go, in place; a part of it that computes without some of its keys names them in `spare_keys`,
            and a file may lack those.
        state_dict: tensors by name, a checkpoint dict that holds them, or one of the published styles.

    Raises:
        UserError: keys are missing, left over or of another shape, or values that are no finite numbers; `module` is
            then unchanged.
    """
    own = module.state_dict()
    tensors = own_keys(extract_state_dict(state_dict), own)
    tensors = {key: value for key, value in tensors.items() if key in own or not key.startswith(SURPLUS)}
    tensors = {key: _of_kernel(value, own.get(key)) for key, value in tensors.items()}
    spare = _spare_keys(module)
    missing = [key for key in own if key not in tensors and key not in spare]
    unknown = [key for key in tensors if key not in own]
    shapes = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in tensors and tensors[key].shape != own[key].shape
    ]
    if missing or unknown or shapes:
        problems = [_listing("missing", missing), _listing("not known", unknown), _listing("of another shape", shapes)]
        raise UserError(
            f"state dict: of another network: {'; '.join(filter(None, problems))}. Expected the weights of this very "
            f"{_flags_of(module)}"
        )
    check_numbers(tensors, own)
    module.load_state_dict({**own, **tensors})


def _flags_of(module: nn.Module) -> str:
    """Name the options that say which network it is: those that its configuration has a value for."""
    config = getattr(module, "config", {})
    left_out = () if config.get("aggregation") in PLACED_BY_L2 else ("l2",)
    named = [f"--{name}" for name in _SHAPING if config.get(name) is not None and name not in left_out]
    return ", ".join(named[:-1]) + f" and {named[-1]}" if len(named) > 1 else "network"


def check_numbers(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuse weights that are no numbers a network can compute with.

    Args:
        tensors: by key, of the shapes of `own`.
        own: the network's, which says where floating-point numbers belong.

    Raises:
        UserError: a tensor is of another kind (integers, complex, quantised), or holds NaN or infinity.
    """
    for key, value in tensors.items():
        floating = own[key].is_floating_point()
        if value.layout != torch.strided or value.is_quantized or value.is_meta or value.is_complex():
            raise UserError(f"state dict: {key} is no plain tensor. Expected what a network's state_dict() holds")
        if floating != value.is_floating_point():
            kind = "floating-point numbers" if floating else "integers"
            raise UserError(f"state dict: {key} holds {_dtype_name(value)}. Expected {kind}; save the weights again")
        if floating and not is_finite(value):
            raise UserError(
                f"state dict: {key} holds NaN or infinity. Expected finite weights; take an earlier checkpoint of the "
                "run, and train with a smaller --lr or --amp off"
            )


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Raise UserError for the first floating-point tensor of a state dict that is not finite."""
    for key, value in state.items():
        if value.is_floating_point() and not is_finite(value):
            raise UserError(f"state dict: {key} holds NaN or infinity. Expected finite weights; take other checkpoints")


def is_finite(values: Tensor) -> bool:
    """Whether all values of a floating-point tensor [...] are finite; in one pass, without a copy."""
    if values.numel() == 0:
        return True
    if values.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        values = values.float()
    low, high = torch.aminmax(values)
    return bool(torch.isfinite(low) and torch.isfinite(high))


def _dtype_name(values: Tensor) -> str:
    return str(values.dtype).removeprefix("torch.")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint (`torch.save` of a dict, or safetensors) onto the CPU, refusing anything that could run code.

    It is one of ours, one of the Deep VG benchmark, a bare state dict, or one of PyTorch Lightning, whose objects
    beside the tensors are not loaded. The `model.safetensors` of a folder that `save_pretrained` wrote reads as a
    checkpoint.

    Raises:
        UserError: no such file, not a checkpoint, or damaged.
    """
    path = Path(path)
    if not is_file(path):
        raise UserError(f"{path}: no such file. Expected a checkpoint written by train.py, or published weights")
    _check_kind(path)
    if is_safetensors(path):
        return with_configuration(path, read_safetensors(path))
    _check_size(path)
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        checkpoint = _read_foreign(path, error)
    except Exception as error:  # what a damaged or hostile file makes of its reader
        if "TorchScript" in str(error):
            raise UserError(
                f"{path}: is a TorchScript archive, which brings its own code. Expected a dict of tensors; save the "
                "state_dict() of torch.jit.load(...) and use that file"
            ) from error
        raise UserError(
            f"{path}: damaged, or no checkpoint ({in_short(error)}). Expected what torch.save writes; fetch it again"
        ) from error
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path}: holds a {type(checkpoint).__name__}. Expected a dict of tensors or a checkpoint dict")
    return checkpoint


def _check_kind(path: Path) -> None:
    """Refuse what is often saved under a checkpoint's name; raises UserError that says what it is."""
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}). Expected a checkpoint that you may read"
        ) from error
    if not start:
        raise UserError(f"{path}: is empty. Expected a checkpoint; fetch it again")
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"{path}: is a pointer of git-lfs, not the file. Expected the checkpoint itself: git lfs pull")
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<!--", b"<head")):
        raise UserError(f"{path}: is a web page. Expected a checkpoint; download the file itself, not its page")
    if len(text) > 1 and all(32 <= letter < 127 or letter in b"\t\r\n" for letter in text):
        answer = text[:60].decode("ascii").splitlines()[0].strip()
        raise UserError(
            f"{path}: is a text that begins with {answer!r}, such as a server's answer. Expected a checkpoint; "
            "fetch it again"
        )


def _check_size(path: Path) -> None:
    """Refuse an archive that unpacks to more than it is; torch.save packs nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(part.file_size for part in archive.infolist())
        size = path.stat().st_size
    except zipfile.BadZipFile as error:
        with path.open("rb") as file:
            if file.read(4) != b"PK\x03\x04":
                return  # no archive: torch says what it makes of it
        raise UserError(
            f"{path}: is cut off or damaged, an archive without its end. Expected a whole checkpoint; fetch it again"
        ) from error
    except (OSError, ValueError, NotImplementedError):
        return
    if unpacked > size:
        raise UserError(
            f"{path}: unpacks to {unpacked / 1e6:,.0f} MB from {size / 1e6:,.0f} MB. Expected what torch.save writes, "
            "which is not packed; save its state_dict() alone and use that file"
        )


def _read_foreign(path: Path, error: pickle.UnpicklingError) -> Any:
    """Read a file whose pickle names classes that are not loaded, if it holds a state dict at all."""
    try:
        checkpoint = read_inert(path)
    except Exception:  # it names whatever it likes, and fails in any way
        checkpoint = None
    if isinstance(checkpoint, dict) and any(isinstance(checkpoint.get(name), dict) for name in CONTAINERS):
        return checkpoint
    raise UserError(
        f"{path}: holds more than tensors and plain values, or is no checkpoint. Expected a dict of tensors; "
        "save its state_dict() alone and use that file"
    ) from error


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Load a file's weights into a network or an aggregation, every key or none.

    Raises:
        UserError: the file cannot be read, or is of another network; the message names it.
    """
    checkpoint = read_checkpoint(path)
    with about(path):
        load_state_dict(module, checkpoint)


def _numpy_globals() -> list[Any]:
    """What the released Deep VG checkpoints need beside tensors: their recalls are a NumPy array."""
    array = np.empty(0)
    rebuild = array.__reduce__()[0]
    dtypes = [type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "bool")]
    scalar = np.float64(0).__reduce__()[0]
    names = [(item, f"numpy.core.multiarray.{item.__name__}") for item in (rebuild, scalar)]  # type: ignore[union-attr]
    return [rebuild, scalar, *names, np.ndarray, np.dtype, *dtypes]


def _spare_keys(module: nn.Module) -> set[str]:
    """Return the keys that a file may lack; what is there already then stays."""
    named = {
        f"{name}.{key}".lstrip(".")
        for name, part in module.named_modules()
        if isinstance(part, Backbone | Aggregation)
        for key in part.spare_keys
    }
    # Files from before BatchNorm counted its batches have no counters.
    return named | {key for key in module.state_dict() if key.endswith("num_batches_tracked")}


def _of_kernel(value: Tensor, wanted: Tensor | None) -> Tensor:
    """Give the weights of a 1x1 kernel, [K,C,1,1] over maps, [K,C,1] over tokens or [K,C], the form that is wanted."""
    if wanted is None or min(value.dim(), wanted.dim()) < 2 or value.shape[:2] != wanted.shape[:2]:
        return value
    of_one = value.numel() == wanted.numel() == value.shape[0] * value.shape[1]
    return value.reshape(wanted.shape) if of_one else value


def _plain_key(key: str) -> str:
    return key.removeprefix("module.")


def _listing(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} {what} ({', '.join(names[:3])}{more})"
