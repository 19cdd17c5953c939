"""The table of aggregations: name -> a class `(in_channels, own options)` with `descriptors_dim: int`.

A class may say what it takes: `takes` ("map", "tokens", "map+token" or "vector", or a tuple of them; a map if it says
nothing), an attribute of the backbone that it `needs`, and `places_l2 = True` if the `--l2` option decides where its
L2 normalisation sits. One that takes maps and tokens alike has an option `tokens`.
"""

from vgbench.registry import Registry

AGGREGATIONS = Registry(
    "aggregation",
    {
        "netvlad": "vgbench.models.aggregation.netvlad:NetVLAD",
        "gem": "vgbench.models.aggregation.gem:GeM",
        "spoc": "vgbench.models.aggregation.pooling:SPoC",
        "mac": "vgbench.models.aggregation.pooling:MAC",
        "rmac": "vgbench.models.aggregation.rmac:RMAC",
        "crn": "vgbench.models.aggregation.crn:CRN",
        "rrm": "vgbench.models.aggregation.rrm:RRM",
        "cls": "vgbench.models.aggregation.sequence:ClassToken",
        "seqpool": "vgbench.models.aggregation.sequence:SeqPool",
        "convap": "vgbench.models.aggregation.convap:ConvAP",
        "convgem": "vgbench.models.aggregation.convgem:ConvGeM",
        "cosplace": "vgbench.models.aggregation.cosplace:CosPlace",
        "mixvpr": "vgbench.models.aggregation.mixvpr:MixVPR",
        "salad": "vgbench.models.aggregation.salad:SALAD",
        "boq": "vgbench.models.aggregation.boq:BoQ",
        "megaloc": "vgbench.models.aggregation.megaloc:MegaLoc",
    },
    positional=1,
    named=("tokens",),
)
