"""Released networks by name: their sizes, their files under the authors' keys, and what is said without them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import requests
import scipy.io
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from vgbench.errors import UserError
from vgbench.models import Network, NetworkOptions, build_network, for_inference, network_from_options, rebuild_network
from vgbench.models.backbones import dinov2
from vgbench.models.ensemble import build_ensemble
from vgbench.models.foreign import own_keys
from vgbench.models.from_options import check_same_network
from vgbench.models.matlab import load_netvlad
from vgbench.models.release_kinds import OwnRelease
from vgbench.models.releases import RELEASES, load_release, release_of
from vgbench.runtime import Runtime

DIMENSIONS = {
    "netvlad": 4096, "cosplace": 2048, "cosplace-resnet18-64": 64, "eigenplaces": 2048, "eigenplaces-vgg16-512": 512,
    "convap": 4096, "convap-512": 512, "mixvpr": 4096, "mixvpr-128": 128, "salad": 8448, "boq": 12288,
    "boq-resnet50": 16384, "megaloc": 8448, "cliquemining": 8448, "indoor-salad-0": 8448, "indoor-salad-1": 8448,
    "indoor-eigenplaces-0": 2048, "indoor-eigenplaces-1": 2048,
}  # fmt: skip
SMALL_MEGALOC = {"backbone": "dinov2_vitb14", "aggregation": "megaloc", "unfreeze_blocks": 2}
RESNET = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "_get_torch_home", lambda: str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub"


def cosplace_key(key: str) -> str:
    return key.replace("aggregation.gem.p", "aggregation.1.p").replace("aggregation.fc", "aggregation.3")


def gsv_key(key: str) -> str:
    parts = key.replace("aggregation", "aggregator").split(".")
    return ".".join([parts[0], "model", RESNET[parts[1]], *parts[2:]]) if parts[0] == "backbone" else ".".join(parts)


def openvpr_key(key: str) -> str:
    return key.replace("backbone.", "backbone.net.").replace("aggregation", "aggregator")


def dino_key(wrapper: str):
    return lambda key: key.replace("backbone.", f"backbone.{wrapper}.").replace("aggregation", "aggregator")


@pytest.mark.parametrize("name", DIMENSIONS)
def test_their_parts_fit_and_give_the_published_dimensions(name: str) -> None:
    with torch.device("meta"):
        network = release_of(name).build(name, trained=False)
    assert network.descriptors_dim == DIMENSIONS[name]


@pytest.mark.parametrize(("name", "authors_key"), [("cosplace-resnet18-32", cosplace_key), ("mixvpr-128", gsv_key)])
def test_a_file_with_the_authors_keys_fills_the_network(name: str, authors_key, hub: Path) -> None:
    release = release_of(name)
    assert isinstance(release, OwnRelease)
    torch.manual_seed(3)
    source = build_network(**release.parts, pretrain="none", resize=release.size).eval()
    weights = {authors_key(key): value for key, value in source.state_dict().items()}
    torch.save(weights, hub / "checkpoints" / release.file.name)
    network = load_release(name).eval()
    images = torch.randint(0, 256, (1, 3, *release.size), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), source(images))
    assert network.config == {"method": name}
    again = rebuild_network(network.config, network.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), network.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "authors_key"),
    [
        ("salad", dino_key("model")), ("boq", dino_key("dino")), ("megaloc", dino_key("model")),
        ("boq-resnet50", openvpr_key), ("convap", gsv_key), ("eigenplaces", cosplace_key),
        ("cliquemining", dino_key("model")), ("indoor-salad-1", lambda key: "model." + dino_key("model")(key)),
        ("indoor-eigenplaces-0", lambda key: "model." + cosplace_key(key)),
    ],
)  # fmt: skip
def test_the_authors_keys_lead_to_every_key(name: str, authors_key) -> None:
    with torch.device("meta"):
        keys = release_of(name).build(name, trained=False).state_dict().keys()
    theirs = {authors_key(key): torch.zeros(()) for key in keys}
    assert len(theirs) == len(keys)
    assert own_keys(theirs, keys).keys() == set(keys)


def boq_file(*, norm: bool) -> dict[str, torch.Tensor]:
    """A file under the keys of BoQ's release for DINOv2, with four layers of 64 channels; its network never norms."""
    c, d = 64, 384
    shapes: dict[str, tuple[int, ...]] = {
        "backbone.dino.cls_token": (1, 1, c),
        "backbone.dino.pos_embed": (1, 1370, c),
        "backbone.dino.mask_token": (1, c),
        "backbone.dino.patch_embed.proj.weight": (c, 3, 14, 14),
        "backbone.dino.patch_embed.proj.bias": (c,),
        "aggregator.proj_c.weight": (d, c, 3, 3),
        "aggregator.proj_c.bias": (d,),
        "aggregator.norm_input.weight": (d,),
        "aggregator.norm_input.bias": (d,),
        "aggregator.fc.weight": (32, 128),
        "aggregator.fc.bias": (32,),
    }
    for layer in (f"backbone.dino.blocks.{index}." for index in range(4)):
        shapes |= {f"{layer}{name}": (c,) for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias")}
        shapes |= {f"{layer}{name}": (c,) for name in ("ls1.gamma", "ls2.gamma", "attn.proj.bias", "mlp.fc2.bias")}
        shapes |= {f"{layer}attn.qkv.weight": (3 * c, c), f"{layer}attn.qkv.bias": (3 * c,)}
        shapes |= {f"{layer}attn.proj.weight": (c, c), f"{layer}mlp.fc1.weight": (4 * c, c)}
        shapes |= {f"{layer}mlp.fc1.bias": (4 * c,), f"{layer}mlp.fc2.weight": (c, 4 * c)}
    for block in ("aggregator.boqs.0.", "aggregator.boqs.1."):
        shapes[f"{block}queries"] = (1, 64, d)
        for attention in ("encoder.self_attn.", "self_attn.", "cross_attn."):
            shapes |= {f"{block}{attention}in_proj_weight": (3 * d, d), f"{block}{attention}in_proj_bias": (3 * d,)}
            shapes |= {f"{block}{attention}out_proj.weight": (d, d), f"{block}{attention}out_proj.bias": (d,)}
        for layer in ("encoder.norm1", "encoder.norm2", "norm_q", "norm_out"):
            shapes |= {f"{block}{layer}.weight": (d,), f"{block}{layer}.bias": (d,)}
        shapes |= {f"{block}encoder.linear1.weight": (4 * d, d), f"{block}encoder.linear1.bias": (4 * d,)}
        shapes |= {f"{block}encoder.linear2.weight": (d, 4 * d), f"{block}encoder.linear2.bias": (d,)}
    if norm:
        shapes |= {"backbone.dino.norm.weight": (c,), "backbone.dino.norm.bias": (c,)}
    generator = torch.Generator().manual_seed(0)
    return {key: 0.1 * torch.randn(shape, generator=generator) for key, shape in sorted(shapes.items())}


def test_boqs_file_has_a_norm_that_its_network_does_not_apply(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(dinov2.SIZES, "vitb", dinov2.Size(64, 4, 4))
    file = hub / "checkpoints" / "dinov2_12288.pth"
    images = torch.randint(0, 256, (1, 3, 28, 42), dtype=torch.uint8)
    found = []
    theirs = boq_file(norm=True)
    for changed in ({}, {"backbone.dino.norm.weight": torch.full((64,), 9.0)}):
        torch.save(theirs | changed, file)
        network = load_release("boq").eval()
        assert torch.equal(network.backbone.norm.bias, theirs["backbone.dino.norm.bias"])
        with torch.inference_mode():
            found.append(network(images))
    without = {key: value for key, value in theirs.items() if "dino.norm." not in key}
    torch.save(without, file)
    with torch.inference_mode():
        found.append(load_release("boq").eval()(images))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    torch.save({key: value for key, value in without.items() if "cls_token" not in key}, file)
    with pytest.raises(UserError, match="1 missing"):
        load_release("boq")


def matlab_struct(**fields: object) -> np.ndarray:
    record = np.empty((1, 1), dtype=[(name, object) for name in fields])
    for name, value in fields.items():
        record[name][0, 0] = value
    return record


def test_netvlads_matlab_file_computes_what_matlab_computes(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    clusters, out = 4, 8
    network = build_network("vgg16", "netvlad", "none", netvlad_clusters=clusters, fc_output_dim=out).eval()
    layers = np.empty((1, 34), dtype=object)
    pairs = {}
    for index, layer in enumerate(network.backbone.children()):
        if isinstance(layer, torch.nn.Conv2d):
            kernel = generator.standard_normal((3, 3, layer.in_channels, layer.out_channels))
            pairs[index] = (
                kernel / np.sqrt(4.5 * layer.in_channels),
                0.1 * generator.standard_normal(layer.out_channels),
            )
    scores, centres = generator.standard_normal((512, clusters)), generator.standard_normal((512, clusters))
    pairs[30] = (10 * scores, centres)
    matrix, bias = generator.standard_normal((1, 1, 512 * clusters, out)), generator.standard_normal(out)
    pairs[33] = (matrix, bias)
    for index in range(34):
        weights = np.empty((1, 2), dtype=object)
        weights[0, 0], weights[0, 1] = pairs.get(index, (np.zeros(0), np.zeros(0)))
        layers[0, index] = matlab_struct(weights=weights)
    colour = np.tile(np.array([120.0, 110.0, 100.0]), (2, 2, 1))
    net = matlab_struct(layers=layers, meta=matlab_struct(normalization=matlab_struct(averageImage=colour)))
    scipy.io.savemat(tmp_path / "net.mat", {"net": net})
    load_netvlad(network, tmp_path / "net.mat")

    images = torch.randint(0, 256, (2, 3, 64, 80), dtype=torch.uint8)
    x = images.double() - torch.tensor([120.0, 110.0, 100.0], dtype=torch.float64).view(1, 3, 1, 1)
    for index, layer in enumerate(network.backbone.children()):
        if isinstance(layer, torch.nn.Conv2d):
            x = F.conv2d(
                x, torch.as_tensor(pairs[index][0]).permute(3, 2, 0, 1), torch.as_tensor(pairs[index][1]), padding=1
            )
        else:
            x = F.relu(x) if isinstance(layer, torch.nn.ReLU) else F.max_pool2d(x, 2)
    x = F.normalize(x.flatten(2), dim=1)  # [B,D,P]
    assignment = torch.softmax(torch.einsum("dk,bdp->bkp", torch.as_tensor(10 * scores), x), dim=1)
    residuals = torch.einsum("bkp,bdp->bdk", assignment, x) + assignment.sum(2)[:, None] * torch.as_tensor(centres)
    described = F.normalize(F.normalize(residuals, dim=1).flatten(1), dim=1)  # clusters within channels
    expected = F.normalize(described @ torch.as_tensor(matrix[0, 0]) + torch.as_tensor(bias), dim=1)
    with torch.inference_mode():
        found = network(images)
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-3)


def test_a_file_that_is_not_netvlads(tmp_path: Path) -> None:
    (tmp_path / "net.mat").write_bytes(b"no")
    with pytest.raises(UserError, match=r"net\.mat"):
        load_netvlad(build_network("vgg16", "netvlad", "none", fc_output_dim=8), tmp_path / "net.mat")


HUBCONF = """
import torch
def vgg16_netvlad(pretrained):
    class Mean(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.normalize(x.mean((2, 3)).repeat(1, 1366)[:, :4096], dim=1)
    return Mean()
"""


def test_the_authors_own_code_runs_as_it_is(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = hub / "yxgeee_OpenIBL_main"
    folder.mkdir()
    (folder / "hubconf.py").write_text(HUBCONF)
    monkeypatch.setattr(torch.hub, "_get_cache_or_reload", lambda *a, **k: str(folder))
    network = load_release("sfrs")
    assert network.descriptors_dim == 4096
    images = torch.randint(0, 256, (3, 3, 224, 224), dtype=torch.uint8)
    found = for_inference(network, Runtime())(images)
    assert found.shape == (3, 4096)
    torch.testing.assert_close(found, network(images))


HOOKED = """
import torch
class Extractor:
    def __init__(self, device):
        self.dino_model = torch.nn.Conv2d(3, 8, 14, stride=14).to(device)
        self.device, self.kept = device, None
        self.handle = self.dino_model.register_forward_hook(self.hook())
    def hook(self):
        def keep(module, inputs, output):
            self.kept = output
        return keep
    def __call__(self, images):
        self.dino_model(images)
        kept, self.kept = self.kept, None
        return kept.flatten(2)
class Vlad:
    pass
class Model(torch.nn.Module):
    def __init__(self, device):
        super().__init__()
        self.device, self.dino_extractor, self.vlad = torch.device(device), Extractor(torch.device(device)), Vlad()
        self.vlad.c_centers = torch.ones(6144, 1, device=device)
    def forward(self, images):
        mean = self.dino_extractor(images.to(self.device)).mean(2)
        return (mean[:, None] * self.vlad.c_centers).flatten(1)
def get_vlad_model(domain, backbone, device):
    return Model(device)
"""


def test_code_that_keeps_its_features_by_a_hook(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = hub / "AnyLoc_DINO_main"
    folder.mkdir()
    (folder / "hubconf.py").write_text(HOOKED)
    monkeypatch.setattr(torch.hub, "_get_cache_or_reload", lambda *a, **k: str(folder))
    network = load_release("anyloc-indoor")
    images = torch.randint(0, 256, (2, 3, 28, 42), dtype=torch.uint8)
    with torch.inference_mode():
        expected = network(images)
    both = build_ensemble([network, build_network("resnet18conv4", "gem", "none")]).eval()
    pair = for_inference(both, Runtime())(images)
    for runtime in (Runtime(), Runtime(amp_dtype=torch.bfloat16)):
        for _ in range(2):
            found = for_inference(network, runtime)(images)
            torch.testing.assert_close(found, expected, atol=2e-2, rtol=2e-2)
    assert found.shape == (2, 49152) and pair.shape == (2, 49152 + 256)
    assert network.backbone.model.dino_extractor.dino_model.weight.dtype == torch.float32


def test_what_its_authors_keep_aside_follows_the_images(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = hub / "AnyLoc_DINO_main"
    folder.mkdir()
    (folder / "hubconf.py").write_text(HOOKED)
    monkeypatch.setattr(torch.hub, "_get_cache_or_reload", lambda *a, **k: str(folder))
    network = load_release("anyloc")
    found = network(torch.empty(2, 3, 28, 28, device="meta"))  # stands for a GPU
    model = network.backbone.model
    assert found.device.type == "meta" and found.shape == (2, 49152)
    assert model.vlad.c_centers.device.type == model.dino_extractor.dino_model.weight.device.type == "meta"


def test_what_cannot_be_had_says_which_file_to_put_where(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*arguments: object, **options: object) -> None:
        raise requests.ConnectionError("no network")

    monkeypatch.setattr(requests, "get", unreachable)
    monkeypatch.setattr("gdown.download", unreachable)
    monkeypatch.setattr("gdown.download_folder", unreachable)
    monkeypatch.setattr(torch.hub, "load", unreachable)
    monkeypatch.setattr(
        "vgbench.models.release_kinds.build_network", lambda **k: build_network("resnet18conv4", "gem", "none")
    )
    for name, place in (
        ("salad", hub / "checkpoints" / "dino_salad.ckpt"),
        ("megaloc", hub / "checkpoints" / "megaloc.safetensors"),
        ("mixvpr", hub / "checkpoints" / "resnet50_MixVPR_4096_channels(1024)_rows(4).ckpt"),
        ("convap-512", hub / "checkpoints" / "resnet50_ConvAP_128_2x2.ckpt"),
        ("sfrs", hub / "yxgeee_OpenIBL_main"),
    ):
        with pytest.raises(UserError, match=f"^--method {name}: ") as told:
            load_release(name)
        assert str(place) in str(told.value)
        assert "\n" not in str(told.value)


def small_megaloc(monkeypatch: pytest.MonkeyPatch) -> tuple[Network, dict[str, torch.Tensor]]:
    """MegaLoc with two layers of 64 channels, and what its present file holds: no mask_token."""
    monkeypatch.setitem(dinov2.SIZES, "vitb", dinov2.Size(64, 2, 4))
    torch.manual_seed(5)
    source = build_network("dinov2_vitb14", "megaloc", "none", unfreeze_blocks=2).eval()
    theirs = {key.replace("aggregation.", "aggregator."): value for key, value in source.state_dict().items()}
    del theirs["backbone.mask_token"]
    return source, theirs


def test_the_present_file_of_megaloc_by_its_name_or_at_hand(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RELEASES, "megaloc", replace(RELEASES["megaloc"], parts=SMALL_MEGALOC))
    source, theirs = small_megaloc(monkeypatch)
    images = torch.randint(0, 256, (1, 3, 126, 126), dtype=torch.uint8)
    at_hand = hub.parent / "model.bin"
    for place in (hub / "checkpoints" / "megaloc.safetensors", at_hand):
        save_file({key: value.contiguous() for key, value in theirs.items()}, place)
        network = load_release("megaloc", weights=None if place != at_hand else at_hand).eval()
        with torch.inference_mode():
            assert torch.equal(network(images), source(images))
        place.unlink()
    older = hub / "checkpoints" / "megaloc.torch"
    torch.save(source.state_dict(), older)
    with torch.inference_mode():
        assert torch.equal(load_release("megaloc").eval()(images), source(images))
    del theirs["backbone.cls_token"]
    save_file({key: value.contiguous() for key, value in theirs.items()}, at_hand)
    with pytest.raises(UserError, match=r"^.*model\.bin: .*1 missing \(backbone.cls_token\)"):
        network_from_options(NetworkOptions(method="megaloc", weights=at_hand))


def test_weights_want_a_network_of_their_authors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--weights .*: no released network is named"):
        network_from_options(NetworkOptions(weights=tmp_path / "w.pth"))
    with pytest.raises(UserError, match=r"--weights .*w\.pth: --method sfrs is its authors' code"):
        network_from_options(NetworkOptions(method="sfrs", weights=tmp_path / "w.pth"))
    with pytest.raises(UserError, match=r"--weights w\.pth: stands beside --resume"):
        check_same_network(tmp_path / "c.pth", {"method": "salad"}, {"weights": "w.pth"}, "--resume")


def test_names_are_checked() -> None:
    with pytest.raises(UserError, match="Did you mean salad"):
        release_of("salat")
    with pytest.raises(UserError, match="--backbone"):
        network_from_options(NetworkOptions(method="salad", backbone="vgg16"))
    with pytest.raises(UserError, match="--pretrain gldv2: --method salad is a whole network"):
        network_from_options(NetworkOptions(method="salad", pretrain="gldv2"))


def test_every_release_has_a_paper_and_a_size() -> None:
    for name, release in RELEASES.items():
        assert release.paper, name
        assert min(release.size) >= 224, name
