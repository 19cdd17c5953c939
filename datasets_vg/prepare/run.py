"""One command for every public set: fetch or look, format, put in place, say what is there and on what terms."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from datasets_vg import catalog
from datasets_vg.fetch.sources import fetched, unpacked
from datasets_vg.fetch.space import check_space
from datasets_vg.prepare.base import MissingRawError, Picture, Raw, Request
from datasets_vg.prepare.record import (
    is_ours,
    keep_terms,
    parts_done,
    record,
    report_counts,
    terms_of,
)
from datasets_vg.prepare.trees import find_tree, lists_of_tree, pictures_of_tree
from datasets_vg.prepare.writing import Writer, Written
from datasets_vg.sources import Entry
from vgbench.data.layout import SPLITS
from vgbench.errors import UserError
from vgbench.files import write_text

logger = logging.getLogger(__name__)

_NAMED = 10


def _own_split(part: str) -> tuple[str, ...]:
    return (part,) if part in SPLITS else SPLITS


def _top(part: str) -> str:
    del part
    return ""


def _nothing(root: Path, raw: Raw, part: str) -> None:
    del root, raw, part


@dataclass(frozen=True)
class FromRaw:
    """A preparer that turns raw files into pictures, one part after the other.

    Attributes:
        arrange: the raw format, (raw files, name of the set, name of a part) -> pictures; raises MissingRawError where
            raw files miss. None: the set is published in the folder protocol.
        splits: which splits a part has in a tree of the folder protocol; none: it never comes as one.
        above: the name of the folder that a part's splits are in, where other trees may lie beside it; it becomes a
            dataset of its own inside the dataset.
        finish: called with the dataset's folder, the raw files and the part when that is in place.
        exclusive: its parts are versions of one another, and take the same place.
    """

    arrange: Callable[[Raw, str, str], Iterator[Picture]] | None = None
    splits: Callable[[str], tuple[str, ...]] = _own_split
    above: Callable[[str], str] = _top
    finish: Callable[[Path, Raw, str], None] = _nothing
    exclusive: bool = False
    own_options: tuple[str, ...] = ()

    def prepare(self, request: Request) -> Path:
        """Make the parts that are asked for and not there yet; returns the dataset's folder. Raises UserError."""
        entry = catalog.entry_of(request.name)
        parts = chosen_parts(request, entry)
        if _is_strange(request):
            return request.root
        done = parts_done(request.root)
        todo = [part for part in parts if part not in done]
        if self.exclusive and todo and len({*done, *todo}) > 1:
            raise UserError(
                f"{request.root}: {' and '.join({*done, *todo})} take the same place. Expected one of them; name "
                "another place with --datasets_folder"
            )
        if todo:
            logger.info("%s", terms_of(request.name, entry).rstrip())
        for part in todo:
            self._make(request, entry, part)
            _clean(request, part)
        if not todo:
            logger.info("%s: %s complete already, nothing to do", request.root, ", ".join(parts))
            return request.root
        keep_terms(request.root, request.name, entry)
        report_counts(request.root, entry)
        return request.root

    def _make(self, request: Request, entry: Entry, part: str) -> None:
        raw = self._raw(request, entry, part)
        pictures, tree = self._pictures(raw, request.name, part)
        if request.transfer == "copy":
            first, _ = self._pictures(raw, request.name, part)
            check_space(request.partial, _bytes_of(first, request.partial / "out"), f"{request.name} {part} --copy")
        out = request.partial / "out"
        writer = Writer(out, request.root, request.transfer, request.partial, request.jobs)
        written = writer.write(pictures, f"{request.name} {part}", _expected(entry, part))
        _refuse_gaps(request, entry, part, written)
        if tree is not None:
            for listing, target in lists_of_tree(tree, self.splits(part), self.above(part)):
                (out / target).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(listing, out / target)
        record(request.root, request.name)
        _merge(out, request.root)
        self.finish(request.root, raw, part)
        record(request.root, request.name, part)
        if request.transfer == "move":
            for source in set(written.encoded):
                Path(source).unlink(missing_ok=True)
        logger.info("%s: %s is in place", request.root, part)

    def _raw(self, request: Request, entry: Entry, part: str) -> Raw:
        """Return where the part's raw files are: with the user, or fetched; archives among them are unpacked."""
        wanted = entry.parts[part]
        files = request.partial / "raw" / part
        if request.raw is None:
            if not wanted.archives:
                raise _must_be_asked_for(request, entry, part)
            return Raw(fetched(wanted, files, _by_hand(request, entry, part)))
        raw = Raw(unpacked(request.raw, entry.archives, request.partial / "raw" / "unpacked"))
        try:
            self._pictures(raw, request.name, part)
        except MissingRawError as error:
            if not wanted.completes:
                raise _misses(request, entry, part, str(error)) from error
            logger.info("%s: %s is not in %s and is fetched", request.name, part, request.raw)
            return Raw(fetched(wanted, files, _by_hand(request, entry, part)))
        return raw

    def _pictures(self, raw: Raw, name: str, part: str) -> tuple[Iterator[Picture], Path | None]:
        """Return the pictures, and the tree that they come from where it is one; raises MissingRawError."""
        tree = find_tree(raw, name, self.splits(part), self.above(part))
        if tree is not None:
            return pictures_of_tree(tree, self.splits(part), self.above(part)), tree
        if self.arrange is None:
            raise MissingRawError(
                f"{raw}: no {', '.join(self.splits(part))} with images named as docs/datasets.md says"
            )
        pictures = self.arrange(raw, name, part)
        first = next(pictures, None)  # runs it up to where it has looked for its files
        if first is None:
            raise MissingRawError(f"{raw}: no images")
        return chain([first], pictures), None


