"""Write the synthetic city: one task a street, any number of processes, resumed after an interruption."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from datasets_vg.synthetic_city.pool import TexturePool
from datasets_vg.synthetic_city.render import Painter
from datasets_vg.synthetic_city.views import Counts, Work, blocks_needed, make_district, plan_work, views
from vgbench.errors import UserError

LOG = logging.getLogger(__name__)

NAME = "synthetic_city"
VERSION = 1
"""Raised whenever the same seed would make other pictures."""
DEFAULT_COUNTS = {"train": Counts(600, 250, 90), "val": Counts(150, 60, 60), "test": Counts(250, 110, 110)}
DEFAULT_IMAGES = sum(counts.total for counts in DEFAULT_COUNTS.values())
LEAST_IMAGES = 60
QUALITY = 88
_DONE = "synthetic_city.json"
_SPLIT_FOLDERS = ("database", "queries", "queries_night")


@dataclass(frozen=True)
class CityOptions:
    """What decides every byte of the city.

    Attributes:
        seed: of everything.
        images: about how many pictures in all, shared out as in DEFAULT_COUNTS.
        size: height and width of a picture in pixels.
    """

    seed: int = 0
    images: int = DEFAULT_IMAGES
    size: tuple[int, int] = (240, 320)

    def __post_init__(self) -> None:
        if self.images < LEAST_IMAGES:
            raise UserError(
                f"--images {self.images}: expected at least {LEAST_IMAGES}, so that every split has queries"
            )

    def counts(self, split: str) -> Counts:
        share = self.images / DEFAULT_IMAGES
        whole = DEFAULT_COUNTS[split]
        return Counts(*(max(2, round(n * share)) for n in (whole.database, whole.queries, whole.queries_night)))

    def describe(self) -> dict[str, object]:
        """Return what is written beside the images to recognise them."""
        return {"dataset": NAME, "version": VERSION, **asdict(self), "size": list(self.size)}


def prepare(datasets_folder: Path, options: CityOptions, jobs: int | None = None) -> Path:
    """Make the city below `datasets_folder` and return its folder; a complete one is left as it is.

    It is written into `<name>.partial` and renamed when complete. An interrupted one with the same options goes on
    where it stopped; one with other options is begun anew.

    Raises:
        UserError: another dataset of that name is already there, or the folder cannot be written.
    """
    target, partial = datasets_folder / NAME, datasets_folder / f"{NAME}.partial"
    wanted = options.describe()
    if target.exists():
        _check_complete(target, wanted)
        return target
    try:
        if _read(partial / _DONE) != wanted and partial.exists():
            shutil.rmtree(partial)
        for split in DEFAULT_COUNTS:
            for folder in _SPLIT_FOLDERS:
                (partial / "images" / split / folder).mkdir(parents=True, exist_ok=True)
        (partial / _DONE).write_text(json.dumps(wanted) + "\n", "utf-8")
        _write_all(partial / "images", options, jobs or _cores())
        for leftover in (partial / "images").rglob(".*.tmp"):
            leftover.unlink()
        partial.rename(target)
    except OSError as error:
        raise UserError(
            f"{error.filename or partial}: cannot be written ({error.strerror}). Expected a folder that you may write "
            "with room for the images; name another with --datasets_folder"
        ) from error
    return target


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_complete(target: Path, wanted: dict[str, object]) -> None:
    found = _read(target / _DONE)
    if found is None:
        raise UserError(
            f"{target}: exists, but was not made by this command ({_DONE} is missing). Expected no folder of that "
            "name; move it away or name another place with --datasets_folder"
        )
    if found != wanted:
        differs = ", ".join(
            f"{key} {found.get(key)} instead of {value}" for key, value in wanted.items() if found.get(key) != value
        )
        raise UserError(
            f"{target}: is complete, but made with {differs}. To make it anew: rm -r '{target}'; or name another place "
            "with --datasets_folder"
        )
    LOG.info("%s: complete already, nothing to do", target)


def _read(file: Path) -> dict[str, object] | None:
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _write_all(images: Path, options: CityOptions, jobs: int) -> None:
    total = sum(options.counts(split).total for split in DEFAULT_COUNTS)
    with tqdm(total=total, desc=NAME, unit="image", smoothing=0.05) as bar:
        if jobs == 1:
            for blocks, work in _all_work(options):
                bar.update(_draw(images, options, blocks, work))
            return
        # Forked processes share what is imported; each paints its own walls, nothing is sent but file names.
        method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
        with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context(method)) as pool:
            running: set[Future[int]] = set()
            try:
                for blocks, work in _all_work(options):
                    running.add(pool.submit(_draw, images, options, blocks, work))
                    if len(running) >= 3 * jobs:
                        done, running = wait(running, return_when=FIRST_COMPLETED)
                        bar.update(sum(future.result() for future in done))
                for future in running:
                    bar.update(future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _all_work(options: CityOptions) -> Iterator[tuple[int, Work]]:
    for split in DEFAULT_COUNTS:
        counts = options.counts(split)
        blocks = blocks_needed(options.seed, split, counts.database)
        for work in plan_work(make_district(options.seed, split, blocks), counts):
            yield blocks, work


_PAINTERS: dict[tuple[int, str, int], Painter] = {}
_POOLS: list[TexturePool] = []


def _painter(seed: int, split: str, blocks: int) -> Painter:
    """Return this process's painter of a district: one at a time, on the process's one pool of textures."""
    key = (seed, split, blocks)
    if key not in _PAINTERS:
        _PAINTERS.clear()
        _POOLS[:] = [TexturePool()]
        _PAINTERS[key] = Painter(make_district(seed, split, blocks), _POOLS[0])
    return _PAINTERS[key]


def _draw(images: Path, options: CityOptions, blocks: int, work: Work) -> int:
    """Take the pictures of one street that are not there yet; returns how many it has."""
    painter = _painter(options.seed, work.split, blocks)
    count = 0
    for view in views(painter.district, work, options.size):
        count += 1
        file = images / view.path
        if file.exists():
            continue
        unfinished = file.with_name(f".{file.name}.tmp")
        painter.picture(view.shot, options.size).save(unfinished, "JPEG", quality=QUALITY)
        unfinished.replace(file)
    return count
