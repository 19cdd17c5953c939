"""Networks: an image batch in, descriptors out. Knows nothing of files of images."""

from vgbench.models.aggregation import AGGREGATIONS
from vgbench.models.aggregation.build import build_aggregation
from vgbench.models.aggregation.netvlad_init import initialise_netvlad
from vgbench.models.backbones import BACKBONES
from vgbench.models.build import build_network
from vgbench.models.inference import for_inference
from vgbench.models.network import Network
from vgbench.models.options import NetworkOptions, network_from_options
from vgbench.models.rebuild import rebuild_network
from vgbench.models.weights import load_state_dict, load_weights

__all__ = [
    "AGGREGATIONS",
    "BACKBONES",
    "Network",
    "NetworkOptions",
    "build_aggregation",
    "build_network",
    "for_inference",
    "initialise_netvlad",
    "load_state_dict",
    "load_weights",
    "network_from_options",
    "rebuild_network",
]
