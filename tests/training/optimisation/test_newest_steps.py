"""Two steps of training with each of the newest networks, in bfloat16: all that learns has a finite gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vgbench.models import build_network
from vgbench.models.backbones import dinov2
from vgbench.runtime import Runtime
from vgbench.training.losses.metric import build_metric_loss, loss_of
from vgbench.training.optimisation.optim import build_optimizer
from vgbench.training.optimisation.step import Stepper, set_training
from vgbench.training.options import TrainOptions

SMALL_SALAD = {"num_clusters": 4, "cluster_dim": 3, "token_dim": 5, "mlp_dim": 9}
SMALL_QAA = {"num_clusters": 4, "cluster_dim": 6, "num_queries": 9, "feature_nheads": 2, "score_nheads": 3}
NETWORKS: dict[str, dict[str, Any]] = {
    "supervlad": {},
    "supervlad across images": {"aggregation": "supervlad", "crossimage_encoder": True},
    "edtformer": {"adapter": "lopa", "num_queries": 4, "proj_channels": 6, "row_dim": 3},
    "cricavpr": {"adapter": "parallel_multiconv"},
    "qaa": SMALL_QAA,
    "vlad_buff": {"netvlad_clusters": 4, "nv_pca": 6},
    "image": {},
    "selavpr": {"adapter": "serial_parallel"},
    "selavpr_pp": {"adapter": "multiconv", "feat_dim": 10},
    "selavpr_pp of codes": {"aggregation": "selavpr_pp", "adapter": "multiconv", "feat_dim": 10, "hashing": True},
    "fol": SMALL_SALAD,
    "salad with LoRA": {"aggregation": "salad", "lora_rank": 2, **SMALL_SALAD},
}
# Branches of local features: no descriptor depends on them, so that training with descriptors leaves them as they are.
UNUSED = {"selavpr": "aggregation.local.", "fol": "aggregation.upconv"}


class Places:
    """Six places of two images, always the same."""

    criterion = build_metric_loss("NTXent", (), None, places=6, dim=1)  # in which every pair always counts

    def loss(self, forward: Any, batch: Tensor, generator: torch.Generator) -> Tensor:
        return loss_of(self.criterion, None, forward(batch), torch.arange(6).repeat_interleave(2))


@pytest.mark.parametrize("name", NETWORKS)
def test_two_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(dinov2.SIZES, "vits", dinov2.Size(48, 4, 3))
    torch.manual_seed(0)
    parts = {"aggregation": name, "unfreeze_blocks": 1, **NETWORKS[name]}
    if "adapter" in parts or "lora_rank" in parts:
        del parts["unfreeze_blocks"]
    network = build_network("dinov2_vits14", pretrain="none", **parts)
    runtime = Runtime(torch.device("cpu"), torch.bfloat16, torch.contiguous_format)
    stepper = Stepper(network, runtime)
    optimizer = build_optimizer(network, TrainOptions(optim="adam", lr=1e-2))
    set_training(network, freeze_bn=False)
    images = torch.randint(0, 256, (12, 3, 56, 56), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    learned: set[str] = set()
    before = {key: value.detach().clone() for key, value in network.named_parameters() if value.requires_grad}
    assert before
    for _ in range(2):
        loss = stepper.backward(Places(), images, torch.Generator())  # type: ignore[arg-type]
        assert torch.isfinite(loss)
        gradients = {key: value.grad for key, value in network.named_parameters() if value.grad is not None}
        assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients.values())
        learned |= gradients.keys()
        stepper.update([optimizer])
    unused = before.keys() - learned
    assert all(key.startswith(UNUSED.get(name, "nothing")) for key in unused), unused
    assert bool(unused) == (name in UNUSED)
    after = dict(network.named_parameters())
    changed = {key for key, value in before.items() if not torch.equal(after[key], value)}
    assert changed == learned, learned ^ changed
