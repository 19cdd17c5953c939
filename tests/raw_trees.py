"""Raw files of public sets in small, as their publishers give them: 8x8 pictures in the real formats."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scipy.io import savemat

from datasets_vg.challenge.choices import QUERY_TYPES
from datasets_vg.prepare.eynsham import CAMERAS
from datasets_vg.prepare.msls import TRAIN, VAL


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Path:
    """Write an image of random pixels, in the format that its ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels, mode).save(path)
    return path


def db_struct(
    file: Path, which: str, database: Sequence[str], queries: Sequence[str], utm: tuple[float, float]
) -> None:
    """Write a dbStruct with images a metre apart from one another, east of `utm`."""

    def cell(names: Sequence[str]) -> np.ndarray:
        cells = np.empty((len(names), 1), object)
        cells[:, 0] = list(names)
        return cells

    def at(count: int) -> np.ndarray:
        return np.array(utm)[:, None] + np.array([[1.0], [0.0]]) * np.arange(count)

    fields = {
        "whichSet": which, "dbImageFns": cell(database), "utmDb": at(len(database)), "qImageFns": cell(queries),
        "utmQ": at(len(queries)), "numImages": len(database), "numQueries": len(queries), "posDistThr": 25.0,
        "posDistSqThr": 625.0, "nonTrivPosDistSqThr": 100.0,
    }  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    savemat(file, {"dbStruct": fields})


def pittsburgh(raw: Path, name: str = "pitts30k") -> Path:
    views = [f"{pano[:3]}/{pano}_pitch{p}_yaw{y}.jpg" for pano in ("000829", "006001") for p in (1, 2) for y in (1, 24)]
    queries = ["000/000546_pitch1_yaw1.jpg", "003/003021_pitch2_yaw13.jpg"]
    for seed, view in enumerate(views):
        picture(raw / view, seed)
    for seed, view in enumerate(queries):
        picture(raw / "queries_real" / view, 50 + seed)
    for split in ("train", "val", "test"):
        db_struct(raw / "datasets" / f"{name}_{split}.mat", split, views, queries, (585001.25, 4477123.5))
    return raw


def tokyo247(raw: Path) -> Path:
    views = [f"03814/{i:03d}/6vTzbqkRuSEFcpwRsl8S7{i}_012_{30 * i}.jpg" for i in (0, 5)] + [
        "03829/001/abcdefghijklmnopqrstuv_012_330.jpg"
    ]
    for seed, view in enumerate(views):
        picture((raw / view).with_suffix(".png"), seed)
    db_struct(raw / "datasets" / "tokyo247.mat", "test", views, ["247query_subset_v2/00685.jpg"], (381523.0, 3946790.0))
    folder = raw / "247query_subset_v2"
    picture(folder / "00685.jpg", 9, (600, 800))
    (folder / "00685.csv").write_text("00685.jpg,35.65786,139.69112,12\nmore,1,2\n")
    return raw


def msls(raw: Path, cities: Sequence[str] = (*TRAIN, *VAL)) -> Path:
    for number, city in enumerate(cities):
        for level, count in (("database", 3), ("query", 4)):
            folder = raw / "train_val" / city / level
            keys = [f"{city}-{level[0]}{i}" for i in range(count)]
            for i, key in enumerate(keys):
                picture(folder / "images" / f"{key}.jpg", i)
            rows = [
                [i, key, 12.5 + number / 100 + i / 10000, 55.6, 123.9, "2019-02-03", str(i == 2 and level == "query")]
                for i, key in enumerate(keys)
            ]
            write_csv(folder / "raw.csv", ["", "key", "lon", "lat", "ca", "captured_at", "pano"], rows)
            # The last query is 100 m from anything.
            where = [1000.0 * number + 10 * i + (100 if i == 3 else 0) for i in range(count)]
            header = ["", "key", "easting", "northing", "unique_cluster", "control_panel", "night", "view_direction"]
            rows = [
                [i, k, e, 0.0, 7, "False", str(i == 1), "Forward"]
                for i, (k, e) in enumerate(zip(keys, where, strict=True))
            ]
            write_csv(folder / "postprocessed.csv", header, rows)
            # Frames run backwards, so that names are not in their order.
            frames = [[i, key, f"{city}-{level}", count - i] for i, key in enumerate(keys)]
            write_csv(folder / "seq_info.csv", ["", "key", "sequence_key", "frame_number"], frames)
            if level == "query":
                write_csv(
                    folder / "subtask_index.csv", ["", "all", "night2day"], [[i, "True", "False"] for i in range(count)]
                )
    return raw


