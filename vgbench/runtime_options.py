"""What a user can set about where and how networks run."""

from __future__ import annotations

from dataclasses import dataclass

from vgbench.options import Options, option

SWITCH = ("auto", "on", "off")


@dataclass(frozen=True)
class RuntimeOptions(Options):
    """Options that change speed and memory, not what is computed (beyond rounding)."""

    device: str = option(
        "auto", "where to run: auto takes a GPU if there is one", choices=("auto", "cuda", "cpu"), common=True
    )
    amp: str = option(
        "auto",
        "mixed precision (auto takes bf16 where the hardware has it)",
        choices=("auto", "bf16", "fp16", "off"),
        common=True,
    )
    channels_last: str = option("auto", "store images and features with channels last; auto is on", choices=SWITCH)
    compile: str = option("auto", "compile the network with torch.compile; auto is off", choices=SWITCH)
