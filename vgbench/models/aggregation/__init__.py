"""The table of aggregations: name -> a class `(in_channels, own options)` with `descriptors_dim: int`.

A class may say what it takes: `takes` ("map", "tokens", "map+token" or "vector", or a tuple of them; a map if it says
nothing), and `places_l2 = True` if the `--l2` option decides where its L2 normalisation sits.
"""

from vgbench.registry import Registry

AGGREGATIONS = Registry(
    "aggregation",
    {
        "netvlad": "vgbench.models.aggregation.netvlad:NetVLAD",
        "gem": "vgbench.models.aggregation.gem:GeM",
    },
)
