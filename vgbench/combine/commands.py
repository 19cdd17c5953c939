"""What `combine` and each of its commands take."""

from __future__ import annotations

from vgbench.cli.commands import Command, Group
from vgbench.combine.options import TAKES, SoupOptions
from vgbench.data.options import DataOptions
from vgbench.options import Options

_RESIZE = "height and width of images, pixels (unset: the first checkpoint's)"
_DATASET = "whose {} split (unset: the first checkpoint's)"
_WORDS = {
    "soup": ("Average the weights of networks of one architecture.", "a.pth b.pth c.pth --output soup.pth"),
    "ensemble": ("Put the descriptors of any networks side by side, or average them.", "a.pth b.pth --output both.pth"),
    "whiten": (
        "Add a linear layer to a network, learned from pairs of images of one place.",
        "a.pth --output whitened.pth",
    ),
}
# What some options mean here.
_HELPS: dict[str, dict[type[Options], dict[str, str]]] = {
    "soup": {DataOptions: {"resize": _RESIZE, "dataset_name": _DATASET.format("val or train")}},
    "ensemble": {DataOptions: {"resize": _RESIZE}},
    "whiten": {
        DataOptions: {"resize": _RESIZE, "dataset_name": _DATASET.format("train")},
        SoupOptions: {"checkpoints": "one checkpoint, of train.py or of combine"},
    },
}


def combine_command(program: str, description: str) -> Command:
    """Return the command.

    Args:
        program: as the user calls it.
        description: what it does; after an empty line, examples.
    """
    commands = {}
    for name, (does, files) in _WORDS.items():
        called = f"{program} {name}"
        groups = [Group(one, only=only, helps=_HELPS[name].get(one, {})) for one, only in TAKES[name].items()]
        commands[name] = Command(called, f"{does}\n\n{called} --checkpoints {files}", tuple(groups))
    return Command(program, description, commands=commands)
