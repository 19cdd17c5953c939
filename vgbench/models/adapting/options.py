"""What a user can set about the small parts that learn in the place of a transformer's own weights."""

from __future__ import annotations

from dataclasses import dataclass

from vgbench.errors import UserError
from vgbench.options import Mark, Options, above, at_least, option

BRANCHES = ("multiconv", "lopa")  # beside the transformer: gradients go through them alone
ADAPTERS = ("serial", "parallel", "serial_parallel", "parallel_multiconv", *BRANCHES)
LORA_LAYERS = ("attention", "all")
_NEW = Mark.FREEZES  # a new run may put them into the network of a checkpoint


@dataclass(frozen=True)
class AdaptingOptions(Options, topic="network"):
    """Low-rank updates (Hu et al., 2022) and adapters (Houlsby et al., 2019; Lu et al., 2024 and 2025)."""

    lora_rank: int | None = option(
        None, "train low-rank updates (LoRA) of this rank in a transformer's layers, and the aggregation; the "
        "transformer's own weights stay as they are", range=at_least(1), unset="no LoRA", marks=_NEW,
    )  # fmt: skip
    lora_alpha: float | None = option(
        None, "LoRA: updates are multiplied by this divided by --lora_rank", range=above(0), unset="--lora_rank",
        needs="lora_rank", marks=_NEW,
    )  # fmt: skip
    lora_layers: str | None = option(
        None, "LoRA: projections of the attention, or all linear layers, those of the MLPs too", choices=LORA_LAYERS,
        unset="attention", needs="lora_rank", marks=_NEW,
    )  # fmt: skip
    adapter: str | None = option(
        None, "train adapters in a transformer, and the aggregation: serial after each attention, parallel beside each "
        "MLP, both as SelaVPR has them; multi-scale convolutions beside each of DINOv2's MLPs (parallel_multiconv, "
        "CricaVPR); or a branch beside DINOv2, through which alone gradients go: of such convolutions (multiconv, "
        "SelaVPR++) or of 4 channels (lopa, EDTformer)", choices=ADAPTERS, unset="no adapters", marks=_NEW,
    )  # fmt: skip
    adapter_ratio: float | None = option(
        None, "adapters: their inner channels, as a part of the transformer's", range=above(0),
        unset="0.5; lopa: 4 channels", needs="adapter", marks=_NEW,
    )  # fmt: skip
    adapter_scale: float | None = option(
        None, "parallel adapters and lopa: what they add is multiplied by this", range=above(0),
        unset="0.2; lopa: 0.5", needs="adapter=parallel|serial_parallel|parallel_multiconv|lopa", marks=_NEW,
    )  # fmt: skip

    def check_together(self) -> None:
        """Raise UserError for updates of weights that no gradient reaches."""
        if self.adapter in BRANCHES and self.lora_rank is not None:
            raise UserError(
                f"--lora_rank {self.lora_rank}: no gradient reaches the transformer beside --adapter {self.adapter}. "
                "Expected one of them; leave one out"
            )
