"""What `combine` and each of its commands take."""

from __future__ import annotations

from vgbench.cli.commands import Command, Group
from vgbench.combine.options import NOT_OF_QUERIES, EnsembleOptions, OutputOptions, SoupOptions, WhitenOptions
from vgbench.data.augment.options import AugmentOptions
from vgbench.data.options import DataOptions
from vgbench.retrieval.options import EvalOptions
from vgbench.runtime_options import RuntimeOptions

_FIRSTS = {"resize": "height and width of images, pixels (unset: the first checkpoint's)"}
_MACHINE = Group(RuntimeOptions, only=("device", "amp", "inference_backend"))


def combine_command(program: str, description: str) -> Command:
    """Return the command.

    Args:
        program: as the user calls it.
        description: what it does; after an empty line, examples.
    """
    size = Group(DataOptions, only=("resize",), helps=_FIRSTS)
    ensemble = Command(
        f"{program} ensemble",
        "Put the descriptors of any networks side by side, or average them.\n\n"
        f"{program} ensemble --checkpoints a.pth b.pth --output both.pth",
        (Group(EnsembleOptions), Group(OutputOptions), size),
    )
    soup = Command(
        f"{program} soup",
        "Average the weights of networks of one architecture.\n\n"
        f"{program} soup --checkpoints a.pth b.pth c.pth --output soup.pth",
        (Group(SoupOptions), Group(OutputOptions), _images("val or train", "val_positive_dist_threshold"), _MACHINE),
    )
    whiten = Command(
        f"{program} whiten",
        "Add a linear layer to a network, learned from pairs of images of one place.\n\n"
        f"{program} whiten --checkpoints a.pth --output whitened.pth",
        (
            Group(
                SoupOptions, only=("checkpoints",), helps={"checkpoints": "one checkpoint, of train.py or of combine"}
            ),
            Group(OutputOptions),
            Group(WhitenOptions),
            _images("train", "train_positives_dist_threshold"),
            Group(EvalOptions, only=("infer_batch_size",)),
            _MACHINE,
            Group(AugmentOptions, without=NOT_OF_QUERIES),
        ),
    )
    return Command(program, description, commands={"soup": soup, "ensemble": ensemble, "whiten": whiten})


def _images(split: str, threshold: str) -> Group:
    helps = {**_FIRSTS, "dataset_name": f"whose {split} split (unset: the first checkpoint's)"}
    return Group(DataOptions, only=("resize", "dataset_name", "datasets_folder", "num_workers", threshold), helps=helps)
