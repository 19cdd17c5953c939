"""Pictures to files: linked, copied, moved or encoded, whole or not at all, and only those that are not there yet."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter, deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from datasets_vg.prepare.base import Picture
from vgbench.errors import UserError, in_short

_CORES = os.cpu_count() or 1


@dataclass
class Written:
    """What became of the pictures.

    Attributes:
        counts: images by folder, as far as it has a name of its own: "test/database".
        missing: raw files that are not there.
        broken: raw files that cannot be read as images, with the reason.
        encoded: raw files that became JPEG files here.
    """

    counts: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    encoded: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Writer:
    """Writes the pictures of one part.

    Attributes:
        out: the unfinished dataset's folder.
        finished: the dataset's folder, where some of them may be already.
        transfer: what becomes of raw files: "link", "copy" or "move".
        scratch: raw files below it were fetched or unpacked here, and are always moved.
        jobs: threads that encode; None: one a core.
    """

    out: Path
    finished: Path
    transfer: str
    scratch: Path
    jobs: int | None = None

    def write(self, pictures: Iterable[Picture], title: str, total: int | None = None) -> Written:
        """Write all that are not there yet; `total` is how many are expected, for the bar.

        Raises:
            UserError: two pictures of one name, no space, a folder that cannot be written.
        """
        written, seen = Written(), set[int]()
        folders: set[str] = set()
        begun = [folder for folder in (self.out, self.finished) if folder.is_dir()]
        jobs = self.jobs or _CORES
        running: deque[tuple[Picture, Future[str]]] = deque()
        with ThreadPoolExecutor(jobs) as pool, tqdm(total=total, desc=title, unit="image", smoothing=0.05) as bar:
            for picture in pictures:
                key = hash(picture.target)
                if key in seen:
                    raise UserError(
                        f"{picture.source}: would become {picture.target}, as another raw file does. Expected raw "
                        "files as published, each once"
                    )
                seen.add(key)
                bar.update()
                written.counts[folder_of(picture.target)] += 1
                target = f"{self.out}/{picture.target}"  # strings: a Path an image costs more than its link
                if any(os.path.lexists(f"{folder}/{picture.target}") for folder in begun):
                    _note_encoded(picture, written)
                    continue
                parent = target.rpartition("/")[0]
                if parent not in folders:
                    folders.add(parent)
                    Path(parent).mkdir(parents=True, exist_ok=True)
                if picture.image is None:
                    self._place(picture, target, written)
                    continue
                running.append((picture, pool.submit(_encode, picture, Path(target))))
                if len(running) > 2 * jobs:
                    _collect(*running.popleft(), written)
            while running:
                _collect(*running.popleft(), written)
        return written

    def _place(self, picture: Picture, target: str, written: Written) -> None:
        transfer = "move" if picture.source.startswith(f"{self.scratch}/") else self.transfer
        try:
            if transfer == "link":
                if not os.path.exists(picture.source):  # noqa: PTH110
                    raise FileNotFoundError
                os.symlink(picture.source, target)  # noqa: PTH211
            elif transfer == "copy":
                _copy(picture.source, Path(target))
            else:
                _move(picture.source, Path(target))
        except FileNotFoundError:
            written.missing.append(picture.source)
            written.counts[folder_of(picture.target)] -= 1
        except OSError as error:
            raise _unwritable(target, error) from error


def folder_of(target: str) -> str:
    """Return the folder that a picture's count belongs to: "test/database", or "train" where that is all there is."""
    parts = target.split("/")[:-1]
    parts = parts[1:] if parts[:1] == ["images"] else parts
    named = len(parts) > 1 and (parts[1] == "database" or parts[1].startswith("queries"))
    return "/".join(parts[: 2 if named else 1])


def _copy(source: str, target: Path) -> None:
    unfinished = target.with_name(f".{target.name}.tmp")
    shutil.copyfile(source, unfinished)
    unfinished.replace(target)


def _move(source: str, target: Path) -> None:
    try:
        os.rename(source, target)  # noqa: PTH104
    except FileNotFoundError:
        raise
    except OSError:  # onto another disk
        _copy(source, target)
        os.unlink(source)  # noqa: PTH108


def _encode(picture: Picture, target: Path) -> str:
    """Write a picture as JPEG at the library's usual quality, as the published preparers do; returns what is wrong."""
    assert picture.image is not None
    try:
        image = picture.image()
    except FileNotFoundError:
        return "missing"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return in_short(error)
    unfinished = target.with_name(f".{target.name}.tmp")
    try:
        image.save(unfinished, "JPEG")
        unfinished.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise _unwritable(target, error) from error
    return ""


def _collect(picture: Picture, done: Future[str], written: Written) -> None:
    reason = done.result()
    if not reason:
        _note_encoded(picture, written)
        return
    written.counts[folder_of(picture.target)] -= 1
    if reason == "missing":
        written.missing.append(picture.source)
    else:
        written.broken.append(f"{picture.source}\t{reason}")


def _note_encoded(picture: Picture, written: Written) -> None:
    if picture.image is not None:
        written.encoded.append(picture.source)


def _unwritable(target: Path | str, error: OSError) -> UserError:
    return UserError(
        f"{target}: cannot be written ({error.strerror or error}). Expected a folder that you may write, with space "
        "left; the same command goes on from here"
    )
