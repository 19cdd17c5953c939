"""Test methods: how a query becomes the images that are described, and how their predictions become one list.

A method is one file here and one line in the table (`--test_method`).
"""

from __future__ import annotations

from vgbench.registry import Registry

_HERE = "vgbench.retrieval.query_methods"

QUERY_METHODS = Registry(
    "test method",
    {
        "hard_resize": f"{_HERE}.hard_resize:HardResize",
        "single_query": f"{_HERE}.single_query:SingleQuery",
        "central_crop": f"{_HERE}.central_crop:CentralCrop",
        "five_crops": f"{_HERE}.five_crops:FiveCrops",
        "nearest_crop": f"{_HERE}.nearest_crop:NearestCrop",
        "maj_voting": f"{_HERE}.maj_voting:MajorityVoting",
        "flip": f"{_HERE}.flip:Flip",
    },
    named=("majority_weight",),
)
