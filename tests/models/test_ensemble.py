"""Ensembles: the combination against the members' own descriptors, in every form a network is run in."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vgbench.errors import UserError
from vgbench.models import build_network, rebuild_network
from vgbench.models.ensemble import build_ensemble
from vgbench.models.network import for_inference
from vgbench.runtime import Runtime

IMAGES = torch.randint(0, 256, (3, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def members():
    torch.manual_seed(0)
    parts = [("resnet18conv4", "gem", "after_pool"), ("alexnet", "gem", "none"), ("vgg16", "netvlad", "before_pool")]
    found = [
        build_network(backbone, aggregation, "none", l2=l2, netvlad_clusters=4 if aggregation == "netvlad" else None)
        for backbone, aggregation, l2 in parts
    ]
    found[1].mean.fill_(0.3)  # a member normalises pixels in its own way
    found[1].std.fill_(0.7)
    return [network.eval() for network in found]


def descriptors(network):
    with torch.no_grad():
        return F.normalize(network(IMAGES), dim=1).double().numpy()


def test_a_member_that_mixes_its_batch_says_how_many_images_one_has(members):
    assert not build_ensemble(members).mixes_batch
    mixing = build_network("alexnet", "gem", "none")
    mixing.mixes_batch, mixing.mixed_batch = True, 8
    found = build_ensemble([members[0], mixing])
    assert found.mixes_batch and found.mixed_batch == 8


@pytest.mark.parametrize("weights", [None, (1.0, 1.0, 1.0), (5.0, 0.5, 2.0), (0.0, 1.0, 3.0)])
def test_similarity_is_the_weighted_mean_of_the_members(members, weights):
    with torch.no_grad():
        found = build_ensemble(members, "concat", weights).eval()(IMAGES).double().numpy()
    shares = np.array(weights or (1, 1, 1)) / sum(weights or (1, 1, 1))
    expected = sum(
        share * descriptors(member) @ descriptors(member).T for share, member in zip(shares, members, strict=True)
    )
    assert found.shape == (3, sum(member.descriptors_dim for member in members))
    np.testing.assert_allclose(found @ found.T, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_mean_of_descriptors(members):
    alike = [members[1], members[1], build_network("alexnet", "gem", "none").eval()]
    with torch.no_grad():
        found = build_ensemble(alike, "mean", (1, 2, 4)).eval()(IMAGES).numpy()
    total = sum(weight * descriptors(member) for weight, member in zip((1, 2, 4), alike, strict=True))
    np.testing.assert_allclose(found, total / np.linalg.norm(total, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("combine", ["concat", "mean"])
def test_its_configuration_rebuilds_it(members, combine, tmp_path):
    parts = members[:2] if combine == "concat" else [members[0], build_network("resnet18conv4", "gem", "none").eval()]
    whole = build_ensemble(parts, combine, (1, 2)).eval()
    torch.save({"state": whole.state_dict(), "config": whole.config}, tmp_path / "e.pth")
    stored = torch.load(tmp_path / "e.pth", weights_only=True)
    again = rebuild_network(stored["config"], stored["state"]).eval()
    for buffer in ("mean", "std"):  # a fixture's own values, which no configuration has
        for one, other in zip(again.backbone.members, parts, strict=True):
            getattr(one, buffer).copy_(getattr(other, buffer))
    with torch.no_grad():
        assert torch.equal(again(IMAGES), whole(IMAGES))
    assert again.config == whole.config and again.name == f"ensemble + {combine}"


def test_an_ensemble_is_a_member_too(members):
    inner = build_ensemble(members[:2]).eval()
    outer = rebuild_network(build_ensemble([inner, members[2]]).config).eval()
    outer.load_state_dict(build_ensemble([inner, members[2]]).state_dict())
    outer.backbone.members[0].backbone.members[1].mean.fill_(0.3)
    outer.backbone.members[0].backbone.members[1].std.fill_(0.7)
    with torch.no_grad():
        found = outer(IMAGES).double().numpy()
    expected = np.concatenate(
        [np.sqrt(share) * descriptors(member) for share, member in zip((0.25, 0.25, 0.5), members, strict=True)], axis=1
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_fast_form_gives_the_same(members, channels_last):
    whole = build_ensemble(members).eval()
    with torch.no_grad():
        expected = whole(IMAGES)
    fast = for_inference(whole, Runtime(channels_last=channels_last))
    torch.testing.assert_close(fast(IMAGES), expected, atol=2e-5, rtol=1e-4)
    with torch.no_grad():
        assert torch.equal(whole(IMAGES), expected)  # left as it was


def test_the_fast_form_is_fast_in_every_member(members):
    fast = for_inference(build_ensemble(members[:1] * 2), Runtime())
    kinds = {type(module).__name__ for module in fast.network.backbone.modules()}
    assert "BatchNorm2d" not in kinds


def test_sides_suit_every_members_patches(members):
    trunk = build_ensemble(members[:2]).backbone
    assert trunk.multiple == 1
    members[0].backbone.multiple, members[1].backbone.multiple = 4, 6
    try:
        assert build_ensemble(members[:2]).backbone.multiple == 12
    finally:
        del members[0].backbone.multiple, members[1].backbone.multiple


@pytest.mark.parametrize(
    ("number", "combine", "weights", "words"),
    [
        (1, "concat", None, ["1 network", "two or more"]),
        (3, "mean", None, ["--combine mean", "256, 256, 2048", "concat"]),
        (2, "sum", None, ["--combine sum", "concat or mean"]),
        (2, "concat", (1, 2, 3), ["--weights 1 2 3", "2 networks"]),
        (2, "concat", (1, -2), ["--weights 1 -2"]),
        (2, "concat", (0, 0), ["--weights 0 0"]),
        (2, "mean", (float("nan"), 1), ["--weights nan 1"]),
    ],
)
def test_refused_in_one_line(members, number, combine, weights, words):
    with pytest.raises(UserError) as caught:
        build_ensemble(members[:number], combine, weights)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message
