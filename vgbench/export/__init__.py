"""Networks for other programs: ONNX, TorchScript and torch.export, preprocessing inside (docs/deployment.md)."""

from vgbench.export.deployable import Deployable
from vgbench.export.formats import FORMATS, export_network

__all__ = ["FORMATS", "Deployable", "export_network"]
