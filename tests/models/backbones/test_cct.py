"""The compact convolutional transformer beyond its conformance vectors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vgbench.errors import UserError
from vgbench.models import build_network, for_inference
from vgbench.models.backbones import cct
from vgbench.runtime import Runtime

IMAGES = torch.randint(0, 256, (2, 3, 384, 384), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("freeze", "trained"), [(-1, {0, 1, 2}), (0, {1, 2}), (1, {2}), (2, set())])
def test_freezing(freeze: int, trained: set[int]) -> None:
    trunk = cct.CCT384("none", trunc_te=3, freeze_te=freeze)
    names = {name for name, parameter in trunk.named_parameters() if parameter.requires_grad}
    assert {int(name.split(".")[2]) for name in names} == trained
    assert all(name.startswith("classifier.blocks.") for name in names)
    assert all(parameter.requires_grad for parameter in cct.CCT384("none", trunc_te=1).parameters())


def test_images_of_another_size_are_refused() -> None:
    network = build_network("cct384", "gem", "none", trunc_te=1)
    with pytest.raises(
        UserError, match=r"--backbone cct384: the images are 320x384. Expected 384x384; use --resize 384 384"
    ):
        network(IMAGES[:, :, :320])


@pytest.mark.parametrize("freeze", [-2, 3])
def test_layers_that_are_not_there(freeze: int) -> None:
    with pytest.raises(
        UserError, match=f"--freeze_te {freeze}: cct384 has no such layer. Expected a number from -1 to 2"
    ):
        cct.CCT384("none", trunc_te=3, freeze_te=freeze)


def test_published_weights_fit_a_cut_network(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    published = {**cct.CCT384("none").state_dict(), "classifier.fc.weight": torch.zeros(1000, 384)}

    def load(url: str, **options: object) -> dict[str, Tensor]:
        assert url == cct.WEIGHTS
        return published

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", load)
    trunk = cct.CCT384("imagenet", trunc_te=2)
    assert len(trunk.classifier.blocks) == 2
    assert all(torch.equal(value, published[key]) for key, value in trunk.state_dict().items())


def test_branches_are_skipped_in_training_only_and_keep_their_mean() -> None:
    torch.manual_seed(0)
    block = cct.Block(drop=0.5)
    branch = torch.ones(4000, 1, 1)
    skipped = block.train()._skip(branch)
    assert set(skipped.flatten().tolist()) == {0.0, 2.0} and abs(skipped.mean().item() - 1) < 0.1
    assert block.eval()._skip(branch) is branch


def test_the_inference_form_describes_alike() -> None:
    torch.manual_seed(0)
    network = build_network("cct384", "seqpool", "none", trunc_te=1).eval()
    assert network.backbone.kind == "vector" and network.descriptors_dim == 384
    with torch.no_grad():
        expected = network(IMAGES)
    torch.testing.assert_close(
        for_inference(network, Runtime(channels_last=True))(IMAGES), expected, atol=1e-5, rtol=1e-4
    )
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        half = for_inference(network, Runtime(amp_dtype=torch.bfloat16))(IMAGES)
        assert half.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(half, expected).min() > 0.99
