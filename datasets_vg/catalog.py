"""The known datasets by name: what they are, from where their raw archives come, what becomes of them here.

A new set is one row here and one file in datasets_vg/prepare/. This file is data: it imports nothing of vgbench but its
errors, so that the message about a missing dataset (vgbench.data.layout) can name the command that mends it.
"""

from __future__ import annotations

import difflib

from datasets_vg import papers
from datasets_vg.sources import COUNTED, REPORTED, ROUNDED, STATED, Count, Drive, Entry, Http, Part, Rsync
from vgbench.errors import UserError

_TEST_ONLY = "images/test/{database,queries}"
_CIIRC = "https://data.ciirc.cvut.cz/public/projects/2015netVLAD"
_MAT = Http("https://www.di.ens.fr/willow/research/netvlad/data/netvlad_v100_datasets.tar.gz")
_SF_XL = "rsync://vandaldata.polito.it/sf_xl"
_OPENVPRLAB = "https://github.com/amaralibey/OpenVPRLab/releases/download/v0.1"
_STANFORD = "https://stacks.stanford.edu/file/druid:vn158kj2087"
_SURFDRIVE = "https://surfdrive.surf.nl/files/index.php/s/sbZRXzYe3l0v67W/download?path=%2F&files=SPEDTEST.zip"
_4TU = "https://data.4tu.nl/ndownloader/items/d2ee2551-986a-46bc-8540-b43f5b01ec4d/versions/4"

_ASK_PITTSBURGH = f"the authors of NetVLAD, by e-mail (https://www.di.ens.fr/willow/research/netvlad/); archives: {_CIIRC}/Pittsburgh250k/"
_ASK_TOKYO = f"the authors of 24/7 place recognition, on request (http://www.ok.ctrl.titech.ac.jp/~torii/project/247/); archives: {_CIIRC}/Tokyo247/"
_COURSE = "Google Drive, folder 1Ucy9JONT26EjDAjIJFhuL9qeLxgSZKmf, https://github.com/gmberton/Simple_VPR_codebase"
_VANDAL = "the server of VANDAL, Politecnico di Torino"
_OWNER = "research use on the terms of its owner: {}"
_STREET_VIEW = _OWNER.format("Street View imagery belongs to Google; ask the authors before you pass it on")


def _formatted(name: str, about: str) -> dict[str, Part]:
    return {"test": Part(about, (Rsync(f"{_SF_XL}/VPR-datasets-downloader/{name}", name),))}


def _sf_xl(path: str, name: str) -> Rsync:
    return Rsync(f"{_SF_XL}/{path}", name)


def _test(database: int, queries: int, mark: str = COUNTED) -> dict[str, Count]:
    return {"test/database": Count(database, mark), "test/queries": Count(queries, mark)}