def chosen_parts(request: Request, entry: Entry) -> tuple[str, ...]:
    """Return the parts that are asked for, those by default where none is; raises UserError for unknown ones."""
    for part in request.parts:
        if part not in entry.parts:
            raise UserError(f"--part {part}: {request.name} has no such part. Expected among: {', '.join(entry.parts)}")
    return request.parts or tuple(name for name, part in entry.parts.items() if part.default)


def _is_strange(request: Request) -> bool:
    """Whether the dataset's folder is there and was not made by this command: then it is left alone."""
    root = request.root
    if not root.is_dir() or not any(root.iterdir()) or is_ours(root):
        return False
    if request.raw is not None:
        raise UserError(
            f"{root}: exists, and was not made by this command. Expected no folder of that name; move it away, or name "
            "another place with --datasets_folder"
        )
    logger.info(
        "%s: is there already, not made by this command, and left as it is; to check it: python3 -m datasets_vg "
        "verify %s",
        root,
        request.name,
    )
    return True


def _expected(entry: Entry, part: str) -> int | None:
    """Return about how many images per part has, for the progress bar."""
    of_part = {folder: count for folder, count in entry.counts.items() if folder.partition("/")[0] == part}
    total = sum(count.images for count in (of_part or entry.counts).values())
    return total or None


def _bytes_of(pictures: Iterator[Picture], out: Path) -> int:
    """Return how many bytes the copies of raw files will have, 0 where files are encoded anew."""
    total = 0
    for picture in pictures:
        if picture.image is not None:
            break  # small files are made of large ones; and frames of a film would be decoded twice
        if not (out / picture.target).exists():
            with contextlib.suppress(OSError):  # what misses is told later, all of it
                total += Path(picture.source).stat().st_size
    return total


def _refuse_gaps(request: Request, entry: Entry, part: str, written: Written) -> None:
    if written.broken:
        listing = request.partial / f"{part}_unreadable.txt"
        write_text(listing, "\n".join(written.broken) + "\n")
        logger.warning(
            "%s: %d raw images cannot be read and are left out, listed in %s: %s",
            request.name, len(written.broken), listing, written.broken[0].replace("\t", ": "),
        )  # fmt: skip
    if not written.missing:
        return
    listing = request.partial / f"{part}_missing.txt"
    write_text(listing, "\n".join(written.missing) + "\n")
    named = ", ".join(written.missing[:_NAMED])
    more = f" and {len(written.missing) - _NAMED} more" if len(written.missing) > _NAMED else ""
    raise UserError(
        f"{request.name} {part}: {len(written.missing)} raw files are not there: {named}{more} (all in {listing}). "
        f"Expected {entry.parts[part].wanted}, from {entry.source}; then the same command goes on"
    )


def _misses(request: Request, entry: Entry, part: str, reason: str) -> UserError:
    wanted = entry.parts[part].wanted
    return UserError(
        f"{request.name} {part}: {reason}. Expected below --raw {request.raw}: {wanted or entry.layout}; or a tree in "
        f"the folder protocol. They come from {entry.source}"
    )


def _must_be_asked_for(request: Request, entry: Entry, part: str) -> UserError:
    wanted = [
        f"{name}: {entry.parts[name].wanted}" for name in request.parts or entry.parts if entry.parts[name].wanted
    ]
    alone = [name for name, one in entry.parts.items() if one.archives]
    free = f". Without asking: python3 -m datasets_vg prepare {request.name} --part {alone[0]}" if alone else ""
    return UserError(
        f"{request.name} {part}: is not fetched by this command. Ask {entry.source}. Expected in a folder of yours, "
        f"unpacked or not: {'; '.join(dict.fromkeys(wanted))}; then: python3 -m datasets_vg prepare {request.name} "
        f"--raw FOLDER{free}"
    )


def _by_hand(request: Request, entry: Entry, part: str) -> str:
    return (
        f"By hand: {entry.source}; put {entry.parts[part].wanted or 'its archive'} into a folder, then: python3 -m "
        f"datasets_vg prepare {request.name} --raw FOLDER"
    )


def _merge(out: Path, root: Path) -> None:
    """Move what was made to its place: whole folders where there is none of that name yet."""
    if not out.is_dir():
        return
    root.mkdir(parents=True, exist_ok=True)
    for path in sorted(out.iterdir()):
        target = root / path.name
        if path.is_dir() and not path.is_symlink() and target.is_dir():
            _merge(path, target)
        else:
            path.replace(target)
    out.rmdir()


def _clean(request: Request, part: str) -> None:
    """Remove what was fetched and unpacked for a part that is in place, but nothing that another part needs."""
    scratch = request.partial / "raw"
    if not request.keep_downloads:
        shutil.rmtree(scratch / part, ignore_errors=True)
    shutil.rmtree(scratch / part / "unpacked", ignore_errors=True)
    shutil.rmtree(scratch / "unpacked", ignore_errors=True)
    for folder in (scratch / part, scratch, request.partial):
        with contextlib.suppress(OSError):
            folder.rmdir()  # where nothing is left in it
