from .aggregation import AGGREGATIONS
from .aggregation.build import build_aggregation
from .aggregation.netvlad_init import initialise_netvlad
from .backbones import BACKBONES
from .build import build_network
from .from_options import network_from_options
from .network import Network, for_inference
from .options import NetworkOptions
from .rebuild import rebuild_network
from .weights import load_state_dict, load_weights

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