PUBLIC = {
    "pitts30k": Entry(
        "Pittsburgh, Street View, 30k images", _ASK_PITTSBURGH, "pittsburgh", _STREET_VIEW, (papers.PITTSBURGH, papers.NETVLAD),
        {
            "train": Part("10k / 7k images", wanted="000 .. 006, queries_real, datasets/pitts30k_train.mat"),
            "val": Part("10k / 8k images", (Http(f"{_OPENVPRLAB}/pitts30k-val.zip"), _MAT), 0.7, wanted="000 .. 006, queries_real, datasets/pitts30k_val.mat"),
            "test": Part("10k / 7k images", wanted="000 .. 006, queries_real, datasets/pitts30k_test.mat"),
        },
        {
            "train/database": Count(10_000, REPORTED), "train/queries": Count(7_416, REPORTED), "val/database": Count(10_000), "val/queries": Count(7_608),
            **_test(10_000, 6_816),
        },
        packed=("0??.tar", "queries_real.tar", "netvlad_v100_datasets.tar.gz"),
    ),
    "pitts250k": Entry(
        "Pittsburgh, Street View, 250k images", _ASK_PITTSBURGH, "pittsburgh", _STREET_VIEW, (papers.PITTSBURGH, papers.NETVLAD),
        {split: Part("", wanted=f"000 .. 010, queries_real, datasets/pitts250k_{split}.mat") for split in ("train", "val", "test")},
        {
            "train/database": Count(91_464, REPORTED), "train/queries": Count(7_824, REPORTED), "val/database": Count(78_648, REPORTED),
            "val/queries": Count(7_608, REPORTED), "test/database": Count(83_952, REPORTED), "test/queries": Count(8_280),
        },
        packed=("0??.tar", "queries_real.tar", "netvlad_v100_datasets.tar.gz"),
    ),
    "msls": Entry(
        "30 cities, dash cameras, 1.6M images", "Mapillary, after sign-up: https://www.mapillary.com/dataset/places", "msls",
        _OWNER.format("Mapillary's licence at sign-up (CC BY-NC-SA, as reported)"), (papers.MSLS,),
        {
            "train": Part("22 cities", wanted="train_val/<city>/{query,database}/{images,raw.csv,postprocessed.csv}"),
            "val": Part("Copenhagen and San Francisco; also as test", wanted="train_val/{cph,sf}/{query,database}/{images,raw.csv,postprocessed.csv,subtask_index.csv}"),
            "challenge": Part("the six test cities", default=False, wanted="test/<city>/{query,database}/images and test_meta/<city>/{query,database}/postprocessed.csv, as published in 2026"),
        },
        {
            "train/database": Count(915_000, ROUNDED), "train/queries": Count(503_000, ROUNDED), "val/database": Count(18_871), "val/queries": Count(11_084, REPORTED),
            "val/queries_740": Count(740), "test/database": Count(18_871), "test/queries": Count(11_084, REPORTED), "test/queries_740": Count(740),
        },
        "images/{train,val}/{database,queries}, images/val/queries_740 (the official validation queries), images/test = images/val",
        "two protocols go by the name MSLS val: all ~11k queries (queries) and the official 740 (--queries_folder=queries_740); never compare one with the other",
        ("images_vol_?.zip", "metadata.zip", "patch_v1.1.zip", "MSLS_samples.zip"),
    ),
    "tokyo247": Entry(
        "Tokyo, Street View; queries by phone, day to night", _ASK_TOKYO, "tokyo247", _STREET_VIEW, (papers.TOKYO,),
        {
            "database": Part("76k images", wanted="03814 .. 03829 (folders of PNG, or their .tar), datasets/tokyo247.mat"),
            "queries": Part("315 images", (Http(f"{_CIIRC}/Tokyo247/queries/247query_subset_v2.zip"),), wanted="247query_subset_v2 (folder or .zip)", completes=True),
        },
        _test(75_984, 315), _TEST_ONLY, packed=("038??.tar", "netvlad_v100_datasets.tar.gz"),
    ),
    "tokyo_xs": Entry(
        "Tokyo 24/7, a small database", _COURSE, "course", _STREET_VIEW, (papers.TOKYO,),
        {"test": Part("", (Drive("15QB3VNKj93027UAQWv7pzFQO1JDCdZj2", "tokyo_xs.zip"),), wanted="test/{database,queries}")},
        _test(12_771, 315, REPORTED), _TEST_ONLY,
    ),
    "sf_xl": Entry(
        "San Francisco, Street View, 41M images", f"{_VANDAL}, by rsync; its authors ask for the form https://forms.gle/wpyDzhDyoWLQygAT9", "sf_xl", _STREET_VIEW, (papers.COSPLACE, papers.BARBARANI),
        {
            "test": Part("2.8M images and four sets of queries", tuple(_sf_xl(f"processed/test/{name}", f"test/{name}") for name in ("database", "database_images_paths.txt", "queries_v1", "queries_v2", "queries_night", "queries_occlusion")), 123, wanted="test/{database,queries_v1,queries_v2,queries_night,queries_occlusion}"),
            "val": Part("8k / 8k images", (_sf_xl("processed/val", "val"),), 0.8, default=False, wanted="val/{database,queries}"),
            "train": Part("5.6M images, the 8 groups of CosPlace", (_sf_xl("processed/train", "train"), _sf_xl("processed/train_images_paths.txt", "train_images_paths.txt")), 242, default=False, wanted="train"),
            "small": Part("the small part, as sf_xs", (_sf_xl("small", "small"),), 4.8, default=False, wanted="small/{train,val,test}"),
            "panoramas": Part("views cut out of the panoramas of raw/train/panoramas (890 GB, never fetched)", default=False, wanted="folders of 3328x512 panoramas"),
        },
        {
            "train": Count(5_600_000, ROUNDED), "val/database": Count(8_015, REPORTED), "val/queries": Count(7_993, REPORTED), "test/database": Count(2_800_000, ROUNDED),
            "test/queries_v1": Count(1_000, STATED), "test/queries_v2": Count(598, STATED), "test/queries_night": Count(466, STATED), "test/queries_occlusion": Count(76, STATED),
        },
        "images/{train,val/{database,queries},test/{database,queries_v1,queries_v2,queries_night,queries_occlusion}}",
        "there is no folder called queries in its test split: --queries_folder=queries_v1 (or queries_v2, queries_night, queries_occlusion)",
    ),
    "sf_xs": Entry(
        "SF-XL, a small part of it", f"{_COURSE}; the same as {_SF_XL}/small", "course", _STREET_VIEW, (papers.COSPLACE,),
        {"all": Part("train, val and test", (Drive("1tQqEyt3go3vMh4fj_LZrRcahoTbzzH-y", "sf_xs.zip"),), 4.8, wanted="{train,val/{database,queries},test/{database,queries}}")},
        {"train": Count(59_650, STATED), "val/database": Count(8_015, REPORTED), "val/queries": Count(7_993, REPORTED), **_test(27_191, 1_000, STATED)},
        "images/{train,val/{database,queries},test/{database,queries}}",
    ),
    "san_francisco": Entry(
        "San Francisco Landmarks, 1.06M images", "https://purl.stanford.edu/vn158kj2087 (Stanford Digital Repository)", "san_francisco", _OWNER.format("see its page"), (papers.SAN_FRANCISCO, papers.SF_POSES),
        {
            "test": Part("", (
                *(Http(f"{_STANFORD}/PCIs_{i * 1000:08d}_{(i + 1) * 1000:08d}_3.tar", may_be_empty=True) for i in range(11, 150)),
                Http(f"{_STANFORD}/BuildingQueryImagesCartoIDCorrected-Upright.zip"),
                Http("http://www.ok.sc.e.titech.ac.jp/~torii/project/vlocalization/icons/reference_poses_598.zip"),
            ), wanted="PCIs_*_3 (folders or .tar), BuildingQueryImagesCartoIDCorrected-Upright, reference_poses_598"),
        },
        _test(1_046_587, 598, REPORTED), _TEST_ONLY,
    ),
    "eynsham": Entry(
        "Oxfordshire by car, two rounds", f"{_VANDAL}, by rsync; raw: https://zenodo.org/record/1243106/files/Eynsham.zip", "eynsham", _OWNER.format("see https://zenodo.org/record/1243106"), (papers.EYNSHAM, papers.DEEP_VG),
        _formatted("eynsham", "24k / 24k grey images"), _test(23_935, 23_935, STATED), _TEST_ONLY, packed=("Eynsham.zip",),
    ),
    "st_lucia": Entry(
        "a suburb of Brisbane by car", f"{_VANDAL}, by rsync; raw: https://wiki.qut.edu.au/display/cyphy/St+Lucia+Multiple+Times+of+Day", "st_lucia", _OWNER.format("QUT, see its page"), (papers.ST_LUCIA, papers.DEEP_VG),
        _formatted("st_lucia", "1.5k / 1.5k images"), _test(1_549, 1_464), _TEST_ONLY, packed=("100909_0845*.zip", "210809_1210*.zip"),
    ),
    "svox": Entry(
        "Oxford, Street View against five weathers", "Google Drive, https://github.com/valeriopaolicelli/SVOX-Dataset", "svox",
        _OWNER.format("database from Street View, queries from Oxford RobotCar (CC BY-NC-SA, as reported)"), (papers.SVOX, papers.ROBOTCAR),
        {"all": Part("train, val and test", (Drive("16iuk8voW65GaywNUQlWAbDt6HZzAJ_t9", "svox.zip"),), wanted="images/{train,val,test}/{gallery,queries,...}")},
        {
            **_test(17_166, 14_278, REPORTED), "test/queries_night": Count(823, REPORTED), "test/queries_overcast": Count(872, REPORTED), "test/queries_rain": Count(937, REPORTED),
            "test/queries_snow": Count(870, REPORTED), "test/queries_sun": Count(854, REPORTED), "train/database": Count(22_232, REPORTED),
            "train/queries_sun": Count(712, REPORTED), "train/queries_night": Count(702, REPORTED),
        },
        "images/{train,val,test}/{database,queries,queries_night,queries_overcast,queries_rain,queries_snow,queries_sun}",
    ),
    "nordland": Entry(
        "a railway in four seasons", f"{_VANDAL}, by rsync; raw: https://universityofadelaide.app.box.com/s/zkfk1akpbo5318fzqmtvlpp7030ex4up", "nordland", _OWNER.format("NRK (CC BY-SA, as reported)"), (papers.NORDLAND, papers.DEEP_VG),
        _formatted("nordland", "summer / winter, 28k images each"), _test(27_592, 27_592), f"{_TEST_ONLY}, a frame every 25/10.5 m",
        "25 m are +-10 frames (the protocol of Patch-NetVLAD and Deep VG); tables with 2,760 queries and +-1 frame are nordland_vprbench",
        ("summer.tar.gz", "winter.tar.gz"),
    ),
    "nordland_vprbench": Entry(
        "Nordland as in VPR-Bench, GSV-Cities and SALAD", f"{_VANDAL}, by rsync, where nordland is; VPR-Bench's own images: https://surfdrive.surf.nl/files/index.php/s/sbZRXzYe3l0v67W", "nordland",
        _OWNER.format("NRK (CC BY-SA, as reported)"), (papers.NORDLAND, papers.SPED),
        {"vprbench": Part("winter, and every 10th frame of summer", (Rsync(f"{_SF_XL}/VPR-datasets-downloader/nordland", "nordland"),), wanted="Nordland/{ref,query} of VPR-Bench; or nordland as prepare makes it; or summer, winter and cleanImageNames.txt")},
        _test(27_592, 2_760), f"{_TEST_ONLY}, a frame every 25/1.5 m", "25 m are +-1 frame (the protocol of VPR-Bench, GSV-Cities, MixVPR, SALAD)",
        ("Nordland*.zip", "summer.tar.gz", "winter.tar.gz"),
    ),
    "amstertime": Entry(
        "Amsterdam, archive photographs against today's", "https://doi.org/10.4121/19580806 (4TU.ResearchData)", "amstertime", _OWNER.format("see its page"), (papers.AMSTERTIME,),
        {"test": Part("", (Http(_4TU, "amstertime.zip"),), wanted="AmsterTime-v1.0/{new,old} (or its .zip)")}, _test(1_231, 1_231), f"{_TEST_ONLY}, pairs 1 km apart", packed=("AmsterTime-v1.0.zip",),
    ),
    "sped": Entry(
        "static cameras through the year", "https://github.com/MubarizZaffar/VPR-Bench (SPEDTEST)", "sped", _OWNER.format("see its page"), (papers.SPED,),
        {"test": Part("", (Http(_SURFDRIVE, "SPEDTEST.zip"),), wanted="SPEDTEST/{ref,query} (or its .zip)")}, _test(607, 607), f"{_TEST_ONLY}, pairs 1 km apart",
    ),
    "baidu": Entry(
        "a shopping mall, indoors", f"{_VANDAL}, by rsync; raw: baidu_datasets.tar.gz of AnyLoc, or the authors' IDL_dataset_cvpr17_3852.zip", "baidu", _OWNER.format("the authors"), (papers.BAIDU, papers.DEEP_VG),
        _formatted("baidu", "689 / 2,292 images"), _test(689, 2_292), _TEST_ONLY, "papers count within 10 m and not 25; eval.py does so for this name (--threshold)",
        ("baidu_datasets.tar.gz", "IDL_dataset_cvpr17_*.zip"), 10.0,
    ),
    "gsv_cities": Entry(
        "23 cities, places for training, 530k images", "Kaggle, with a token: kaggle datasets download amaralibey/gsv-cities --unzip", "gsv_cities", _STREET_VIEW, (papers.GSV_CITIES,),
        {
            "full": Part("23 cities", gigabytes=23.4, wanted="Images/<City>/*.JPG and Dataframes/<City>.csv"),
            "light": Part("a light version, no token", (Http(f"{_OPENVPRLAB}/gsv-cities-light.zip"),), 1.2, default=False, wanted="Images/<City>/*.jpg and Dataframes/<City>.csv"),
        },
        {"train": Count(530_000, ROUNDED)}, "Images/<City>/*.JPG and Dataframes/<City>.csv", packed=("gsv-cities.zip", "archive.zip"),
    ),
    "gsv_xs": Entry(
        "GSV-Cities, a small part of it", _COURSE, "course", _STREET_VIEW, (papers.GSV_CITIES,),
        {"train": Part("", (Drive("1q7usSe9_5xV5zTfN-1In4DlmF5ReyU_A", "gsv_xs.zip"),), wanted="train/<City>/@...@<place_id>@.jpg")}, {}, "images/train/<City>/@...@<place_id>@.jpg",
    ),
}  # fmt: skip

MADE = {
    "synthetic_city": Entry(
        "a procedural city, made here without a download", "this program", "synthetic_city", "none: nobody's photographs", layout="images/{train,val,test}/{database,queries,queries_night}"
    ),
}  # fmt: skip

KNOWN = {**MADE, **PUBLIC}


def entry_of(name: str) -> Entry:
    """Return the row of a dataset; raises UserError where there is none, with the closest name."""
    if name in KNOWN:
        return KNOWN[name]
    close = closest(name)
    hint = f" Did you mean {close}: python3 -m datasets_vg prepare {close}?" if close else ""
    raise UserError(
        f"dataset {name}: not known.{hint} To see the known ones: python3 -m datasets_vg list; for your own images "
        "see docs/datasets.md"
    )


def closest(name: str) -> str | None:
    """Return the known dataset whose name is most like `name`, if one is."""
    plain = {known.replace("_", ""): known for known in KNOWN}
    simple = name.lower().replace("_", "").replace("-", "").replace(" ", "")
    if simple in plain:
        return plain[simple]
    near = difflib.get_close_matches(simple, plain, n=1, cutoff=0.7)
    return plain[near[0]] if near else None
