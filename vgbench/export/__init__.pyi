from .deployable import Deployable
from .formats import FORMATS, export_network

__all__ = ["FORMATS", "Deployable", "export_network"]
