"""The table of aggregations: name -> a class `(in_channels, own options)` with `descriptors_dim: int`.

A class may say what it takes: `takes` ("map", "tokens", "map+token", "map+token+attention" or "vector", or a tuple of
them; a map if it says nothing), an attribute of the backbone that it `needs`, and `places_l2 = True` if the `--l2`
option decides where its L2 normalisation sits. One that takes maps and tokens alike has an option `tokens`.
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
        "supervlad": "vgbench.models.aggregation.supervlad:SuperVLAD",
        "cricavpr": "vgbench.models.aggregation.cricavpr:CricaVPR",
        "edtformer": "vgbench.models.aggregation.edtformer:EDTformer",
        "qaa": "vgbench.models.aggregation.qaa:QAA",
        "vlad_buff": "vgbench.models.aggregation.vlad_buff:VLADBuFF",
        "image": "vgbench.models.aggregation.image_tokens:ImAge",
        "selavpr": "vgbench.models.aggregation.selavpr:SelaVPR",
        "selavpr_pp": "vgbench.models.aggregation.selavpr_pp:SelaVPRpp",
        "fol": "vgbench.models.aggregation.fol:FoL",
        "r2former": "vgbench.models.aggregation.r2former:R2Former",
        "pairvpr": "vgbench.models.aggregation.pairvpr:PairVPR",
    },
    positional=1,
    named=("tokens",),
)
