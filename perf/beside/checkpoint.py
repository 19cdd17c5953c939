"""A checkpoint of the reference's own network with random weights; of ours where there is no checkout.

python3 -m perf.beside.checkpoint CHECKOUT|ours OUT AGGREGATION
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main() -> None:
    """Build it with the checkout's code and options, as its commands do, and save it."""
    checkout, out, aggregation = sys.argv[1:]
    import torch

    if checkout == "ours":
        from vgbench.models import build_network

        torch.manual_seed(0)
        ours = build_network("resnet18conv4", aggregation, pretrain="none")
        torch.save({"model_state_dict": ours.state_dict()}, out)
        return
    sys.path.insert(0, str(Path(checkout).resolve()))
    sys.argv = ["eval.py", "--datasets_folder=.", "--backbone=resnet18conv4", f"--aggregation={aggregation}"]
    arguments = importlib.import_module("parser").parse_arguments()
    torch.manual_seed(0)
    network = importlib.import_module("model.network").GeoLocalizationNet(arguments)
    torch.save({"model_state_dict": network.state_dict()}, out)


if __name__ == "__main__":
    main()