def msls_challenge(raw: Path, cities: Sequence[str]) -> Path:
    for city in cities:
        for level in ("database", "query"):
            picture(raw / "test" / city / level / "images" / f"{city}-{level}.jpg")
            frames = [[0, f"{city}-{level}", "one", 7]]
            write_csv(raw / "test" / city / level / "seq_info.csv", ["", "key", "sequence_key", "frame_number"], frames)
            header = ["", "key", "easting", "northing", "unique_cluster", "control_panel", "night", "view_direction"]
            rows = [[0, f"{city}-{level}", 500000.0, 1000.0, 7, "False", "False", "Sideways"]]
            meta = raw / "test_meta" / city / level
            write_csv(meta / "postprocessed.csv", header, rows)
            write_csv(meta / "subtask_index.csv", ["", "all", *QUERY_TYPES], [[0, *["True"] * (1 + len(QUERY_TYPES))]])
    return raw


def write_csv(file: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as lines:
        csv.writer(lines).writerows([header, *rows])


def san_francisco(raw: Path) -> Path:
    picture(
        raw / "PCIs_00011000_00012000_3" / "PCI_sp_11841_37.796391_-122.394883_937762214_0_727224067_0.97_-12.5.jpg"
    )
    picture(raw / "PCIs_00012000_00013000_3" / "PCI_sp_12001_37.796500_-122.394000_937762214_11_727224067_359.9_18.jpg")
    picture(raw / "BuildingQueryImagesCartoIDCorrected-Upright" / "0042.jpg")
    poses = raw / "reference_poses_598" / "reference_poses_addTM_all_598.txt"
    poses.parent.mkdir(parents=True)
    poses.write_text("header\n0 0042 0.5 0.5 0.5 0.5 551000.25 4183000.75 1\n")
    return raw


def eynsham(raw: Path, positions: int = 3) -> Path:
    names = (f"grab_{1183000000 + i}.25_{camera}.ppm" for i in range(positions + 1) for camera in range(CAMERAS))
    for seed, name in enumerate(names):
        picture(raw / "Eynsham" / "Images" / name, seed, mode="L")
    track = " ".join(f"-1.4{i},51.75,60" for i in range(positions + 2))
    kml = "\n".join(["<kml>"] * 11 + [f"<coordinates>{track}</coordinates>", "</kml>"])
    (raw / "Eynsham" / "Route_map").mkdir()
    (raw / "Eynsham" / "Route_map" / "Eynsham.kml").write_text(kml)
    return raw


def st_lucia(raw: Path, frames: int = 12) -> Path:
    for run in ("100909_0845", "210809_1210"):
        folder = raw / run
        folder.mkdir(parents=True)
        film = cv2.VideoWriter(str(folder / "webcam_video.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 15, (64, 48))
        for i in range(frames):
            film.write(np.full((48, 64, 3), 20 * i, np.uint8))
        film.release()
        # A frame every 2 m: the latitude without its minus sign, as published.
        (folder / "fGPS.txt").write_text("".join(f"{27.5 - i * 1.805e-5:.8f},152.99634\n" for i in range(frames)))
    return raw


def nordland(raw: Path) -> Path:
    for season in ("summer", "winter"):
        for i in range(1, 6):
            picture(raw / season / f"images-{i:05d}.png", i)
    (raw / "cleanImageNames.txt").write_text("images-00001.png\nimages-00003.png\nimages-00005.png\n")
    return raw


def nordland_vprbench(raw: Path) -> Path:
    """Write VPR-Bench's own folders: 21 frames in winter, every tenth of them in summer."""
    for folder, count in (("ref", 21), ("query", 3)):
        for i in range(count):
            picture(raw / "Nordland" / folder / f"{i:07d}.jpg", i)
    return raw


def amstertime(raw: Path) -> Path:
    for number in ("0001", "0120"):
        picture(raw / "AmsterTime-v1.0" / "new" / f"{number}.png", mode="RGBA")
        picture(raw / "AmsterTime-v1.0" / "old" / f"{number}.jpg", mode="L")
    return raw


def sped(raw: Path) -> Path:
    for number in ("0000001", "0000607"):
        for folder in ("ref", "query"):
            picture(raw / "SPEDTEST" / folder / f"{number}.jpg")
    return raw


def baidu(raw: Path) -> Path:
    for images, cameras, count in (
        ("training_images_undistort", "training_gt", 2), ("query_images_undistort", "query_gt", 3)
    ):  # fmt: skip
        for i in range(count):
            picture(raw / images / f"img{i}.jpg")
            (raw / cameras).mkdir(exist_ok=True)
            lines = ["2", "8 0 4", "0 8 4", "0 0 1", "1 0 0", "0 1 0", "0 0 1", f"{10 + 300 * i}.5 -20.25 1.5", "8 8"]
            (raw / cameras / f"img{i}.camera").write_text("\n".join(lines) + "\n")
    return raw


def gsv_cities(raw: Path) -> Path:
    header = ["place_id", "year", "month", "northdeg", "city_id", "lat", "lon", "panoid"]
    for city in ("Bangkok", "London"):
        rows = []
        for i in range(4):
            row = [i // 2, 2015, 6, 380, city, 51.5 + i / 10000, -0.12, f"pano{i}"]
            picture(raw / "Images" / city / f"{city}_{i // 2:07d}_2015_06_380_{row[5]}_{row[6]}_pano{i}.JPG", i)
            rows.append(row)
        write_csv(raw / "Dataframes" / f"{city}.csv", header, rows)
    return raw


def split(name: str, database: str = "database") -> list[str]:
    return [f"{name}/{database}", f"{name}/queries"]


def in_protocol(raw: Path, name: str) -> Path:
    """Write a set that is published in the folder protocol, as its publishers lay it out."""
    proper = "@0499638.99@6958015.36@56@J@-27.50151@0152.99634@100909_0845_03448@@@@@@@@.jpg"
    folders = {
        "tokyo_xs": ["tokyo_xs/test/database", "tokyo_xs/test/queries"],
        "sf_xs": [f"sf_xs/{folder}" for folder in ("train", *split("val"), *split("test"))],
        "gsv_xs": ["gsv_xs/train/Boston", "gsv_xs/train/London"],
        "sf_xl": ["test/database/37.7", *(f"test/queries_{kind}" for kind in ("v1", "v2", "night", "occlusion"))],
        "svox": [f"svox/images/{path}" for name in ("train", "val", "test") for path in split(name, "gallery")],
    }  # fmt: skip
    names = {
        "gsv_xs": "@0499638.99@6958015.36@56@J@-27.50151@0152.99634@pano@@090@@@@201906@0000042@.jpg",
        "svox": "@0619727.51@5736133.02@201503@Xy7_Z@277@@@@.jpg",
    }
    for seed, folder in enumerate(folders[name]):
        picture(raw / folder / names.get(name, proper), seed)
    return raw


MAKERS: dict[str, Callable[[Path], Path]] = {
    "pitts30k": pittsburgh,
    "pitts250k": lambda raw: pittsburgh(raw, "pitts250k"),
    "msls": msls,
    "tokyo247": tokyo247,
    "san_francisco": san_francisco,
    "eynsham": eynsham,
    "st_lucia": st_lucia,
    "nordland": nordland,
    "nordland_vprbench": nordland_vprbench,
    "amstertime": amstertime,
    "sped": sped,
    "baidu": baidu,
    "gsv_cities": gsv_cities,
    **{
        name: lambda raw, name=name: in_protocol(raw, name)  # type: ignore[misc]
        for name in ("tokyo_xs", "sf_xs", "gsv_xs", "sf_xl", "svox")
    },
}
"""Who writes the raw tree of each public set."""
