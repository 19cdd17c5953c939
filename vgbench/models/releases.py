"""Whole networks that their authors released, by name (`--method`), each at its own image size.

Most are networks of this project with the authors' weights, so that they are as fast as any other here; the rest is
the authors' own code, fetched through torch.hub.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from vgbench.errors import UserError
from vgbench.models.matlab import load_netvlad
from vgbench.models.network import Network
from vgbench.models.options import OFF_THE_SHELF as OFF_THE_SHELF
from vgbench.models.release_files import ReleaseFile, github, google_drive, hugging_face
from vgbench.models.release_kinds import HubRelease, OwnRelease, Release, move_anyloc
from vgbench.models.released_readers import (
    load_cricavpr,
    load_edtformer,
    load_pairvpr,
    load_r2former,
    load_selavpr,
    load_selavpr_pp,
    load_vlad_buff,
    qaa_parts,
)
from vgbench.models.retrieval_weights import load_retrieval

_STREET = (480, 640)  # photographs of street sets as they are
_322 = (322, 322)
_LITE, _DEEP = (32, 64, 128, 256, 512), (32, 64, 128, 256, 512, 1024, 2048)
_TRUNKS = {"ResNet18": "resnet18conv5", "ResNet50": "resnet50conv5", "ResNet101": "resnet101conv5",
           "ResNet152": "resnet152conv5", "VGG16": "vgg16"}  # fmt: skip
_COSPLACE_DIMS = {"VGG16": (64, 128, 256, 512), "ResNet18": _LITE, "ResNet50": _DEEP, "ResNet101": _DEEP,
                  "ResNet152": _DEEP}  # fmt: skip
_EIGEN_DIMS = {"VGG16": (512,), "ResNet18": (256, 512), "ResNet50": (128, 256, 512, 2048),
               "ResNet101": (128, 256, 512, 2048)}  # fmt: skip
_VGG_MEAN, _BYTE = (123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255, 1 / 255, 1 / 255)
_DINOV2 = {"backbone": "dinov2_vitb14"}
# (dimensions, channels, rows, the file's id on Google Drive)
_MIXVPR = ((128, 64, 2, "1DQnefjk1hVICOEYPwE4-CZAZOvi1NSJz"), (512, 256, 2, "1khiTUNzZhfV2UUupZoIsPIbsMRBYVDqj"),
           (4096, 1024, 4, "1vuz3PvnR7vxnDDLQrdHJaOA04SQrtk5L"))  # fmt: skip
_CONVAP_FOLDER = "https://drive.google.com/drive/folders/1VYPw9uGD11NgiGFgfWueLt3noJYOIuhL"
_R2FORMER_FOLDER = "https://drive.google.com/drive/folders/14dkj0o0NpAD_1MB0Kqt7NiGxR5ekOdN_"
_RETRIEVAL = {"aggregation": "gem", "fc_output_dim": 2048}
_RADENOVIC = {
    "resnet50conv5": {
        "radenovic_sfm": "rSfM120k-tl-resnet50-gem-w-97bf910.pth",
        "radenovic_gldv1": "gl18-tl-resnet50-gem-w-83fdc30.pth",
    },
    "resnet101conv5": {
        "radenovic_sfm": "rSfM120k-tl-resnet101-gem-w-a155e54.pth",
        "radenovic_gldv1": "gl18-tl-resnet101-gem-w-a4d43db.pth",
    },
}
_NAVER = {"resnet50conv5": "1oPtE_go9tnsiDLkWjN4NMpKjh-_md1G5", "resnet101conv5": "1UWJGDuHtzaQdFhSMojoYVQjmCXhIwVvy"}
_ANYLOC_DOMAINS = ("urban", "indoor", "aerial", "structured", "unstructured", "global")


def _own(paper: str, size: tuple[int, int], repository: str, version: str, file: str, **parts: Any) -> OwnRelease:
    return OwnRelease(paper, size, parts, github(repository, version, file))


def _cosplace_like(paper: str, repository: str, word: str, dims: dict[str, tuple[int, ...]]) -> dict[str, Release]:
    return {
        f"{word}-{trunk.lower()}-{dim}": _own(
            paper, _STREET, repository, "v1.0", f"{trunk}_{dim}_{word}.pth",
            backbone=_TRUNKS[trunk], aggregation="cosplace", out_dim=dim,
        )
        for trunk, sizes in dims.items() for dim in sizes
    }  # fmt: skip


def _mixvpr(dim: int, channels: int, rows: int, drive: str) -> OwnRelease:
    parts = {"backbone": "resnet50conv4", "aggregation": "mixvpr", "out_channels": channels, "out_rows": rows}
    file = f"resnet50_MixVPR_{dim}_channels({channels})_rows({rows}).ckpt"
    return OwnRelease("Ali-bey et al., 2023; GSV-Cities", (320, 320), parts, google_drive(drive, file))


def _convap(dim: int) -> OwnRelease:
    parts = {"backbone": "resnet50conv5", "aggregation": "convap", "out_channels": dim // 4}
    file = f"resnet50_ConvAP_{dim // 4}_2x2.ckpt"
    return OwnRelease("Ali-bey et al., 2022; GSV-Cities", (320, 320), parts, ReleaseFile(_CONVAP_FOLDER, file))


def _netvlad(city: str) -> OwnRelease:
    parts = {"backbone": "vgg16", "aggregation": "netvlad", "netvlad_clusters": 64, "fc_output_dim": 4096}
    file = f"{city}_struct.mat"
    released = ReleaseFile(f"https://cvg-data.inf.ethz.ch/hloc/netvlad/{file}", file)
    paper = f"Arandjelovic et al., 2016; {city}"
    return OwnRelease(paper, _STREET, parts, released, read=load_netvlad, normalisation=(_VGG_MEAN, _BYTE))


def _indoor() -> dict[str, Release]:
    paper = "Chiavassa et al., 2024; indoor photographs of {}"
    heads: dict[str, dict[str, Any]] = {
        "eigenplaces_ResNet50_2048": {"backbone": "resnet50conv5", "aggregation": "cosplace", "out_dim": 2048},
        "salad_Dinov2_8448": {**_DINOV2, "aggregation": "salad"},
    }
    trained_on = {
        "eigenplaces_ResNet50_2048": ("GB1_BAI_5_10", "GB1_BAI_10_25_S"),
        "salad_Dinov2_8448": ("GB1_10_25", "HB1_GB1_2_5"),
    }
    return {
        f"indoor-{file.partition('_')[0]}-{variation}": _own(
            paper.format(word), _322 if "salad" in file else _STREET, "Enrico-Chiavassa/Indoor-VPR", "v0.1.0",
            f"{file}_{word}.pth", **heads[file],
        )
        for file, words in trained_on.items() for variation, word in enumerate(words)
    }  # fmt: skip


def _supervlad(word: str, drive: str, **parts: Any) -> OwnRelease:
    file = google_drive(drive, f"{word}.pth")
    return OwnRelease("Lu et al., 2024; GSV-Cities", _322, {**_DINOV2, "aggregation": "supervlad", **parts}, file)


def _qaa(dimensions: int) -> OwnRelease:
    repository, name = f"xjh19972/QAA-{dimensions}", f"QAA-{dimensions}"
    # Which of the two shrinks with the descriptor, its file says.
    parts = {
        **_DINOV2, "aggregation": "qaa", "num_clusters": 64, "cluster_dim": dimensions // 64, "num_queries": 256,
        "feature_nheads": 16, "score_nheads": 16, "out_norm": False, "norm_layer": True,
    }  # fmt: skip
    file = hugging_face(repository, "model.safetensors", f"{name}.safetensors")
    return OwnRelease(
        "Xiao et al., 2026; several sets", _322, parts, file,
        beside=(hugging_face(repository, "config.json", f"{name}.json"),), parts_of=qaa_parts,
    )  # fmt: skip


def _vlad_buff(file: str, dimensions: int, **parts: Any) -> OwnRelease:
    parts = {**_DINOV2, "aggregation": "vlad_buff", "fc_output_dim": dimensions, **parts}
    released = github("ahmedest61/VLAD-BuFF", "v1.0.0", file)
    return OwnRelease("Khaliq et al., 2024; GSV-Cities", _322, parts, released, read=load_vlad_buff)


def _image(file: str, trained_on: str) -> OwnRelease:
    parts = {"backbone": "dinov2_vitb14_reg", "positions": "offset", "aggregation": "image"}
    return OwnRelease(f"Lu et al., 2025; {trained_on}", _322, parts, github("Lu-Feng/ImAge", "v1.0.0", file))


def _fol(backbone: str, file: str) -> OwnRelease:
    parts = {"backbone": backbone, "aggregation": "fol"}
    return OwnRelease("Wang et al., 2025; GSV-Cities", (504, 504), parts, hugging_face("shunpeng/FoL", file))


def _selavpr(trained_on: str, drive: str) -> OwnRelease:
    parts = {"backbone": "dinov2_vitl14", "adapter": "serial_parallel", "aggregation": "selavpr"}
    file = google_drive(drive, f"SelaVPR_{trained_on.lower()}.pth")
    return OwnRelease(f"Lu et al., 2024; {trained_on}", (224, 224), parts, file, read=load_selavpr)


def _pairvpr(size: str) -> OwnRelease:
    parts = {"backbone": f"dinov2_vit{size}14_reg", "aggregation": "pairvpr"}
    file = hugging_face("CSIRORobotics/Pair-VPR", f"pairvpr-vit{size.upper()}.pth")
    return OwnRelease("Hausler and Moghadam, 2025; several sets", _322, parts, file, read=load_pairvpr)


def _selavpr_pp(backbone: str, file: str, **parts: Any) -> OwnRelease:
    parts = {"backbone": backbone, "adapter": "multiconv", "aggregation": "selavpr_pp", **parts}
    released = github("Lu-Feng/SelaVPRplusplus", "SelaVPR%2B%2B", f"SelaVPRplusplus_{file}.pth")
    return OwnRelease("Lu et al., 2025; several sets", _322, parts, released, read=load_selavpr_pp)


def _present() -> dict[str, Release]:
    qaa = {f"qaa-{dimensions}": _qaa(dimensions) for dimensions in (1024, 2048, 4096, 8192)}
    return {
        "supervlad": _supervlad("SuperVLAD", "1wRkUO4E8s5hNRNNIWcuA8RUvlGob3Tbf"),
        "supervlad-crossimage": _supervlad(
            "SuperVLAD_crossimage", "1yomnWGTJko6nf3F2Ju6RWsLhP2EG82tL", crossimage_encoder=True
        ),
        "supervlad-1cluster": _supervlad(
            "1-clusterVLAD", "1pQcJx9n2-keAh9TttssZkz6D0vjpFWU6", supervlad_clusters=1, ghost_clusters=2
        ),
        "qaa": qaa["qaa-8192"],
        "image": _image("ImAge_Merged.pth", "Pitts30k, MSLS and SF-XL and GSV-Cities"),
        "image-gsv": _image("ImAge_GSV.pth", "GSV-Cities"),
        "vlad-buff": _vlad_buff("dnv2_NV_192PCA_AB_wpca4096_last.ckpt", 4096, nv_pca=192),
        "vlad-buff-8192": _vlad_buff("dnv2_NV_AB_wpca8192_last.ckpt", 8192),
        "dino-mix": _own(
            "Huang et al., 2024; GSV-Cities", (224, 224), "GaoShuang98/DINO-Mix", "v1.0.0", "dinov2_vitb14_mix.ckpt",
            **_DINOV2, norm_layer=False, aggregation="mixvpr", out_channels=1024, mix_depth=2, out_rows=4,
        ),
        "edtformer": OwnRelease(
            "Jin et al., 2025; GSV-Cities", _322, {**_DINOV2, "adapter": "lopa", "aggregation": "edtformer"},
            github("Tong-Jin01/EDTformer", "v1.0.0", "EDTformer.pth"), read=load_edtformer,
        ),
        "cricavpr": OwnRelease(
            "Lu et al., 2024; GSV-Cities", (224, 224),
            {**_DINOV2, "adapter": "parallel_multiconv", "aggregation": "cricavpr"},
            github("Lu-Feng/CricaVPR", "v1.0", "CricaVPR.pth"), read=load_cricavpr,
        ),
        "selavpr": _selavpr("MSLS", "1vy05l0JTEgr6n8iSoz_P_yjWfEzFPAkV"),
        "selavpr-pitts30k": _selavpr("Pitts30k", "1LKTZZRHfMH3dY3UPagCt2TIlMN5LguGO"),
        "selavpr-pp": _selavpr_pp("dinov2_vitb14", "base"),
        "selavpr-pp-large": _selavpr_pp("dinov2_vitl14", "large"),
        "selavpr-pp-rerank": _selavpr_pp("dinov2_vitb14", "base_rerank"),
        "selavpr-pp-large-rerank": _selavpr_pp("dinov2_vitl14", "large_rerank"),
        "selavpr-pp-hashing": _selavpr_pp("dinov2_vitb14", "base_rerank", hashing=True),
        "selavpr-pp-large-hashing": _selavpr_pp("dinov2_vitl14", "large_rerank", hashing=True),
        "r2former": OwnRelease(
            "Zhu et al., 2023; MSLS", _STREET, {"backbone": "deit_small", "aggregation": "r2former"},
            ReleaseFile(_R2FORMER_FOLDER, "CVPR23_DeitS_Rerank.pth"), read=load_r2former,
        ),
        **{f"pairvpr-vit{size}": _pairvpr(size) for size in "blg"},
        "fol": _fol("dinov2_vitl14", "FoL_large.pth"),
        "fol-base": _fol("dinov2_vitb14", "FoL_base.pth"),
        **qaa,
    }  # fmt: skip


def _off_the_shelf() -> dict[str, Release]:
    found: dict[str, Release] = {}
    for trunk, files in _RADENOVIC.items():
        for shelf, file in files.items():
            folder = "retrieval-SfM-120k" if shelf == "radenovic_sfm" else "gl18"
            released = ReleaseFile(f"http://cmp.felk.cvut.cz/cnnimageretrieval/data/networks/{folder}/{file}", file)
            parts = {**_RETRIEVAL, "backbone": trunk, "l2": "after_pool"}
            paper = f"Radenovic et al., 2018; {'SfM-120k' if shelf == 'radenovic_sfm' else 'Google Landmarks v1'}"
            found[f"{shelf}-{trunk}"] = OwnRelease(paper, _STREET, parts, released, read=load_retrieval)
    for trunk, drive in _NAVER.items():
        parts, released = {**_RETRIEVAL, "backbone": trunk, "l2": "none"}, google_drive(drive, f"naver_{trunk}.pt")
        found[f"naver-{trunk}"] = OwnRelease(
            "Revaud et al., 2019; Landmarks-clean", _STREET, parts, released, read=load_retrieval
        )
    return found


def _with_defaults() -> dict[str, Release]:
    cosplace = _cosplace_like("Berton et al., 2022; SF-XL", "gmberton/CosPlace", "cosplace", _COSPLACE_DIMS)
    eigen = _cosplace_like("Berton et al., 2023; SF-XL", "gmberton/EigenPlaces", "eigenplaces", _EIGEN_DIMS)
    mixvpr = {f"mixvpr-{row[0]}": _mixvpr(*row) for row in _MIXVPR}
    convap = {f"convap-{dim}": _convap(dim) for dim in (512, 2048, 4096, 8192)}
    boq = "amaralibey/Bag-of-Queries"
    return {
        "netvlad": _netvlad("Pitts30K"),
        "netvlad-tokyotm": _netvlad("TokyoTM"),
        "sfrs": HubRelease(
            "Ge et al., 2020; Pitts30k", _STREET, "yxgeee/OpenIBL", "vgg16_netvlad", 4096, {"pretrained": True},
            mean=(0.48501960784313836, 0.4579568627450961, 0.4076039215686255), std=_BYTE,
        ),
        "cosplace": cosplace["cosplace-resnet50-2048"],
        "eigenplaces": eigen["eigenplaces-resnet50-2048"],
        "convap": convap["convap-4096"],
        "mixvpr": mixvpr["mixvpr-4096"],
        "salad": _own(
            "Izquierdo and Civera, 2024; GSV-Cities", _322, "serizba/salad", "v1.0.0", "dino_salad.ckpt",
            **_DINOV2, aggregation="salad",
        ),
        "boq": _own(
            "Ali-bey et al., 2024; GSV-Cities", _322, boq, "v1.0", "dinov2_12288.pth",
            **_DINOV2, norm_layer=False, aggregation="boq", proj_channels=384, num_queries=64,
        ),
        "boq-resnet50": _own(
            "Ali-bey et al., 2024; GSV-Cities", (384, 384), boq, "v1.0", "resnet50_16384.pth",
            backbone="resnet50conv4", aggregation="boq", proj_channels=512, num_queries=64,
        ),
        "megaloc": OwnRelease(
            "Berton and Masone, 2025; five sets", _322, {**_DINOV2, "aggregation": "megaloc"},
            hugging_face("gberton/MegaLoc", "model.safetensors", "megaloc.safetensors", older=("megaloc.torch",)),
        ),
        "cliquemining": OwnRelease(
            "Izquierdo and Civera, 2024; MSLS and GSV-Cities", _322, {**_DINOV2, "aggregation": "salad"},
            google_drive("1B06ysb-Wjb4KDcNrl-7pyj1mJve1jqdk", "cliquemining.ckpt"),
        ),
        **_indoor(), **_present(),
        **{
            f"anyloc-{domain}": HubRelease(
                "Keetha et al., 2023; untrained", _322, "AnyLoc/DINO", "get_vlad_model", 49152,
                {"backbone": "DINOv2", "domain": domain, "device": "cpu"}, move=move_anyloc,
            )
            for domain in _ANYLOC_DOMAINS
        },
        **cosplace, **eigen, **convap, **mixvpr, **_off_the_shelf(),
    }  # fmt: skip


RELEASES: dict[str, Release] = _with_defaults()
RELEASES["anyloc"] = RELEASES["anyloc-urban"]


def load_release(name: str, trained: bool = True, weights: Path | None = None) -> Network:
    """Return a released network by its name.

    Args:
        trained: with the released weights; without, when a checkpoint brings others.
        weights: a file at hand that has them, under whatever name; nothing is fetched.

    Raises:
        UserError: no such name, or code or weights that cannot be had; the message says which file to put where.
    """
    return release_of(name).build(name, trained, weights)


def release_of(name: str) -> Release:
    """Return the row of a name; raises UserError if there is none."""
    if name not in RELEASES:
        close = difflib.get_close_matches(name, RELEASES, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise UserError(f"--method {name}: not known.{hint} Known: {', '.join(RELEASES)}")
    return RELEASES[name]


def aggregation_of(name: str) -> str:
    """Return the aggregation of a released network that is made of parts, "" of others; raises UserError."""
    release = release_of(name)
    return str(release.parts.get("aggregation", "")) if isinstance(release, OwnRelease) else ""


def is_fetched(name: str | None) -> bool:
    """Whether a released network is its authors' own code, which torch.hub has to fetch."""
    return name is not None and isinstance(RELEASES.get(name), HubRelease)
