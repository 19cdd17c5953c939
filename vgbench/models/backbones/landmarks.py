"""Classifiers trained on Places 365 and Google Landmarks v2, as the Deep VG benchmark released them (Berton, 2022)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from vgbench.errors import UserError
from vgbench.models.weights import load_weights

CLASSES = {"places": 365, "gldv2": 512}
# Files on Google Drive, which programs cannot fetch.
_DRIVE = "https://drive.google.com/file/d/{}/view"
FILES = {
    "resnet18_places": "1DnEQXhmPxtBUrRc81nAvT8z17bk-GBj5",
    "resnet50_places": "1zsY4mN4jJ-AsmV3h4hjbT72CBfJsgSGC",
    "resnet101_places": "1E1ibXQcg7qkmmmyYgmwMTh7Xf1cDNQXa",
    "vgg16_places": "1UWl1uz6rZ6Nqmp1K5z3GHAIZJmDh4bDu",
    "resnet18_gldv2": "1wkUeUXFXuPHuEvGTXVpuP5BMB-JJ1xke",
    "resnet50_gldv2": "1UDUv6mszlXNC1lv6McLdeBNMq9-kaA70",
    "resnet101_gldv2": "1apiRxMJpDlV0XmKlC5Na_Drg2jtGL-uE",
    "vgg16_gldv2": "10Ov9JdO7gbyz6mB5x0v_VSAUMj91Ta4o",
}


def landmarks_model(architecture: str, pretrain: str) -> nn.Module:
    """Return a torchvision classifier with the weights of `pretrain`, "places" or "gldv2".

    Raises:
        UserError: as `landmarks_weights`.
    """
    from torchvision.models import get_model  # takes seconds

    path = landmarks_weights(architecture, pretrain)
    model: nn.Module = get_model(architecture, weights=None, num_classes=CLASSES[pretrain])
    load_weights(model, path)
    return model


def landmarks_weights(architecture: str, pretrain: str) -> Path:
    """Return the file of the weights of `pretrain`, "places" or "gldv2".

    Raises:
        UserError: there are none for this architecture, or their file is not in torch's folder of checkpoints.
    """
    name = f"{architecture}_{pretrain}"
    if name not in FILES:
        having = ", ".join(known.rsplit("_", 1)[0] for known in FILES if known.endswith(pretrain))
        raise UserError(f"--pretrain {pretrain}: no such weights for {architecture}. Expected one of {having}")
    path = Path(torch.hub.get_dir()) / "checkpoints" / f"{name}.pth"
    if not path.is_file():
        raise UserError(
            f"--pretrain {pretrain}: the weights of {architecture} cannot be fetched by program. Expected {path}; "
            f"download it from {_DRIVE.format(FILES[name])} and put it there"
        )
    return path
